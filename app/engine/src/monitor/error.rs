//! Why a monitor cannot be started or reached.

use std::{io, path::PathBuf};

use rorqual_vmm_protocol::{Failure, FailureCode};
use thiserror::Error;

use crate::error::{Coded, one_line};

/// Name of the monitor's executable.
pub(super) const PROGRAM: &str = "rorqual-vmm";

/// Why the monitor cannot be started or reached.
#[derive(Debug, Error)]
pub enum VmmError {
    /// No executable was found.
    #[error("{PROGRAM} is neither beside this program, in {0}, nor in PATH")]
    Missing(PathBuf),
    /// It could not be run.
    #[error("cannot run {program}: {source}", program = program.display())]
    Spawn {
        /// The executable.
        program: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file of the machine cannot be written.
    #[error("cannot write {path}: {source}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It started and refused, in its own words.
    #[error("the machine cannot start: {}", .0.message)]
    Refused(Failure),
    /// It did not report that it is ready; the reason.
    #[error("the machine's monitor did not start: {0}")]
    Died(String),
    /// It runs but does not answer.
    #[error("the machine's monitor (process {process}) does not answer on {path}", path = path.display())]
    Silent {
        /// Its process ID; 0 when unknown.
        process: u32,
        /// Its control socket.
        path: PathBuf,
    },
    /// It answered a request with an error, or not as agreed.
    #[error("the machine's monitor refused to {command}: {}", reason.message)]
    Command {
        /// The request.
        command: &'static str,
        /// Its own reason.
        reason: Reason,
    },
}

/// Why the monitor did not carry out a request.
#[derive(Debug)]
pub struct Reason {
    message: String,
    fix: Option<String>,
}

impl Reason {
    /// A reason without advice.
    pub(crate) fn new(message: &str) -> Self {
        Self { message: one_line(message), fix: None }
    }
}

impl From<Failure> for Reason {
    fn from(failure: Failure) -> Self {
        Self { message: failure.message, fix: failure.fix }
    }
}

impl Coded for VmmError {
    fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "vmm-missing",
            Self::Refused(failure) => match failure.code {
                FailureCode::FileLocked => "disk-locked",
                FailureCode::NoMemory => "no-memory",
                FailureCode::AcceleratorUnusable => "accelerator-unusable",
                _ => "vmm-refused",
            },
            Self::Spawn { .. } | Self::Write { .. } | Self::Died(_) => "vmm-start-failed",
            Self::Silent { .. } | Self::Command { .. } => "vmm-unresponsive",
        }
    }

    fn fix(&self) -> Option<String> {
        const LOG: &str = "read more with `rorqual logs vmm`";
        let advice = match self {
            Self::Missing(_) => "install Rorqual again".to_owned(),
            Self::Spawn { program, .. } => {
                format!("check the permissions of {}, or install Rorqual again", program.display())
            }
            Self::Write { path, .. } => {
                format!("check the permissions of {} and the space on its disk", path.display())
            }
            Self::Refused(Failure { fix: Some(fix), .. })
            | Self::Command { reason: Reason { fix: Some(fix), .. }, .. } => fix.clone(),
            Self::Refused(failure) => match failure.code {
                FailureCode::AcceleratorUnusable => "run `rorqual doctor` to find out what is missing",
                FailureCode::FileLocked => "end the program that uses the disk, then start the machine again",
                FailureCode::FileMissing => "install Rorqual again",
                FailureCode::NoMemory => "close other programs, or give the machine less memory in machine.toml",
                FailureCode::SnapshotInvalid => "start it without its saved state: `rorqual start --cold`",
                FailureCode::SocketInUse => "end the running machine with `rorqual stop --force`",
                _ => LOG,
            }
            .to_owned(),
            Self::Died(_) | Self::Command { .. } => LOG.to_owned(),
            Self::Silent { .. } => "end the machine at once with `rorqual stop --force`".to_owned(),
        };
        Some(advice)
    }
}

#[cfg(test)]
crate::error::tests::samples!(VmmError {
    Missing => Self::Missing("/usr/bin".into()),
    Spawn => Self::Spawn { program: "/usr/bin/rorqual-vmm".into(), source: crate::error::tests::refusal() },
    Write => Self::Write { path: "/h/vmm.json".into(), source: crate::error::tests::refusal() },
    Refused => refused_sample(FailureCode::ConfigInvalid),
    Refused => refused_sample(FailureCode::FileMissing),
    Refused => refused_sample(FailureCode::FileLocked),
    Refused => refused_sample(FailureCode::SocketInUse),
    Refused => refused_sample(FailureCode::NoMemory),
    Refused => refused_sample(FailureCode::AcceleratorUnusable),
    Refused => refused_sample(FailureCode::SnapshotInvalid),
    Refused => refused_sample(FailureCode::NotPossible),
    Refused => refused_sample(FailureCode::Internal),
    Died => Self::Died("it ended without a line in its log".to_owned()),
    Silent => Self::Silent { process: 7, path: "/h/control.sock".into() },
    Command => Self::Command { command: "stop", reason: Reason::new("it is stopping") },
});

/// A monitor's failure without advice of its own.
#[cfg(test)]
fn refused_sample(code: FailureCode) -> VmmError {
    VmmError::Refused(Failure::new(code, "it does not fit"))
}
