/* What rorqual-runtime uses of crun's library. Debian packages the library without its headers. The declarations hold
   for the version CRUN_VERSION, which images/build compares with the package's.  */
#ifndef LIBCRUN_H
#define LIBCRUN_H

#include <stdbool.h>
#include <stddef.h>

#define CRUN_VERSION "1.28"

/* An error: an errno, or 0, and a message that malloc made.  */
struct libcrun_error_s
{
  int status;
  char *msg;
};
typedef struct libcrun_error_s *libcrun_error_t;

typedef void (*crun_output_handler) (int, const char *, int, void *);

/* How a command runs.  */
struct libcrun_context_s
{
  const char *state_root;
  const char *id;
  const char *bundle;
  const char *console_socket;
  const char *pid_file;
  const char *notify_socket;
  const char *handler;
  int preserve_fds;
  int listen_fds;
  crun_output_handler output_handler;
  void *output_handler_arg;
  int fifo_exec_wait_fd;
  bool systemd_cgroup;
  bool detach;
  bool no_new_keyring;
  bool force_no_cgroup;
  bool no_pivot;
  char **argv;
  int argc;
  void *handler_manager;
};
typedef struct libcrun_context_s libcrun_context_t;

typedef struct libcrun_container_s libcrun_container_t;

/* libcrun_container_run leaves the container behind when it ends.  */
#define LIBCRUN_RUN_OPTIONS_KEEP 2

int libcrun_init_logging (crun_output_handler *handler, void **argument, const char *id, const char *log,
                          libcrun_error_t *err);
int libcrun_set_log_format (const char *format, libcrun_error_t *err);
void libcrun_fail_with_error (int status, const char *format, ...) __attribute__ ((noreturn, format (printf, 2, 3)));
int libcrun_make_error (libcrun_error_t *err, int status, const char *format, ...)
    __attribute__ ((format (printf, 3, 4)));

libcrun_container_t *libcrun_container_load_from_file (const char *path, libcrun_error_t *err);
int libcrun_container_create (libcrun_context_t *context, libcrun_container_t *container, unsigned int options,
                              libcrun_error_t *err);
int libcrun_container_run (libcrun_context_t *context, libcrun_container_t *container, unsigned int options,
                           libcrun_error_t *err);
int libcrun_container_start (libcrun_context_t *context, const char *id, libcrun_error_t *err);
int libcrun_container_exec_process_file (libcrun_context_t *context, const char *id, const char *path,
                                         libcrun_error_t *err);
int libcrun_container_kill (libcrun_context_t *context, const char *id, const char *signal, libcrun_error_t *err);
int libcrun_container_killall (libcrun_context_t *context, const char *id, const char *signal, libcrun_error_t *err);
int libcrun_container_delete (libcrun_context_t *context, void *definition, const char *id, bool force,
                              libcrun_error_t *err);

#endif
