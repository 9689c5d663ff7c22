//! Why a monitor cannot be started or reached.

use std::{io, path::PathBuf};

use rorqual_vmm_protocol::{Failure, FailureCode};
use thiserror::Error;

use super::control::sentence;
use crate::error::Coded;

/// Name of the monitor's executable.
pub(super) const PROGRAM: &str = "rorqual-vmm";

/// Why the monitor cannot be started or reached.
#[derive(Debug, Error)]
pub enum VmmError {
    /// No executable was found.
    #[error("{PROGRAM} is neither beside this program ({0}) nor in PATH; install Rorqual again")]
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
    #[error("the machine cannot start: {}", sentence(.0))]
    Refused(Failure),
    /// It ended before it was ready.
    #[error("the machine's monitor ended while it started; {0}")]
    Died(String),
    /// It runs but does not answer.
    #[error(
        "the machine's monitor (process {process}) does not answer on {path}; end the machine at once with: \
         rorqual stop --force", path = path.display()
    )]
    Silent {
        /// Its process ID; 0 when unknown.
        process: u32,
        /// Its control socket.
        path: PathBuf,
    },
    /// It answered a request with an error, or not as agreed.
    #[error("the machine's monitor refused to {command}: {message}")]
    Command {
        /// The request.
        command: &'static str,
        /// Its answer.
        message: String,
    },
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
}
