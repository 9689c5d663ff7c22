//! Threads of the accelerator.

use std::thread::{self, JoinHandle};

use rorqual_vmm_protocol::Failure;

/// Starts a thread. Linux shows the first 15 characters of its name.
pub(super) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Failure> {
    let name: String = name.chars().take(15).collect();
    thread::Builder::new().name(name).spawn(body).map_err(|error| Failure::internal("start a thread", error))
}
