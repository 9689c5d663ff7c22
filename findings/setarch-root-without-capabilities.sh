#!/bin/bash
# setarch -R does nothing for root without capabilities: the next exec turns address randomisation on again.
#
# Software:    Linux 6.18.44; Debian 13's util-linux 2.41.5 (setarch) and libcap2-bin 2.75 (capsh)
# Expectation: a personality is inherited over exec. Only programs that gain rights (set-user-ID, file capabilities)
#              clear ADDR_NO_RANDOMIZE, and with no_new_privs no program gains any.
# Behaviour:   for user 0 every exec counts as one that would gain capabilities, if the process has dropped them and the
#              bounding set still holds them. The kernel clears the flag and then, for no_new_privs, grants nothing.
#              setarch ends with status 0, and so does the program. An ordinary user, and root with its capabilities,
#              keep the flag.
# Seen:        2026-11-30, /proc/self/personality of a program started by setarch -R under no_new_privs
#                root: 00040000
#                root without capabilities: 00000000
#                nobody: 00040000
# For Rorqual: a kernel of User Mode Linux that wants randomisation off never finds it off if root starts it confined.
#
# Needs root and mmdebstrap, Debian 12 or 13. About half a minute.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "needs root: that is what it is about" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT

mkdir "$work/root"
packages=base-files,bash,coreutils,util-linux=2.41.5-0+deb13u1,libcap2-bin=1:2.75-10+deb13u1+b3
mmdebstrap --quiet --variant=extract --format=tar --include="$packages" trixie "$work/root.tar"
tar -x -C "$work/root" --exclude='./dev/*' -f "$work/root.tar"
mkdir -p "$work/root/proc" "$work/root/dev"
cat > "$work/root/start" <<'SCRIPT'
set -euo pipefail
print='setarch -R cat /proc/self/personality'
echo "root: $(capsh --no-new-privs -- -c "$print")"
echo "root without capabilities: $(capsh --no-new-privs --caps= -- -c "$print")"
echo "nobody: $(setpriv --no-new-privs --reuid 65534 --clear-groups $print)"
SCRIPT
# shellcheck disable=SC2016 # the inner shell expands these
unshare --mount --pid --fork --kill-child bash -euc '
  mount --make-rprivate /
  mount --bind "$1" "$1"
  mount -t proc proc "$1/proc"
  PATH=/usr/sbin:/usr/bin exec chroot "$1" bash /start
' bash "$work/root" | tee "$work/seen"

expected='root: 00040000
root without capabilities: 00000000
nobody: 00040000'
[ "$(cat "$work/seen")" = "$expected" ] || { echo "changed on Linux $(uname -r): see above" >&2; exit 1; }
