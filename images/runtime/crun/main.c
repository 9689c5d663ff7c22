/* rorqual-runtime: crun's library behind the command line that containerd and BuildKit use.

   It is one static program at a fixed address, because `docker run` starts a runtime four times, and the loader's work
   for crun's seven libraries costs more than the rest of a start. It does the commands that every container needs. All
   others, and options it does not know, go to crun itself; both keep their state in the same files.  */
#define _GNU_SOURCE
#include "digest.h"
#include "libcrun.h"
#include "said.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CRUN "/usr/bin/crun"
#define CONFIG "config.json"
#define MAX_OPERANDS 2

/* What a command line asks for.  */
struct request
{
  libcrun_context_t context;
  const char *log;
  const char *log_format;
  const char *process_file;
  bool keep;
  bool force;
  bool all;
  const char *operands[MAX_OPERANDS];
  int operand_count;
};

/* An option takes a value and stores it at the offset `value`, or sets the flag at the offset `flag`.  */
struct option
{
  const char *name;
  size_t value;
  size_t flag;
};

#define VALUE(name, field) { name, offsetof (struct request, field), 0 }
#define FLAG(name, field) { name, 0, offsetof (struct request, field) }
#define END { NULL, 0, 0 }

static const struct option global_options[]
    = { VALUE ("--root", context.state_root), VALUE ("--log", log), VALUE ("--log-format", log_format), END };

static const struct option create_options[]
    = { VALUE ("--bundle", context.bundle), VALUE ("--console-socket", context.console_socket),
        VALUE ("--pid-file", context.pid_file), FLAG ("--no-pivot", context.no_pivot),
        FLAG ("--no-new-keyring", context.no_new_keyring), END };

static const struct option run_options[]
    = { VALUE ("--bundle", context.bundle), VALUE ("--console-socket", context.console_socket),
        VALUE ("--pid-file", context.pid_file), FLAG ("--no-pivot", context.no_pivot),
        FLAG ("--no-new-keyring", context.no_new_keyring), FLAG ("--detach", context.detach),
        FLAG ("--keep", keep), END };

static const struct option exec_options[]
    = { VALUE ("--process", process_file), VALUE ("--console-socket", context.console_socket),
        VALUE ("--pid-file", context.pid_file), FLAG ("--detach", context.detach), END };

static const struct option delete_options[] = { FLAG ("--force", force), END };
static const struct option kill_options[] = { FLAG ("--all", all), END };
static const struct option no_options[] = { END };

static libcrun_container_t *
load (struct request *request, libcrun_error_t *err)
{
  /* The container's definition refers to files by their path in the bundle.  */
  if (chdir (request->context.bundle) < 0)
    libcrun_fail_with_error (errno, "chdir `%s`", request->context.bundle);
  digest_profile (CONFIG);
  return libcrun_container_load_from_file (CONFIG, err);
}

static int
create (struct request *request, libcrun_error_t *err)
{
  libcrun_container_t *container = load (request, err);
  return container ? libcrun_container_create (&request->context, container, 0, err) : -1;
}

static int
run (struct request *request, libcrun_error_t *err)
{
  libcrun_container_t *container = load (request, err);
  unsigned int options = request->keep ? LIBCRUN_RUN_OPTIONS_KEEP : 0;
  return container ? libcrun_container_run (&request->context, container, options, err) : -1;
}

static int
start (struct request *request, libcrun_error_t *err)
{
  return libcrun_container_start (&request->context, request->context.id, err);
}

static int
execute (struct request *request, libcrun_error_t *err)
{
  return libcrun_container_exec_process_file (&request->context, request->context.id, request->process_file, err);
}

static int
send_signal (struct request *request, libcrun_error_t *err)
{
  const char *number = request->operands[1];
  return request->all ? libcrun_container_killall (&request->context, request->context.id, number, err)
                      : libcrun_container_kill (&request->context, request->context.id, number, err);
}

static int
delete (struct request *request, libcrun_error_t *err)
{
  return libcrun_container_delete (&request->context, NULL, request->context.id, request->force, err);
}

/* A command, with the number of its operands and the offset of a value it cannot do without.  */
static const struct command
{
  const char *name;
  int (*run) (struct request *, libcrun_error_t *);
  const struct option *options;
  int operands;
  size_t required;
} commands[] = {
  { "create", create, create_options, 1, offsetof (struct request, context.bundle) },
  { "run", run, run_options, 1, offsetof (struct request, context.bundle) },
  { "start", start, no_options, 1, 0 },
  { "exec", execute, exec_options, 1, offsetof (struct request, process_file) },
  { "kill", send_signal, kill_options, 2, 0 },
  { "delete", delete, delete_options, 1, 0 },
  { NULL, NULL, NULL, 0, 0 },
};

static const char **
value_at (struct request *request, size_t offset)
{
  return (const char **) ((char *) request + offset);
}

/* Takes the option at *AT, and its value behind it or behind a `=`; false if it is none of OPTIONS.  */
static bool
take_option (struct request *request, const struct option *options, char ***at)
{
  const char *argument = **at;
  for (const struct option *option = options; option->name; option++)
    {
      size_t length = strlen (option->name);
      if (strncmp (argument, option->name, length))
        continue;
      if (argument[length] == '\0' && option->flag)
        *((bool *) request + option->flag) = true;
      else if (argument[length] == '=' && option->value)
        *value_at (request, option->value) = argument + length + 1;
      else if (argument[length] == '\0' && (*at)[1])
        *value_at (request, option->value) = *++*at;
      else
        continue;
      ++*at;
      return true;
    }
  return false;
}

/* Reads the command line; NULL if crun itself must run it.  */
static const struct command *
parse (struct request *request, char **at)
{
  while (*at && **at == '-')
    if (! take_option (request, global_options, &at))
      return NULL;
  const struct command *command = commands;
  while (command->name && *at && strcmp (command->name, *at))
    command++;
  if (! command->name || ! *at)
    return NULL;
  at++;
  while (*at)
    {
      if (**at != '-' && request->operand_count < command->operands)
        request->operands[request->operand_count++] = *at++;
      else if (! take_option (request, command->options, &at))
        return NULL;
    }
  bool complete = ! command->required || *value_at (request, command->required);
  return complete && request->operand_count == command->operands ? command : NULL;
}

int
main (int argc, char **argv)
{
  struct request request = { 0 };
  libcrun_error_t err = NULL;
  say (argc, argv);
  bool passes_more = getenv ("LISTEN_FDS") || getenv ("NOTIFY_SOCKET");
  const struct command *command = passes_more ? NULL : parse (&request, argv + 1);
  if (! command)
    {
      execve (CRUN, argv, environ);
      libcrun_fail_with_error (errno, "exec `" CRUN "`");
    }

  libcrun_context_t *context = &request.context;
  context->id = request.operands[0];
  context->fifo_exec_wait_fd = -1;
  context->argc = argc;
  context->argv = argv;
  int status = libcrun_init_logging (&context->output_handler, &context->output_handler_arg, context->id, request.log,
                                     &err);
  if (status >= 0 && request.log_format)
    status = libcrun_set_log_format (request.log_format, &err);
  if (status >= 0)
    status = command->run (&request, &err);
  if (status && err)
    libcrun_fail_with_error (err->status, "%s", err->msg);
  return status;
}
