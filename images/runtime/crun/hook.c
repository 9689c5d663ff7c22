/* The hook of each step of a build that joins the step's network: `libnetwork-setkey`, which is dockerd's own program
   started once more. It tells the running dockerd one thing over a socket. Starting that program takes 60 ms or more,
   so the runtime says it itself. Anything unexpected is left to the program.  */
#include "libcrun.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HOOK "libnetwork-setkey"
#define EXEC_ROOT "-exec-root="
#define LETTERS "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"

int __real_run_process_with_stdin_timeout_envp (char *path, char **args, const char *cwd, int timeout, char **env,
                                                char *input, size_t input_length, int out_fd, int err_fd,
                                                bool can_ignore_chdir_errors, libcrun_error_t *err);

static bool
is_plain (const char *text)
{
  return *text && text[strspn (text, LETTERS)] == '\0';
}

/* Connects to the socket where dockerd waits for its hooks.  */
static int
connect_to_dockerd (const char *exec_root, const char *controller)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int length = snprintf (address.sun_path, sizeof (address.sun_path), "%s/libnetwork/%s.sock", exec_root, controller);
  if (length < 0 || (size_t) length >= sizeof (address.sun_path))
    return -1;
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd >= 0 && connect (fd, (struct sockaddr *) &address, sizeof (address)) < 0)
    {
      close (fd);
      return -1;
    }
  return fd;
}

/* Has dockerd move the network of container ID into the namespace of process PID; false on failure.  */
static bool
set_key (const char *exec_root, const char *id, const char *controller, long pid, int *status, libcrun_error_t *err)
{
  static const char success[] = "success";
  char text[1024];
  int length = snprintf (text, sizeof (text),
                         "{\"ContainerID\":\"%s\",\"Key\":\"/proc/%ld/ns/net\",\"OTelTrace\":{}}\n", id, pid);
  int fd = connect_to_dockerd (exec_root, controller);
  if (fd < 0)
    return false;
  /* dockerd reads the whole from a buffer of 1,280 bytes, at once.  */
  bool told = length > 0 && (size_t) length < sizeof (text) && send (fd, text, (size_t) length, MSG_NOSIGNAL) == length;
  ssize_t size = told ? recv (fd, text, sizeof (text) - 1, 0) : 0;
  close (fd);
  if (size <= 0)
    return false;
  text[size] = '\0';
  *status = strcmp (text, success) ? libcrun_make_error (err, 0, HOOK ": %s", text) : 0;
  return true;
}

int
__wrap_run_process_with_stdin_timeout_envp (char *path, char **args, const char *cwd, int timeout, char **env,
                                            char *input, size_t input_length, int out_fd, int err_fd,
                                            bool can_ignore_chdir_errors, libcrun_error_t *err)
{
  static const char key[] = "\"pid\":";
  int status;
  if (args && args[0] && ! strcmp (args[0], HOOK) && args[1] && ! strncmp (args[1], EXEC_ROOT, sizeof (EXEC_ROOT) - 1)
      && args[2] && is_plain (args[2]) && args[3] && is_plain (args[3]) && ! args[4])
    {
      /* The library's own JSON about the container; nothing of a user's stands before the key.  */
      const char *at = strstr (input, key);
      long pid = at ? strtol (at + sizeof (key) - 1, NULL, 10) : 0;
      if (pid > 0 && set_key (args[1] + sizeof (EXEC_ROOT) - 1, args[2], args[3], pid, &status, err))
        return status;
    }
  return __real_run_process_with_stdin_timeout_envp (path, args, cwd, timeout, env, input, input_length, out_fd, err_fd,
                                                     can_ignore_chdir_errors, err);
}
