#!/bin/bash
# glibc's malloc and free open files: in the ninth thread that allocates, and when a thread's heap shrinks.
#
# Software:    Debian 13's libc6 2.41, traced by strace 6.13; libc6 2.36 of Debian 12 does the same
# Expectation: after the program has started, malloc and free need mmap, munmap, mprotect and madvise, so a seccomp
#              filter for a thread that only computes allows these and no openat.
# Behaviour:   when the ninth arena is due, malloc counts the processors to limit the arenas and opens
#              /sys/devices/system/cpu/online. When the end of a thread's heap becomes free, free opens
#              /proc/sys/vm/overcommit_memory to decide how to give the memory back. Each is done once for a process,
#              so a test with few threads or small allocations passes and a long-lived process is the one to be killed.
# Seen:        2026-11-30
#                8 threads have allocated
#                opened /sys/devices/system/cpu/online
#                the 9th thread has allocated
#                one thread frees 6 MB
#                opened /proc/sys/vm/overcommit_memory
#                it has freed them
# For Rorqual: the monitor limits itself to one arena before it takes away openat from its threads.
#
# Needs root, mmdebstrap and gcc, Debian 12 or 13. About a minute.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "needs root: it runs in a root of its own" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT

cat > "$work/threads.c" <<'C'
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 9, BLOCKS = 64, BYTES = 100000 };
static pthread_barrier_t all;

static void say(const char *line) {
  if (write(1, line, strlen(line)) < 0) _exit(1);
}

/* Lives until all have allocated, so that each needs an arena of its own; the main thread has the first. */
static void *allocate(void *is_last) {
  void *volatile block = malloc(100);
  free(block);
  if (is_last) say("the 9th thread has allocated\n");
  pthread_barrier_wait(&all);
  return NULL;
}

static void *shrink(void *unused) {
  (void)unused;
  char *blocks[BLOCKS];
  for (int i = 0; i < BLOCKS; i++) {
    blocks[i] = malloc(BYTES);
    memset(blocks[i], 1, BYTES);
  }
  say("one thread frees 6 MB\n");
  for (int i = BLOCKS - 1; i >= 0; i--) free(blocks[i]);
  say("it has freed them\n");
  return NULL;
}

int main(void) {
  pthread_t threads[THREADS], last;
  pthread_barrier_init(&all, NULL, THREADS + 1);
  for (long i = 0; i < THREADS; i++) {
    if (i == THREADS - 1) say("8 threads have allocated\n");
    pthread_create(&threads[i], NULL, allocate, i == THREADS - 1 ? &last : NULL);
    usleep(200000);
  }
  pthread_barrier_wait(&all);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  pthread_create(&last, NULL, shrink, NULL);
  pthread_join(last, NULL);
}
C
gcc -O0 -pthread "$work/threads.c" -o "$work/threads"

mkdir "$work/root"
mmdebstrap --quiet --variant=extract --format=tar --include=base-files,libc6=2.41-12+deb13u5,strace=6.13+ds-1 \
  trixie "$work/root.tar"
tar -x -C "$work/root" --exclude='./dev/*' -f "$work/root.tar"
cp "$work/threads" "$work/root/threads"
mkdir -p "$work/root/proc" "$work/root/sys" "$work/root/dev"
# shellcheck disable=SC2016 # the inner shell expands these
unshare --mount --pid --fork --kill-child bash -euc '
  mount --make-rprivate /
  mount --bind "$1" "$1"
  mount -t proc proc "$1/proc"
  mount --rbind /sys "$1/sys"
  exec chroot "$1" strace --follow-forks --trace=openat,write --output=/trace /threads
' bash "$work/root" > "$work/output"

# In the order of the trace, without the loader's files.
sed -n -e '/\/etc\/ld\.so\|\/lib\//d' -e 's/.*openat([^"]*"\([^"]*\)".*/opened \1/p' \
  -e 's/.*write(1, "\([^"]*\)\\n".*/\1/p' "$work/root/trace" | tee "$work/seen"
expected='8 threads have allocated
opened /sys/devices/system/cpu/online
the 9th thread has allocated
one thread frees 6 MB
opened /proc/sys/vm/overcommit_memory
it has freed them'
[ "$(cat "$work/seen")" = "$expected" ] || { echo "changed: malloc and free open other files" >&2; exit 1; }
