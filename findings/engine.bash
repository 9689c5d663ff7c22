# Debian 13's Docker Engine in a throwaway root, mount, network and process namespace. For the findings that need an
# engine; they source this file. It expects $work, a temporary directory.
# shellcheck shell=bash

: "${work:?}"
[ "$(id -u)" = 0 ] || { echo "needs root: it starts dockerd in namespaces of its own" >&2; exit 2; }

# The newest Debian packages these findings were made with.
engine_packages=docker.io=26.1.5+dfsg1-9+deb13u1,docker-cli=26.1.5+dfsg1-9+deb13u1,containerd=1.7.24~ds1-6+deb13u1
engine_packages+=,runc=1.1.15+ds1-2+deb13u1,busybox-static,bash,coreutils

# engine_install PACKAGE=VERSION...: unpacks the engine and these packages into $work/root; nothing is configured.
engine_install() {
  mkdir -p "$work/root" "$work/run" "$work/docker" "$work/containerd"
  mmdebstrap --quiet --variant=extract --format=tar --include="$(IFS=,; echo "$engine_packages${*:+,$*}")" \
    trixie "$work/root.tar"
  tar -x -C "$work/root" --exclude='./dev/*' -f "$work/root.tar"
  rm "$work/root.tar"
  mkdir -p "$work/root/var/lib/docker" "$work/root/var/lib/containerd"
  cat > "$work/run/daemon.json" <<'JSON'
{"hosts": ["unix:///run/docker.sock"], "containerd": "/run/containerd/containerd.sock", "iptables": false,
 "bridge": "none", "runtimes": {"crun": {"path": "/usr/bin/crun"}}}
JSON
}

# engine_run: starts the engine, runs standard input as a bash script in its root, and ends everything. $work/run is
# the script's /run, $engine the process id of dockerd. An image "empty:1" has busybox as its only program.
# An image "links:1" has the root's own programs if /usr is mounted into the container.
engine_run() {
  cat > "$work/run/commands"
  cat > "$work/run/start" <<'SCRIPT'
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DOCKER_HOST=unix:///run/docker.sock
containerd > /run/containerd.log 2>&1 &
dockerd --config-file /run/daemon.json > /run/dockerd.log 2>&1 &
engine=$!
for _ in {1..300}; do docker version > /run/version 2>&1 && break; sleep 0.1; done
docker version > /run/version
mkdir -p /run/image/bin /run/image/etc
cp /usr/bin/busybox /run/image/bin/
echo text > /run/image/etc/text
busybox tar -C /run/image -c . | docker import - empty:1 > /run/imported
mkdir /run/links
for directory in bin lib lib64; do ln -s "usr/$directory" "/run/links/$directory"; done
busybox tar -C /run/links -c . | docker import - links:1 > /run/imported
. /run/commands
SCRIPT
  # shellcheck disable=SC2016 # the inner shell expands these
  timeout -s KILL 100 unshare --mount --net --pid --fork --kill-child bash -euo pipefail -c '
    work=$1 root=$1/root
    mount --make-rprivate /
    ip link set lo up
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    # crun refuses a host that has both versions of control groups with controllers in each.
    umount "$root/sys/fs/cgroup/unified" 2> /dev/null || true
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/tmp"
    mount --bind "$work/run" "$root/run"
    mount --bind "$work/docker" "$root/var/lib/docker"
    mount --bind "$work/containerd" "$root/var/lib/containerd"
    chroot "$root" bash /run/start
  ' bash "$work"
}
