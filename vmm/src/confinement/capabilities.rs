//! Capabilities: a monitor started by root keeps none. Open files stay open; it cannot open other users' files any
//! more.

use std::io;

/// `_LINUX_CAPABILITY_VERSION_3`: two words of 32 capabilities each.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    process: libc::c_int,
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `SECBIT_NOROOT` and its lock (capabilities(7)).
const NO_ROOT: libc::c_ulong = 1 | 1 << 1;

/// Makes user 0 an ordinary user in this thread and everything it executes: an exec grants it no capabilities. Without
/// this, root's exec after [`drop_all`] counts as a gain of privileges, although it gets none, and the system clears
/// the personality. User Mode Linux turns address randomization off by its personality and executes itself until it
/// holds.
pub(super) fn disown_root() -> io::Result<()> {
    // SAFETY: the call sets bits of the thread's credentials and touches no memory.
    match unsafe { libc::prctl(libc::PR_SET_SECUREBITS, NO_ROOT, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Drops every capability of the calling thread, ambient ones included. Without new privileges an exec restores none.
pub(super) fn drop_all() -> io::Result<()> {
    let header = Header { version: VERSION, process: 0 };
    let sets = [Sets::default(); 2];
    // SAFETY: both structures have the layout of this version, live through the call and are only read.
    match unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
