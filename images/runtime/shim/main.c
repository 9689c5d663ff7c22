/* The two short starts of containerd's shim for each container, without the shim.

   containerd runs `containerd-shim-runc-v2 start`, which makes a socket, starts the shim that stays and prints where
   it listens. When that one has ended, containerd runs `delete`, which has nothing to do unless the shim was killed.
   A start of that program costs 1,100 page faults; this one does the same work in 40. Whatever it does not know is left
   to the program itself, whose arguments, environment and input it then finds as they were.  */
#define _GNU_SOURCE
#include "../sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SHIM "/usr/lib/rorqual/containerd-shim-runc-v2"
#define SOCKETS "/run/containerd/s"
#define MAX_TEXT 4096
#define MAX_PROCESSORS 4
/* The first descriptor after standard error, where the shim looks for its socket.  */
#define SOCKET_FD 3
/* A text with room for any path.  */
typedef char text_t[MAX_TEXT];

/* The command line.  */
struct request
{
  const char *namespace;
  const char *address;
  const char *id;
  const char *action;
};

static bool
format (text_t text, const char *pattern, ...)
{
  va_list arguments;
  va_start (arguments, pattern);
  int length = vsnprintf (text, MAX_TEXT, pattern, arguments);
  va_end (arguments);
  return length >= 0 && length < MAX_TEXT;
}

/* Reads what comes from FD into TEXT; -1 if it does not fit.  */
static ssize_t
read_all (int fd, text_t text)
{
  size_t length = 0;
  for (;;)
    {
      ssize_t size = read (fd, text + length, MAX_TEXT - 1 - length);
      if (size < 0 && errno == EINTR)
        continue;
      if (size < 0)
        return -1;
      length += (size_t) size;
      text[length] = '\0';
      if (size == 0)
        return (ssize_t) length;
      if (length == MAX_TEXT - 1)
        return -1;
    }
}

static ssize_t
read_file (const char *path, text_t text)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return -1;
  ssize_t length = read_all (fd, text);
  close (fd);
  return length;
}

/* Whether the container's definition could ask for a shim that several containers share.  */
static bool
may_be_grouped (void)
{
  static const char *labels[] = { "\"io.containerd.runc.v2.group\"", "\"io.kubernetes.cri.sandbox-id\"" };
  static char config[1 << 20];
  int fd = open ("config.json", O_RDONLY | O_CLOEXEC);
  size_t length = 0;
  ssize_t size = fd < 0 ? -1 : 1;
  while (size > 0 && length < sizeof (config))
    {
      size = read (fd, config + length, sizeof (config) - length);
      length += size > 0 ? (size_t) size : 0;
    }
  if (fd >= 0)
    close (fd);
  bool grouped = size != 0;
  for (size_t i = 0; i < sizeof (labels) / sizeof (*labels); i++)
    grouped |= memmem (config, length, labels[i], strlen (labels[i])) != NULL;
  return grouped;
}

/* Reads a varint of Protocol Buffers.  */
static bool
read_number (const unsigned char **at, const unsigned char *end, uint64_t *number)
{
  *number = 0;
  for (int shift = 0; shift < 64 && *at < end; shift += 7)
    {
      unsigned char byte = *(*at)++;
      *number |= (uint64_t) (byte & 0x7f) << shift;
      if (byte < 0x80)
        return true;
    }
  return false;
}

/* Finds field FIELD, a string or message, in a message; its length is 0 if it is absent. False for anything else than
   strings, messages and numbers.  */
static bool
find_field (const unsigned char *at, size_t size, uint64_t field, const unsigned char **found, size_t *length)
{
  const unsigned char *end = at + size;
  *length = 0;
  while (at < end)
    {
      uint64_t tag, number;
      if (! read_number (&at, end, &tag) || ! read_number (&at, end, &number))
        return false;
      if ((tag & 7) == 0)
        continue;
      if ((tag & 7) != 2 || number > (uint64_t) (end - at))
        return false;
      if (tag >> 3 == field)
        {
          *found = at;
          *length = (size_t) number;
        }
      at += number;
    }
  return true;
}

/* Whether the runtime's options, a google.protobuf.Any of containerd.runc.v1.Options, can be passed over: the shim that
   starts another looks only at the control group for it.  */
static bool
are_plain (const text_t options, size_t size)
{
  enum { ANY_VALUE = 2, SHIM_CGROUP = 3 };
  const unsigned char *value, *group;
  size_t value_size, group_size = 0;
  return find_field ((const unsigned char *) options, size, ANY_VALUE, &value, &value_size)
         && (value_size == 0 || find_field (value, value_size, SHIM_CGROUP, &group, &group_size)) && group_size == 0;
}

