//! The kernel's standard output, which is the guest's console.

use std::io::{self, PipeReader};
use std::thread::JoinHandle;

use rorqual_vmm_protocol::Failure;
use tracing::debug;

use super::thread::spawn;
use crate::confinement::{self, Thread};
use crate::console::GuestConsole;

/// Starts the thread that copies it until the guest has ended.
pub(super) fn copy(mut from: PipeReader, to: &GuestConsole) -> Result<JoinHandle<()>, Failure> {
    let mut to = to.writer();
    spawn("console", move || {
        confinement::enter(Thread::Console);
        if let Err(error) = io::copy(&mut from, &mut to) {
            debug!("the guest's console has ended: {error}");
        }
    })
}
