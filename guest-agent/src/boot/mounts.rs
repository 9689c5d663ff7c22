//! The mounts of the guest, first in the initramfs, then in the root.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot};
use tracing::warn;

/// Where the root is mounted before it becomes `/`.
const NEW_ROOT: &str = "/sysroot";
/// Where the programs of the initramfs are once the root is mounted.
const PROGRAMS: &str = "/run/rorqual/bin";
/// Where the port proxy is once the root is mounted; dockerd's settings name this path.
pub(crate) const PORT_PROXY: &str = "/run/rorqual/bin/rorqual-port-proxy";
/// Where the initramfs has it.
const INITIAL_PORT_PROXY: &str = "/rorqual-port-proxy";

const PLAIN: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
const NO_DEVICES: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

/// Mounts `kind` at `target`. The error names the arguments.
fn attach(source: &str, target: &str, kind: &str, flags: MsFlags, options: &str) -> Result<()> {
    mount(Some(source), target, Some(kind), flags, Some(options))
        .with_context(|| format!("cannot mount {source} ({kind}) at {target}"))
}

/// Mounts what everything else needs: `/proc`, `/sys`, `/dev`.
pub(crate) fn kernel_file_systems() -> Result<()> {
    for folder in ["/proc", "/sys", "/dev"] {
        ensure_folder(folder)?;
    }
    attach("proc", "/proc", "proc", PLAIN, "")?;
    attach("sysfs", "/sys", "sysfs", PLAIN, "")?;
    attach("devtmpfs", "/dev", "devtmpfs", MsFlags::MS_NOSUID, "mode=0755")
}

/// Mounts the root image from `disk`, moves the mounts there and makes it `/`. The initramfs is emptied, since it
/// occupies the guest's memory.
pub(crate) fn enter_root(disk: &Path) -> Result<()> {
    ensure_folder(NEW_ROOT)?;
    let source = disk.display().to_string();
    attach(&source, NEW_ROOT, "erofs", MsFlags::MS_RDONLY | MsFlags::MS_NOATIME, "")
        .context("the root disk must hold the EROFS image of the guest, and the initramfs the modules to read it")?;
    let run = format!("{NEW_ROOT}/run");
    attach("tmpfs", &run, "tmpfs", NO_DEVICES, "mode=0755")?;
    let programs = format!("{NEW_ROOT}{PROGRAMS}");
    fs::create_dir_all(&programs).with_context(|| format!("cannot make {programs}"))?;
    // Without it, published ports fail and all else works, so its absence does not stop the boot.
    if let Err(error) = fs::copy(INITIAL_PORT_PROXY, format!("{NEW_ROOT}{PORT_PROXY}")) {
        warn!("cannot copy {INITIAL_PORT_PROXY} of the initramfs to {PORT_PROXY}: {error}");
    }
    for folder in ["/proc", "/sys", "/dev"] {
        let target = format!("{NEW_ROOT}{folder}");
        mount(Some(folder), target.as_str(), None::<&str>, MsFlags::MS_MOVE, None::<&str>)
            .with_context(|| format!("cannot move {folder} into the root image"))?;
    }
    for file in ["/init", INITIAL_PORT_PROXY, "/modules.boot"] {
        let _ = fs::remove_file(file);
    }
    let _ = fs::remove_dir_all("/modules");
    chdir(NEW_ROOT).with_context(|| format!("cannot enter {NEW_ROOT}"))?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .context("cannot make the root image the root")?;
    chroot(".").context("cannot change into the root image")?;
    chdir("/").context("cannot enter the root image")
}

/// Mounts everything a running system has besides its root: writable folders, devices, control groups.
pub(crate) fn system_file_systems(machine: &str) -> Result<()> {
    attach("tmpfs", "/var", "tmpfs", NO_DEVICES, "mode=0755")?;
    for folder in ["cache", "lib/containerd", "lib/docker", "lib/rorqual", "log", "spool", "tmp"] {
        ensure_folder(&format!("/var/{folder}"))?;
    }
    fs::set_permissions("/var/tmp", fs::Permissions::from_mode(0o1777)).context("cannot open up /var/tmp")?;
    link("/run", "/var/run")?;
    link("/run/lock", "/var/lock")?;
    ensure_folder("/run/lock")?;
    attach("tmpfs", "/tmp", "tmpfs", NO_DEVICES, "mode=1777")?;
    attach("tmpfs", "/root", "tmpfs", NO_DEVICES, "mode=0700")?;

    for (target, name) in [("/proc/self/fd", "fd"), ("fd/0", "stdin"), ("fd/1", "stdout"), ("fd/2", "stderr")] {
        link(target, &format!("/dev/{name}"))?;
    }
    for folder in ["/dev/pts", "/dev/shm", "/dev/mqueue"] {
        ensure_folder(folder)?;
    }
    attach("devpts", "/dev/pts", "devpts", MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, "gid=5,mode=0620,ptmxmode=0666")?;
    attach("tmpfs", "/dev/shm", "tmpfs", NO_DEVICES, "mode=1777")?;
    // Not every kernel has these, and containers get their own.
    for (kind, target) in [("mqueue", "/dev/mqueue"), ("securityfs", "/sys/kernel/security")] {
        if let Err(error) = attach(kind, target, kind, PLAIN, "") {
            tracing::debug!("{error:#}");
        }
    }
    attach("cgroup2", "/sys/fs/cgroup", "cgroup2", PLAIN, "nsdelegate")?;
    hand_down_controllers().context("cannot enable the controllers of control groups for containers")?;
    writable_settings(machine)
}

/// Enables every controller for the control groups below the root.
fn hand_down_controllers() -> io::Result<()> {
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")?;
    let enable: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
    fs::write("/sys/fs/cgroup/cgroup.subtree_control", enable.join(" "))
}

/// Mounts the few files of `/etc` that belong to the machine over the read-only ones. They are in `/run/rorqual/etc`.
/// Single mounts cost less than an overlay, whose module the boot would have to load first.
fn writable_settings(machine: &str) -> Result<()> {
    const FOLDER: &str = "/run/rorqual/etc";
    ensure_folder(FOLDER)?;
    let hosts = format!(
        "127.0.0.1 localhost {machine}\n::1 localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\n\
         ff02::2 ip6-allrouters\n"
    );
    for (name, content) in [("hosts", hosts.as_str()), ("hostname", &format!("{machine}\n")), ("resolv.conf", "")] {
        let source = format!("{FOLDER}/{name}");
        fs::write(&source, content).with_context(|| format!("cannot write {source}"))?;
        lay_over(&source, &format!("/etc/{name}"));
    }
    for name in ["docker", "containerd"] {
        let source = format!("{FOLDER}/{name}");
        ensure_folder(&source)?;
        lay_over(&source, &format!("/etc/{name}"));
    }
    Ok(())
}

/// Binds `source` over `target`. An image without `target` still works with less that is writable, so this is only
/// logged.
fn lay_over(source: &str, target: &str) {
    if let Err(errno) = mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>) {
        warn!("cannot mount {source} over {target}: {errno}; the guest image must have {target}");
    }
}

/// Makes a bind mount of a folder that must exist.
pub(crate) fn bind(source: &str, target: &str) -> Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("cannot bind {source} to {target}"))
}

fn ensure_folder(path: &str) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make the folder {path}"))
}

fn link(target: &str, path: &str) -> Result<()> {
    match symlink(target, path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot link {path} to {target}")),
    }
}
