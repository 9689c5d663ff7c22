#!/bin/bash
# crun gives a container the filter of another container's seccomp profile if the two differ in errnoRet alone.
#
# Software:    Debian 13's docker.io 26.1.5, crun 1.21
# Expectation: a container's system calls fail with the error its own profile names.
# Behaviour:   crun keeps compiled filters under a digest of the profile, which leaves out each rule's errnoRet. The
#              second of two profiles that differ there finds the filter of the first. runc compiles each one.
# Seen:        2026-11-30, keyctl in profiles with errnoRet 1 (EPERM) and then 38 (ENOSYS)
#                runc: Operation not permitted, Function not implemented
#                crun: Operation not permitted, Operation not permitted
# For Rorqual: images/runtime/crun/digest.c covers the whole profile.
#
# Needs root and mmdebstrap, Debian 12 or 13, on x86_64. About a minute.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/engine.bash"

engine_install crun=1.21-1 perl-base
engine_run <<'SCRIPT'
for number in 1 38; do
  cat > "/run/profile-$number" <<JSON
{"defaultAction": "SCMP_ACT_ALLOW",
 "syscalls": [{"names": ["keyctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": $number}]}
JSON
done
answer() { # RUNTIME NUMBER
  docker run --rm --network none --runtime "$1" --security-opt "seccomp=/run/profile-$2" --volume /usr:/usr:ro links:1 \
    perl -e 'syscall(250) == -1 or die "it succeeded"; print "$!"'
}
for runtime in runc crun; do
  echo "$runtime: $(answer "$runtime" 1), $(answer "$runtime" 38)"
done > /run/seen
SCRIPT

cat "$work/run/seen"
expected='runc: Operation not permitted, Function not implemented
crun: Operation not permitted, Operation not permitted'
[ "$(cat "$work/run/seen")" = "$expected" ] || { echo "changed: the errors are others" >&2; exit 1; }