/* Gives the program that comes next the SIZE bytes of TEXT to read again.  */
static void
put_back (const text_t text, size_t size)
{
  int ends[2];
  if (pipe (ends) < 0)
    return;
  /* They fit the pipe's buffer.  */
  if (write (ends[1], text, size) == (ssize_t) size)
    dup2 (ends[0], STDIN_FILENO);
  close (ends[0]);
  close (ends[1]);
}

/* The path of the shim's socket, which the shim itself computes again to remove it.  */
static bool
socket_path (const struct request *request, text_t path)
{
  text_t name;
  struct sha256 digest;
  unsigned char bytes[SHA256_BYTES];
  if (! format (name, "%s/%s/%s", request->address, request->namespace, request->id))
    return false;
  sha256_init (&digest);
  sha256_update (&digest, name, strlen (name));
  sha256_finalize (&digest, bytes);
  int length = snprintf (path, MAX_TEXT, SOCKETS "/");
  for (size_t i = 0; i < sizeof (bytes); i++)
    length += snprintf (path + length, (size_t) (MAX_TEXT - length), "%02x", bytes[i]);
  return true;
}

/* A socket that listens at PATH, as descriptor SOCKET_FD.  */
static bool
listen_at (const char *path)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  if (strlen (path) >= sizeof (address.sun_path))
    return false;
  strcpy (address.sun_path, path);
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd != SOCKET_FD || bind (fd, (struct sockaddr *) &address, sizeof (address)) < 0)
    {
      close (fd);
      return false;
    }
  if (chmod (path, 0600) == 0 && listen (fd, SOMAXCONN) == 0)
    return true;
  unlink (path);
  close (fd);
  return false;
}

/* The environment with GOMAXPROCS and the shim's name for traces, as the shim sets them for the one that stays. It
   would set GOMAXPROCS to 4, whose threads would only get in each other's way on fewer processors.  */
static char **
environment (const struct request *request)
{
  static text_t processors, service;
  size_t count = 0;
  while (environ[count])
    count++;
  char **copy = calloc (count + 3, sizeof (*copy));
  int online = get_nprocs ();
  if (! copy || ! format (processors, "GOMAXPROCS=%d", online < MAX_PROCESSORS ? online : MAX_PROCESSORS)
      || ! format (service, "OTEL_SERVICE_NAME=containerd-shim-%s", request->id))
    return NULL;
  size_t kept = 0;
  for (size_t i = 0; i < count; i++)
    if (strncmp (environ[i], "GOMAXPROCS=", 11) && strncmp (environ[i], "OTEL_SERVICE_NAME=", 18))
      copy[kept++] = environ[i];
  copy[kept++] = processors;
  copy[kept] = service;
  return copy;
}

