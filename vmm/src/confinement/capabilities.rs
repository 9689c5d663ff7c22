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
