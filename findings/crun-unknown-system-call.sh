#!/bin/bash
# With Docker's seccomp profile, a system call newer than the profile fails with ENOSYS under runc, EPERM under crun.
#
# Software:    Debian 13's docker.io 26.1.5, runc 1.1.15, crun 1.21
# Expectation: the profile decides what a call returns, whatever the runtime. Its default action is "errno 1", EPERM.
# Behaviour:   runc puts instructions of its own before the filter: a call with a number above all those the profile
#              names returns ENOSYS, as from an old kernel. crun loads the profile as it is, so the same call
#              returns EPERM. A C library that probes for a new call falls back on ENOSYS and gives up on EPERM.
# Seen:        2026-11-30, system call 1000, which no kernel has
#                runc: Function not implemented
#                crun: Operation not permitted
# For Rorqual: images can be newer than the engine, so images/runtime/crun/seccomp.c does as runc.
#
# Needs root and mmdebstrap, Debian 12 or 13, on x86_64. About a minute.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/engine.bash"

engine_install crun=1.21-1 perl-base
engine_run <<'SCRIPT'
for runtime in runc crun; do
  docker run --rm --network none --runtime "$runtime" --volume /usr:/usr:ro links:1 \
    perl -e 'syscall(1000) == -1 or die "it succeeded"; print "$ARGV[0]: $!\n"' "$runtime"
done > /run/seen
SCRIPT

cat "$work/run/seen"
expected='runc: Function not implemented
crun: Operation not permitted'
[ "$(cat "$work/run/seen")" = "$expected" ] || { echo "changed: the errors are others" >&2; exit 1; }
