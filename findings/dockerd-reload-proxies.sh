#!/bin/bash
# dockerd reloads daemon.json on SIGHUP, logs "Reloaded configuration", and keeps the proxies it started with.
#
# Software:    Debian 13's docker.io 26.1.5
# Expectation: proxies in daemon.json take effect with the reload, as other keys beside them do, or the log warns that
#              they need a restart.
# Behaviour:   the new labels are in effect. The proxy stays the first one, without a warning: the line
#              "Reloaded configuration" prints the old proxy, although the file it has just read names the new one.
#              The proxies go into the process's environment once, at the start.
# Seen:        2026-11-30
#                before: http://127.0.0.1:3128 []
#                after: http://127.0.0.1:3128 [reloaded=yes]
#                logged: "proxies":{"http-proxy":"http://127.0.0.1:3128"}
# For Rorqual: a changed proxy setting restarts the engine; a reload would leave pulls on the old proxy.
#
# Needs root and mmdebstrap, Debian 12 or 13. About a minute. Nothing connects to the proxies.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/engine.bash"

configuration() { # PORT LABELS
  cat <<JSON
{"hosts": ["unix:///run/docker.sock"], "containerd": "/run/containerd/containerd.sock", "iptables": false,
 "bridge": "none", "labels": [$2], "proxies": {"http-proxy": "http://127.0.0.1:$1"}}
JSON
}
engine_install busybox-static
configuration 3128 '' > "$work/run/daemon.json"
configuration 3129 '"reloaded=yes"' > "$work/run/changed.json"
engine_run <<'SCRIPT'
echo "before: $(docker info --format '{{.HTTPProxy}} {{.Labels}}')" > /run/seen
cp /run/changed.json /run/daemon.json
kill -HUP "$engine"
for _ in {1..100}; do busybox grep -q 'Reloaded configuration' /run/dockerd.log && break; sleep 0.1; done
sleep 1
echo "after: $(docker info --format '{{.HTTPProxy}} {{.Labels}}')" >> /run/seen
SCRIPT

sed -n '/Reloaded configuration/{s/\\//g;s/.*\("proxies":{[^}]*}\).*/logged: \1/p}' "$work/run/dockerd.log" \
  >> "$work/run/seen"
cat "$work/run/seen"
expected='before: http://127.0.0.1:3128 []
after: http://127.0.0.1:3128 [reloaded=yes]
logged: "proxies":{"http-proxy":"http://127.0.0.1:3128"}'
[ "$(cat "$work/run/seen")" = "$expected" ] || { echo "changed: see above" >&2; exit 1; }
