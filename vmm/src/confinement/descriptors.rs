//! Descriptors that the monitor inherits from its parent.

use std::io;
use std::os::fd::RawFd;

use tracing::warn;

/// Closes every descriptor above standard error but `kept`, which becomes close-on-exec: a guest must not reach what
/// the parent left open by mistake. Call this before the process opens anything.
pub fn close_inherited(kept: Option<RawFd>) {
    let closed = match kept.and_then(|kept| u32::try_from(kept).ok()) {
        Some(kept) if kept > 2 => {
            // SAFETY: changes a flag of a descriptor, or fails if it is none.
            unsafe { libc::fcntl(kept.cast_signed(), libc::F_SETFD, libc::FD_CLOEXEC) };
            close(3, kept - 1).and_then(|()| close(kept + 1, u32::MAX))
        }
        _ => close(3, u32::MAX),
    };
    if let Err(error) = closed {
        // Linux before 5.9 lacks the call.
        warn!("inherited descriptors stay open: {error}");
    }
}

fn close(first: u32, last: u32) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: nothing in this process owns a descriptor in the range, as the function above demands.
    match unsafe { libc::close_range(first, last, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
