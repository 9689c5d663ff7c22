//! Refusals of requests by the daemon, other than those of its machines.

use thiserror::Error;
use tonic::{Code, Status};

use crate::{
    error::{Coded, one_line},
    machine::guest,
};

/// Why a request cannot be performed.
#[derive(Debug, Error)]
pub(crate) enum RequestError {
    /// No machine has this name.
    #[error("there is no machine named {name}, only {known}")]
    MachineUnknown { name: String, known: String },
    /// No accelerator has this name.
    #[error("there is no accelerator named {0:?}")]
    AcceleratorUnknown(String),
    /// No log has this name.
    #[error("there is no log named {0:?}")]
    LogUnknown(String),
    /// A log cannot be read.
    #[error("cannot read {path}: {reason}")]
    LogUnreadable { path: String, reason: String },
    /// A shell was sent input before its start.
    #[error("the first message of a shell does not start it")]
    ShellNotStarted,
    /// The guest's agent refused; its own message.
    #[error("the guest refused this: {0}")]
    GuestRefused(String),
    /// The guest's agent failed or cannot be reached.
    #[error("the guest does not answer: {0}")]
    GuestLost(String),
}

impl RequestError {
    /// Converts the status of a failed call to the guest's agent.
    pub(super) fn of_guest(status: &Status) -> Self {
        match status.code() {
            Code::FailedPrecondition | Code::NotFound | Code::InvalidArgument => {
                Self::GuestRefused(one_line(status.message()))
            }
            _ => Self::GuestLost(one_line(&guest::explain(status))),
        }
    }
}

impl Coded for RequestError {
    fn code(&self) -> &'static str {
        match self {
            Self::MachineUnknown { .. } => "machine-unknown",
            Self::AcceleratorUnknown(_) => "accelerator-unknown",
            Self::LogUnknown(_) => "log-unknown",
            Self::LogUnreadable { .. } => "log-unreadable",
            Self::ShellNotStarted => "shell-not-started",
            Self::GuestRefused(_) => "guest-refused",
            Self::GuestLost(_) => "guest-unresponsive",
        }
    }

    fn fix(&self) -> Option<String> {
        let advice = match self {
            Self::MachineUnknown { .. } => "name one of these with --machine",
            Self::AcceleratorUnknown(_) => "use auto, kvm or uml",
            Self::LogUnknown(_) => "use kernel, agent, containerd, dockerd, vmm or daemon",
            Self::LogUnreadable { .. } => "check its permissions",
            Self::ShellNotStarted | Self::GuestRefused(_) => return None,
            Self::GuestLost(_) => "check the machine with `rorqual status`, then try again",
        };
        Some(advice.to_owned())
    }

    fn grpc_code(&self) -> Code {
        match self {
            Self::MachineUnknown { .. } | Self::LogUnreadable { .. } => Code::NotFound,
            Self::AcceleratorUnknown(_) | Self::LogUnknown(_) | Self::ShellNotStarted => Code::InvalidArgument,
            Self::GuestRefused(_) => Code::FailedPrecondition,
            Self::GuestLost(_) => Code::Unavailable,
        }
    }
}

#[cfg(test)]
crate::error::tests::samples!(RequestError {
    MachineUnknown => Self::MachineUnknown { name: "web".to_owned(), known: "default".to_owned() },
    AcceleratorUnknown => Self::AcceleratorUnknown("warp".to_owned()),
    LogUnknown => Self::LogUnknown("nobody".to_owned()),
    LogUnreadable => Self::LogUnreadable { path: "/h/run/daemon.log".to_owned(), reason: "no such file".to_owned() },
    ShellNotStarted => Self::ShellNotStarted,
    GuestRefused => Self::of_guest(&Status::failed_precondition("cannot start sh in the guest: no such file")),
    GuestLost => Self::of_guest(&Status::unavailable("the connection was closed")),
});
