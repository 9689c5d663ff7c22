//! Settings of the kernel that containers expect: sysctls, limits, hostname, loopback.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::sethostname;
use tracing::debug;

/// Descriptors the agent, the engine and containers may each open: enough for a thousand published ports with streams.
const OPEN_FILES: u64 = 1_048_576;

/// Settings below `/proc/sys`. Those a kernel does not have are skipped.
const SYSCTLS: &[(&str, &str)] = &[
    // Otherwise dockerd sets it and the FORWARD policy itself, with a process for each.
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv6/conf/default/forwarding", "1"),
    // dockerd binds published ports in the machine, those at an address of the host too.
    ("net/ipv4/ip_nonlocal_bind", "1"),
    ("net/ipv6/ip_nonlocal_bind", "1"),
    ("net/core/somaxconn", "4096"),
    ("net/ipv4/neigh/default/gc_thresh3", "8192"),
    // Databases and file watchers in containers fail at the kernel's defaults.
    ("fs/inotify/max_user_instances", "8192"),
    ("fs/inotify/max_user_watches", "1048576"),
    ("fs/aio-max-nr", "1048576"),
    ("vm/max_map_count", "1048576"),
    ("vm/overcommit_memory", "1"),
    ("kernel/keys/maxkeys", "20000"),
    ("kernel/keys/maxbytes", "2000000"),
    ("kernel/pid_max", "4194304"),
];

/// Applies the sysctls and the limit on open files.
pub(crate) fn apply() {
    for (name, value) in SYSCTLS {
        if let Err(error) = fs::write(Path::new("/proc/sys").join(name), value) {
            debug!("cannot set the sysctl {name}: {error}");
        }
    }
    if let Err(errno) = setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES) {
        debug!("cannot raise the limit on open files: {errno}");
    }
}

/// Names the machine and brings its loopback device up.
pub(crate) fn name_and_loopback(machine: &str) -> Result<()> {
    sethostname(machine).with_context(|| format!("cannot set the hostname {machine}"))?;
    loopback_up().context("cannot bring the loopback device up")
}

fn loopback_up() -> std::io::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: ifreq is plain data of integers and arrays, for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *slot = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the descriptor is open, and SIOCSIFFLAGS reads an ifreq, which `request` is for the length of the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
