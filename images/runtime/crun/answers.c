/* The answers that scripts and programs expect of a runtime, which are runc's.

   The linker puts the functions named __wrap_x before those of crun's library named x (`--wrap`).  */
#include "libcrun.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *__real_strerror (int number);
int __real_execv (const char *path, char *const arguments[]);
int __real_find_executable (char **out, const char *path, const char *cwd, libcrun_error_t *err);

/* docker's client takes the exit statuses 126 and 127 from Go's words for errors, which begin in lower case.  */
char *
__wrap_strerror (int number)
{
  static char text[128];
  strncpy (text, __real_strerror (number), sizeof (text) - 1);
  text[0] = (char) tolower ((unsigned char) text[0]);
  return text;
}

/* Why a command cannot be executed, as runc says it. crun has other words, and EPERM where the file must not be
   executed.  */
int
__wrap_find_executable (char **out, const char *path, const char *cwd, libcrun_error_t *err)
{
  int status = __real_find_executable (out, path, cwd, err);
  if (status >= 0 || ! err || ! *err || ! path)
    return status;
  int number = (*err)->status == EPERM ? EACCES : (*err)->status;
  free ((*err)->msg);
  free (*err);
  /* Whatever was wrong with a file of the path's directories. The number is not 0, because `exec` takes that for
     success.  */
  if (! strchr (path, '/'))
    return libcrun_make_error (err, ENOENT, "exec: \"%s\": executable file not found in $PATH", path);
  return libcrun_make_error (err, number, "exec: \"%s\"", path);
}

/* The last step of a container's process. When it fails, the runtime has already said that the process runs, so all
   that is left are the process's output and status.  */
int
__wrap_execv (const char *path, char *const arguments[])
{
  __real_execv (path, arguments);
  dprintf (STDERR_FILENO, "exec %s: %s\n", path, __wrap_strerror (errno));
  _exit (255);
}
