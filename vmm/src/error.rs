//! Why a machine did not start, with the codes the daemon decides by.

use std::fmt::{self, Display};
use std::path::Path;

use serde::Serialize;

use crate::devices::block::DiskError;
use crate::devices::vsock::VsockError;
use crate::hypervisor::HypervisorError;
use crate::net::publications::PublishError;

/// The kind of a failure, for programs. The contract is in docs/architecture.md.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The configuration or a request is wrong.
    ConfigInvalid,
    /// A file the configuration names is not there.
    FileMissing,
    /// A writable disk is in use.
    FileLocked,
    /// Another monitor listens on a socket of this machine.
    SocketInUse,
    /// The host has no room for the guest's memory.
    NoMemory,
    /// The accelerator does not work on this host.
    AcceleratorUnusable,
    /// A saved state is damaged, of another format, or of a machine that is not this one any more.
    SnapshotInvalid,
    /// The request does not fit what the machine is doing, or its accelerator cannot do it.
    NotPossible,
    /// Anything else.
    Internal,
}

/// A failure with its code and a message that says what failed, on what, why, and what to do.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// The kind, for programs.
    pub code: ErrorCode,
    /// The sentence, for people.
    pub message: String,
}

impl Failure {
    /// A failure of the given kind.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The system refused `action` on `path`: missing when it is, else internal.
    pub fn of_file(action: &str, path: &Path, source: &std::io::Error) -> Self {
        let code = match source.kind() {
            std::io::ErrorKind::NotFound => ErrorCode::FileMissing,
            _ => ErrorCode::Internal,
        };
        Self::new(code, format!("cannot {action} {}: {source}", path.display()))
    }

    /// The system refused something of the monitor's own.
    pub fn internal(action: &str, source: impl Display) -> Self {
        Self::new(ErrorCode::Internal, format!("cannot {action}: {source}"))
    }
}

impl Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<HypervisorError> for Failure {
    fn from(error: HypervisorError) -> Self {
        Self::new(ErrorCode::AcceleratorUnusable, error.to_string())
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        let code = match error {
            PublishError::Target(_) => ErrorCode::ConfigInvalid,
            PublishError::Busy | PublishError::Still => ErrorCode::NotPossible,
        };
        Self::new(code, error.to_string())
    }
}

impl From<DiskError> for Failure {
    fn from(error: DiskError) -> Self {
        let code = match &error {
            DiskError::Missing { .. } => ErrorCode::FileMissing,
            DiskError::Locked { .. } => ErrorCode::FileLocked,
            DiskError::Unsuitable { .. } | DiskError::Shrunk { .. } => ErrorCode::ConfigInvalid,
            DiskError::Host { .. } => ErrorCode::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl From<VsockError> for Failure {
    fn from(error: VsockError) -> Self {
        let code = match &error {
            VsockError::ReservedCid(_) => ErrorCode::ConfigInvalid,
            VsockError::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
                ErrorCode::SocketInUse
            }
            VsockError::Listen { .. } => ErrorCode::Internal,
        };
        Self::new(code, error.to_string())
    }
}
