//! Descriptors the runtime watches although it has no type for their kind.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Has the runtime watch a non-blocking descriptor.
pub(crate) fn watch(descriptor: impl Into<OwnedFd>) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd names the same open descriptor for as long as it lives, and the AsyncFd owns it.
    let watched = unsafe { AsyncFd::register(descriptor.into()) };
    Ok(watched?)
}
