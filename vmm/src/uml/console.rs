//! The kernel's standard output, which is the guest's console.

use std::io::{self, PipeReader};
use std::thread::JoinHandle;

use tracing::debug;

use crate::confinement::{self, Thread};
use crate::console::GuestConsole;
use crate::error::Failure;

/// Starts the thread that copies until the guest is gone.
pub(super) fn copy(mut from: PipeReader, to: &GuestConsole) -> Result<JoinHandle<()>, Failure> {
    let mut to = to.writer();
    super::spawn("console", move || {
        confinement::enter(Thread::Console);
        if let Err(error) = io::copy(&mut from, &mut to) {
            debug!("the guest's console has ended: {error}");
        }
    })
}
