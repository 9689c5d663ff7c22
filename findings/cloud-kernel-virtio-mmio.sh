#!/bin/bash
# Debian's cloud kernel loads the virtio-mmio driver and ignores the devices on its command line.
#
# Software:    Debian 13's linux-image-6.12.118+deb13-cloud-amd64 and qemu-system-x86 10.0.13
# Expectation: QEMU's microvm without ACPI appends each device to the kernel's command line
#              (virtio_mmio.device=512@0xfeb00e00:12), and virtio_mmio.ko, loaded in the guest, finds the disk there.
# Behaviour:   the module loads, the parameter is dropped without a message, and no device appears: the kernel is built
#              with VIRTIO_MMIO and without VIRTIO_MMIO_CMDLINE_DEVICES. Its devices must be described in ACPI.
# Seen:        2026-11-30
#                # CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES is not set
#                CONFIG_VIRTIO_MMIO=m
#                devices on the command line: 1
#                module loaded, devices found: 0
# For Rorqual: its monitor describes virtio-mmio devices in ACPI tables, not on the command line.
#
# Needs root, mmdebstrap, gcc with a static C library, cpio and xz, Debian 12 or 13. Emulated, so no /dev/kvm; about a
# minute.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "needs root: it runs in a root of its own" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT

mkdir -p "$work/root" "$work/guest/sys"
packages=base-files,qemu-system-x86=1:10.0.13+ds-0+deb13u1,linux-image-6.12.118+deb13-cloud-amd64
mmdebstrap --quiet --variant=extract --format=tar --include="$packages" trixie "$work/root.tar"
tar -x -C "$work/root" --exclude='./dev/*' -f "$work/root.tar"
rm "$work/root.tar"

cat > "$work/init.c" <<'C'
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void) {
  int found = 0;
  mount("none", "/sys", "sysfs", 0, NULL);
  long refused = syscall(SYS_finit_module, open("/virtio_mmio.ko", O_RDONLY), "", 0);
  DIR *devices = opendir("/sys/bus/virtio/devices");
  for (struct dirent *entry; devices && (entry = readdir(devices));) found += entry->d_name[0] != '.';
  printf("module %s, devices found: %d\n", refused ? "refused" : "loaded", found);
  fflush(stdout);
  sleep(1);
  return reboot(RB_AUTOBOOT);
}
C
gcc -static -O1 "$work/init.c" -o "$work/guest/init"
xz -dc "$work"/root/usr/lib/modules/*/kernel/drivers/virtio/virtio_mmio.ko.xz > "$work/guest/virtio_mmio.ko"
(cd "$work/guest" && find . | cpio --quiet -o -H newc) > "$work/root/initrd"
cp "$work"/root/boot/vmlinuz-* "$work/root/kernel"
truncate -s 1M "$work/root/disk"
mkdir -p "$work/root/dev" "$work/root/tmp"

# shellcheck disable=SC2016 # the inner shell expands these
timeout -s KILL 240 unshare --mount --pid --net --fork --kill-child bash -euc '
  mount --make-rprivate /
  mount --bind "$1" "$1"
  mount --rbind /dev "$1/dev"
  PATH=/usr/sbin:/usr/bin exec chroot "$1" qemu-system-x86_64 -M microvm,acpi=off -accel tcg -cpu max -m 256 \
    -no-reboot -nodefaults -nographic -serial stdio -kernel /kernel -initrd /initrd \
    -append "console=ttyS0 reboot=t panic=-1" -global virtio-mmio.force-legacy=false \
    -drive id=disk,if=none,format=raw,file=/disk -device virtio-blk-device,drive=disk
' bash "$work/root" < /dev/null > "$work/console"

{
  grep -h VIRTIO_MMIO "$work"/root/boot/config-* | sort
  echo "devices on the command line: $(grep -c '\] Command line: .*virtio_mmio\.device=' "$work/console" || true)"
  sed -n 's/.*\(module .*, devices found: [0-9]*\).*/\1/p' "$work/console"
} | tee "$work/seen"
expected='# CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES is not set
CONFIG_VIRTIO_MMIO=m
devices on the command line: 1
module loaded, devices found: 0'
[ "$(cat "$work/seen")" = "$expected" ] || { echo "changed; console:" >&2; tail "$work/console" >&2; exit 1; }
