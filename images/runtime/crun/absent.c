/* What crun's library refers to and this program leaves out. Each function fails, and crun's library reports that. */
#include <errno.h>
#include <pwd.h>
#include <stddef.h>

/* systemd, as a manager of control groups and as a journal: the machine has neither.  */
#define ABSENT(name) int name (void); int name (void) { return -ENOSYS; }
ABSENT (sd_bus_call)
ABSENT (sd_bus_default_system)
ABSENT (sd_bus_default_user)
ABSENT (sd_bus_error_free)
ABSENT (sd_bus_error_get_errno)
ABSENT (sd_bus_match_signal_async)
ABSENT (sd_bus_message_append)
ABSENT (sd_bus_message_append_array)
ABSENT (sd_bus_message_append_basic)
ABSENT (sd_bus_message_append_strv)
ABSENT (sd_bus_message_close_container)
ABSENT (sd_bus_message_new_method_call)
ABSENT (sd_bus_message_open_container)
ABSENT (sd_bus_message_read)
ABSENT (sd_bus_message_unref)
ABSENT (sd_bus_process)
ABSENT (sd_bus_unref)
ABSENT (sd_bus_wait)
ABSENT (sd_journal_send_with_location)
ABSENT (sd_notify)
ABSENT (sd_notify_barrier)

/* Plugins: the root image has none, and a static program could not load one. The linker warns of a function named
   dlopen, so it puts this one before it.  */
void *__wrap_dlopen (const char *path, int flags);

void *
__wrap_dlopen (const char *path, int flags)
{
  (void) path;
  (void) flags;
  return NULL;
}

void *
dlsym (void *library, const char *name)
{
  (void) library;
  (void) name;
  return NULL;
}

int
dlclose (void *library)
{
  (void) library;
  return -1;
}

char *
dlerror (void)
{
  return "this program is static";
}

/* The user database, which crun's library asks only where it is not root.  */
int
getpwuid_r (uid_t user, struct passwd *entry, char *buffer, size_t size, struct passwd **result)
{
  (void) user;
  (void) entry;
  (void) buffer;
  (void) size;
  *result = NULL;
  return ENOSYS;
}
