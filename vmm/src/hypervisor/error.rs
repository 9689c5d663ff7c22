//! The failure of a hypervisor's call.

use std::io;

use rorqual_vmm_protocol::{Failure, FailureCode};
use thiserror::Error;

/// The hypervisor refused.
#[derive(Debug, Error)]
#[error("the hypervisor refused to {action}: {source}")]
pub struct HypervisorError {
    /// What was being done.
    pub action: &'static str,
    /// The system's answer.
    pub source: io::Error,
}

impl HypervisorError {
    /// For `map_err`: the system's answer to `action`.
    pub(super) fn of<E: Into<io::Error>>(action: &'static str) -> impl Fn(E) -> Self {
        move |error| Self { action, source: error.into() }
    }
}

impl From<HypervisorError> for Failure {
    fn from(error: HypervisorError) -> Self {
        Self::new(FailureCode::AcceleratorUnusable, error.to_string())
    }
}
