/* A system call newer than all that a seccomp profile names answers ENOSYS, as from a kernel that does not have it.
   C libraries try a new call, and use an older one after ENOSYS, but not after EPERM, the profile's default. runc does
   the same, with instructions before those of libseccomp.  */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

#define MAX_ARCHITECTURES 16
#define MAX_INSTRUCTIONS 8
#define X32_BIT 0x40000000u
#define ENOSYS_ANSWER (SECCOMP_RET_ERRNO | ENOSYS)

scmp_filter_ctx __real_seccomp_init (uint32_t action);
int __real_seccomp_arch_add (scmp_filter_ctx filter, uint32_t architecture);
int __real_seccomp_syscall_resolve_name (const char *name);
int __real_seccomp_export_bpf (const scmp_filter_ctx filter, int fd);

/* The profile's architectures, each with the highest number that the profile names; 0 if it names none.  */
static struct
{
  uint32_t token;
  uint32_t last;
} architectures[MAX_ARCHITECTURES];
static size_t count;
static uint32_t default_action;

static void
add (uint32_t token)
{
  for (size_t i = 0; i < count; i++)
    if (architectures[i].token == token)
      return;
  if (count < MAX_ARCHITECTURES)
    architectures[count++].token = token;
}

scmp_filter_ctx
__wrap_seccomp_init (uint32_t action)
{
  default_action = action;
  count = 0;
  /* libseccomp has this one in every filter.  */
  add (seccomp_arch_native ());
  return __real_seccomp_init (action);
}

int
__wrap_seccomp_arch_add (scmp_filter_ctx filter, uint32_t token)
{
  add (token);
  return __real_seccomp_arch_add (filter, token);
}

/* crun resolves each name of the profile.  */
int
__wrap_seccomp_syscall_resolve_name (const char *name)
{
  for (size_t i = 0; i < count; i++)
    {
      int number = seccomp_syscall_resolve_name_arch (architectures[i].token, name);
      /* libseccomp has negative numbers for calls that an architecture lacks.  */
      if (number > 0 && (uint32_t) number > architectures[i].last)
        architectures[i].last = (uint32_t) number;
    }
  return __real_seccomp_syscall_resolve_name (name);
}

/* Instructions that answer ENOSYS to the calls of one architecture above LAST and leave all others to what follows.  */
static size_t
newer_calls (struct sock_filter *to, uint32_t token, uint32_t last)
{
  bool x32 = token == SCMP_ARCH_X32, shared = x32 || token == SCMP_ARCH_X86_64;
  size_t at = 0;
  to[at++] = (struct sock_filter) BPF_STMT (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, arch));
  to[at++] = (struct sock_filter) BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, x32 ? AUDIT_ARCH_X86_64 : token, 0, shared + 3);
  to[at++] = (struct sock_filter) BPF_STMT (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, nr));
  /* x32 has the architecture of x86-64 and a bit in its numbers.  */
  if (shared)
    to[at++] = (struct sock_filter) BPF_JUMP (BPF_JMP | BPF_JSET | BPF_K, X32_BIT, x32 ? 0 : 2, x32 ? 2 : 0);
  to[at++] = (struct sock_filter) BPF_JUMP (BPF_JMP | BPF_JGT | BPF_K, x32 ? last | X32_BIT : last, 0, 1);
  to[at++] = (struct sock_filter) BPF_STMT (BPF_RET | BPF_K, ENOSYS_ANSWER);
  return at;
}

int
__wrap_seccomp_export_bpf (const scmp_filter_ctx filter, int fd)
{
  if (default_action == SCMP_ACT_ALLOW || default_action == SCMP_ACT_LOG)
    return __real_seccomp_export_bpf (filter, fd);
  for (size_t i = 0; i < count; i++)
    {
      struct sock_filter instructions[MAX_INSTRUCTIONS];
      if (architectures[i].last == 0)
        continue;
      size_t size = newer_calls (instructions, architectures[i].token, architectures[i].last) * sizeof (*instructions);
      ssize_t written = write (fd, instructions, size);
      if (written != (ssize_t) size)
        return written < 0 ? -errno : -EIO;
    }
  return __real_seccomp_export_bpf (filter, fd);
}
