//! Descriptors the monitor was started with.

use std::io;
use std::os::fd::RawFd;

use tracing::warn;

/// Closes every descriptor above standard error but `kept`, which will not outlive an exec: what whoever started the monitor left open by
/// mistake is not for a guest. Call this before the process opens anything.
pub fn close_inherited(kept: Option<RawFd>) {
    let closed = match kept.and_then(|kept| u32::try_from(kept).ok()) {
        Some(kept) if kept > 2 => {
            // SAFETY: changes a flag of a descriptor, if it is one.
            unsafe { libc::fcntl(kept.cast_signed(), libc::F_SETFD, libc::FD_CLOEXEC) };
            close(3, kept - 1).and_then(|()| close(kept + 1, u32::MAX))
        }
        _ => close(3, u32::MAX),
    };
    if let Err(error) = closed {
        // Linux has the call since 5.9.
        warn!("descriptors this process was started with stay open: {error}");
    }
}

fn close(first: u32, last: u32) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: as the function above demands, no descriptor in the range is owned by anything in this process.
    match unsafe { libc::close_range(first, last, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