/* Starts the shim that stays, in a process group of its own.  */
static bool
spawn (const struct request *request, char *name, pid_t *pid)
{
  char *arguments[] = { name, "-namespace", (char *) request->namespace, "-id", (char *) request->id, "-address",
                        (char *) request->address, NULL };
  char **variables = environment (request);
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  return variables && ! posix_spawn_file_actions_init (&files) && ! posix_spawnattr_init (&attributes)
         && ! posix_spawn_file_actions_addopen (&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
         && ! posix_spawn_file_actions_addopen (&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0)
         && ! posix_spawn_file_actions_adddup2 (&files, STDOUT_FILENO, STDERR_FILENO)
         /* Onto itself, which has it stay open in the new program.  */
         && ! posix_spawn_file_actions_adddup2 (&files, SOCKET_FD, SOCKET_FD)
         && ! posix_spawnattr_setflags (&attributes, POSIX_SPAWN_SETPGROUP)
         && ! posix_spawn (pid, SHIM, &files, &attributes, arguments, variables);
}

/* The shim is killed for want of memory before containerd, whose child this program is.  */
static bool
adjust_oom_score (pid_t pid)
{
  text_t path, score;
  if (! format (path, "/proc/%d/oom_score_adj", (int) getppid ()) || read_file (path, score) <= 0)
    return false;
  int value = atoi (score) + 1;
  if (! format (path, "/proc/%d/oom_score_adj", (int) pid)
      || ! format (score, "%d", value > 1000 ? 1000 : value))
    return false;
  int fd = open (path, O_WRONLY | O_CLOEXEC);
  bool written = fd >= 0 && write (fd, score, strlen (score)) > 0;
  close (fd);
  return written;
}

/* Returns if the shim itself has to do it.  */
static void
start (const struct request *request, char *name)
{
  text_t options, path, answer;
  pid_t pid;
  if (getenv ("SCHED_CORE") || may_be_grouped () || ! socket_path (request, path))
    return;
  ssize_t size = read_all (STDIN_FILENO, options);
  if (size < 0)
    {
      fprintf (stderr, "the runtime's options cannot be read\n");
      exit (EXIT_FAILURE);
    }
  put_back (options, (size_t) size);
  if (! are_plain (options, (size_t) size) || ! listen_at (path))
    return;
  if (! spawn (request, name, &pid))
    {
      unlink (path);
      close (SOCKET_FD);
      return;
    }
  if (! adjust_oom_score (pid)
      || ! format (answer, "{\"version\":3,\"address\":\"unix://%s\",\"protocol\":\"ttrpc\"}", path)
      || write (STDOUT_FILENO, answer, strlen (answer)) < 0)
    {
      kill (pid, SIGKILL);
      unlink (path);
      fprintf (stderr, "the shim cannot be set up: %s\n", strerror (errno));
      exit (EXIT_FAILURE);
    }
  exit (EXIT_SUCCESS);
}

static size_t
write_number (unsigned char *to, uint64_t number)
{
  size_t length = 0;
  for (; number >= 0x80; number >>= 7)
    to[length++] = (unsigned char) (number | 0x80);
  to[length++] = (unsigned char) number;
  return length;
}

/* Whether nothing is left of a container: neither the runtime's state nor a mounted root.  */
static bool
is_gone (const struct request *request)
{
  static const char key[] = "\"root\":\"";
  text_t options, state;
  struct stat bundle, root;
  if (read_file ("options.json", options) < 0)
    return false;
  char *begin = strstr (options, key), *end = begin ? strchr (begin + sizeof (key) - 1, '"') : NULL;
  if (! end)
    return false;
  *end = '\0';
  return format (state, "%s/%s/%s", begin + sizeof (key) - 1, request->namespace, request->id)
         && access (state, F_OK) < 0 && errno == ENOENT && stat (".", &bundle) == 0
         && (stat ("rootfs", &root) == 0 ? root.st_dev == bundle.st_dev : errno == ENOENT);
}

/* Returns if the shim itself has to do it.  */
static void
delete (const struct request *request)
{
  enum { PID = 1 << 3, EXIT_STATUS = 2 << 3, EXITED_AT = 3 << 3 | 2, SECONDS = 1 << 3, NANOSECONDS = 2 << 3 };
  /* What the shim says of a container whose end it did not see: killed.  */
  enum { KILLED = 128 + 9 };
  unsigned char answer[64], exited_at[32];
  size_t length = 0, inner = 0;
  text_t pid;
  struct timespec now;
  if (! is_gone (request))
    return;
  clock_gettime (CLOCK_REALTIME, &now);
  exited_at[inner++] = SECONDS;
  inner += write_number (exited_at + inner, (uint64_t) now.tv_sec);
  exited_at[inner++] = NANOSECONDS;
  inner += write_number (exited_at + inner, (uint64_t) now.tv_nsec);
  if (read_file ("init.pid", pid) > 0 && atoi (pid) > 0)
    {
      answer[length++] = PID;
      length += write_number (answer + length, (uint64_t) atoi (pid));
    }
  answer[length++] = EXIT_STATUS;
  length += write_number (answer + length, KILLED);
  answer[length++] = EXITED_AT;
  length += write_number (answer + length, inner);
  memcpy (answer + length, exited_at, inner);
  length += inner;
  exit (write (STDOUT_FILENO, answer, length) == (ssize_t) length ? EXIT_SUCCESS : EXIT_FAILURE);
}

/* Reads the command line; false if something in it is not known here.  */
static bool
parse (struct request *request, char **at)
{
  const char *ignored;
  const struct { const char *name; const char **value; } options[]
      = { { "-namespace", &request->namespace }, { "-address", &request->address }, { "-id", &request->id },
          { "-publish-binary", &ignored }, { "-bundle", &ignored } };
  const size_t count = sizeof (options) / sizeof (*options);
  while (at[0] && at[1])
    {
      size_t i = 0;
      while (i < count && strcmp (at[0], options[i].name))
        i++;
      if (i == count)
        return false;
      *options[i].value = at[1];
      at += 2;
    }
  request->action = at[0];
  return request->namespace && request->address && request->id && request->action;
}

int
main (int argc, char **argv)
{
  struct request request = { 0 };
  (void) argc;
  if (parse (&request, argv + 1))
    {
      if (! strcmp (request.action, "start"))
        start (&request, argv[0]);
      else if (! strcmp (request.action, "delete"))
        delete (&request);
    }
  execv (SHIM, argv);
  fprintf (stderr, "cannot execute " SHIM ": %s\n", strerror (errno));
  return EXIT_FAILURE;
}
