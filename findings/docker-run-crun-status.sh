#!/bin/bash
# A command that does not exist makes `docker run` exit 127 with runc and 125 with crun.
#
# Software:    Debian 13's docker.io 26.1.5, runc 1.1.15, crun 1.21
# Expectation: exit statuses of `docker run` as documented, whatever the runtime: 127 if the command is not found, 126
#              if it cannot be executed, 125 if the daemon itself failed.
# Behaviour:   dockerd has no status from the runtime, which never started the process. It searches the runtime's
#              message for runc's wording ("executable file not found in $PATH", "permission denied"). crun's messages
#              ("executable file `x` not found in $PATH", "is not a regular file") match nothing, so every case is 125.
# Seen:        2026-11-30
#                runc: not found 127, a directory 126, a file without execute permission 126
#                crun: not found 125, a directory 125, a file without execute permission 125
# For Rorqual: scripts test for 126 and 127, so images/runtime/crun/answers.c gives runc's words to crun.
#
# Needs root and mmdebstrap, Debian 12 or 13. About a minute.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/engine.bash"

engine_install crun=1.21-1
engine_run <<'SCRIPT'
status() { # RUNTIME COMMAND
  local status=0
  docker run --rm --network none --runtime "$1" empty:1 "$2" 2>> /run/messages || status=$?
  echo "$status"
}
for runtime in runc crun; do
  echo "$runtime: not found $(status "$runtime" no-such-command), a directory $(status "$runtime" /etc)," \
    "a file without execute permission $(status "$runtime" /etc/text)"
done > /run/seen
SCRIPT

cat "$work/run/seen"
expected='runc: not found 127, a directory 126, a file without execute permission 126
crun: not found 125, a directory 125, a file without execute permission 125'
[ "$(cat "$work/run/seen")" = "$expected" ] ||
  { echo "changed: other exit statuses; messages:" >&2; cat "$work/run/messages" >&2; exit 1; }
