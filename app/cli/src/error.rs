//! The command line's own errors; those of the engine come with code and advice.

use std::{io, path::PathBuf};

use rorqual_engine::error::Coded;
use thiserror::Error;

use crate::exit::Exit;

/// Why a command failed on this side of the daemon.
#[derive(Debug, Error)]
pub(crate) enum CommandError {
    #[error("{0}")]
    Usage(String),
    #[error("cannot start the event loop: {0}")]
    EventLoop(io::Error),
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    #[error("cannot make the manual page: {0}")]
    Manual(io::Error),
    #[error("cannot start the daemon, because the path of this executable is unknown: {0}")]
    DaemonProgram(io::Error),
    #[error("cannot find the pages, because the path of this executable is unknown: {0}")]
    PagesProgram(io::Error),
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    #[error("cannot read {path}: {source}")]
    DaemonLog { path: PathBuf, source: io::Error },
    #[error("--json needs a command to run: an interactive shell has no JSON form")]
    CommandMissing,
    #[error("the shell was ended by a signal")]
    ShellEnded,
    #[error("the connection to the machine ended before the command did")]
    ShellLost,
    #[error("cannot switch the terminal to raw mode: {0}")]
    Terminal(io::Error),
    #[error("the start was cancelled, and the machine is stopped")]
    StartCancelled,
    #[error("the start was cancelled, and the daemon is still stopping the machine")]
    StartCancelledStopping,
    #[error("the start was cancelled, and stopping the machine failed: {0}")]
    StartCancelledStopFailed(String),
    #[error("no longer waiting for the stop, which cannot be cancelled and continues in the daemon")]
    StopNotAwaited,
    #[error("the suspension was cancelled, and the machine keeps running")]
    SuspendCancelled,
    #[error("machine {0} has no Docker socket yet")]
    NoSocket(String),
    #[error("cannot change the browser's store in {database}: {source}")]
    BrowserStore { database: PathBuf, source: io::Error },
    #[error("cannot change {path}: {source}")]
    SystemStore { path: PathBuf, source: io::Error },
    #[error("cannot run {program}: {source}")]
    StoreProgram { program: &'static str, source: io::Error },
    #[error("{program} failed ({status}): {output}")]
    StoreProgramFailed { program: &'static str, status: String, output: String },
    #[error("this system does not keep its certificates in {directory}, the only place Rorqual knows")]
    StoreUnknown { directory: PathBuf, certificate: PathBuf },
    #[error("the pages are not beside {0}")]
    PagesMissing(PathBuf),
    #[error("cannot listen on port {port} of localhost: {source}")]
    Port { port: u16, source: io::Error },
    #[error("cannot set up the server of the pages: {0}")]
    Server(String),
}

impl CommandError {
    /// The exit status the command ends with.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::CommandMissing => Exit::Usage,
            Self::DaemonProgram(_) => Exit::NoDaemon,
            Self::NoSocket(_) => Exit::NotRunning,
            Self::ShellEnded
            | Self::StartCancelled
            | Self::StartCancelledStopping
            | Self::StartCancelledStopFailed(_)
            | Self::StopNotAwaited
            | Self::SuspendCancelled => Exit::Cancelled,
            Self::EventLoop(_)
            | Self::Signals(_)
            | Self::Manual(_)
            | Self::PagesProgram(_)
            | Self::Output(_)
            | Self::DaemonLog { .. }
            | Self::ShellLost
            | Self::Terminal(_)
            | Self::BrowserStore { .. }
            | Self::SystemStore { .. }
            | Self::StoreProgram { .. }
            | Self::StoreProgramFailed { .. }
            | Self::StoreUnknown { .. }
            | Self::PagesMissing(_)
            | Self::Port { .. }
            | Self::Server(_) => Exit::Failed,
        }
    }
}

impl Coded for CommandError {
    fn code(&self) -> &'static str {
        match self {
            Self::Usage(_) => "usage",
            Self::EventLoop(_) | Self::Signals(_) | Self::Manual(_) | Self::PagesProgram(_) | Self::Server(_) => {
                "internal"
            }
            Self::DaemonProgram(_) => "daemon-start-failed",
            Self::Output(_) => "output-closed",
            Self::DaemonLog { .. } => "log-unreadable",
            Self::CommandMissing => "command-missing",
            Self::ShellEnded
            | Self::StartCancelled
            | Self::StartCancelledStopping
            | Self::StartCancelledStopFailed(_)
            | Self::StopNotAwaited
            | Self::SuspendCancelled => "cancelled",
            Self::ShellLost => "shell-lost",
            Self::Terminal(_) => "terminal-unusable",
            Self::NoSocket(_) => "machine-not-running",
            Self::BrowserStore { .. }
            | Self::SystemStore { .. }
            | Self::StoreProgram { .. }
            | Self::StoreProgramFailed { .. } => "trust-failed",
            Self::StoreUnknown { .. } => "trust-store-unknown",
            Self::PagesMissing(_) => "pages-missing",
            Self::Port { .. } => "port-unavailable",
        }
    }

    fn fix(&self) -> Option<String> {
        let advice = match self {
            Self::Usage(_) | Self::Manual(_) => "run `rorqual help`",
            Self::EventLoop(_) | Self::Signals(_) | Self::Server(_) => "try again",
            Self::DaemonProgram(_) | Self::PagesProgram(_) => "run rorqual by its full path",
            Self::Output(_) => "check where the output goes",
            Self::DaemonLog { .. } => "check its permissions",
            Self::CommandMissing => "give one: `rorqual shell --json -- uname -r`",
            Self::ShellEnded | Self::StartCancelled | Self::SuspendCancelled => return None,
            Self::ShellLost | Self::StartCancelledStopping => "check the machine with `rorqual status`",
            Self::Terminal(_) => "run it on a terminal, or without one: `rorqual shell -- COMMAND </dev/null`",
            Self::StartCancelledStopFailed(_) => {
                "check the machine with `rorqual status`, or end it with `rorqual stop --force`"
            }
            Self::StopNotAwaited => {
                "check the machine with `rorqual status`, or end it at once with `rorqual stop --force`"
            }
            Self::NoSocket(machine) => return Some(format!("start it with `rorqual start --machine {machine}`")),
            Self::BrowserStore { .. } => "close the browser, then try again",
            Self::SystemStore { path, .. } => return Some(format!("check the permissions of {}", path.display())),
            Self::StoreProgram { program, .. } => return Some(format!("install {program}, then try again")),
            Self::StoreProgramFailed { program, .. } => {
                return Some(format!("run `sudo {program}` to read all of its output"));
            }
            Self::StoreUnknown { certificate, .. } => {
                return Some(format!("add {} to the system's store of trust by hand", certificate.display()));
            }
            Self::PagesMissing(_) => "build them with `make ui`, or install Rorqual again",
            Self::Port { .. } => "choose another with --port, or let the system choose with --port 0",
        };
        Some(advice.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use rorqual_engine::{
        error::{Failure, form},
        one_of_each,
    };

    use super::*;
    use crate::docker_context::ContextError;

    fn refusal() -> io::Error {
        ErrorKind::PermissionDenied.into()
    }

    #[test]
    fn message_and_advice_of_every_error_are_apart_and_well_formed() {
        let own = one_of_each!(CommandError {
            Usage => CommandError::Usage("unexpected argument '--x' found".to_owned()),
            EventLoop => CommandError::EventLoop(refusal()),
            Signals => CommandError::Signals(refusal()),
            Manual => CommandError::Manual(refusal()),
            DaemonProgram => CommandError::DaemonProgram(refusal()),
            PagesProgram => CommandError::PagesProgram(refusal()),
            Output => CommandError::Output(refusal()),
            DaemonLog => CommandError::DaemonLog { path: "/h/run/daemon.log".into(), source: refusal() },
            CommandMissing => CommandError::CommandMissing,
            ShellEnded => CommandError::ShellEnded,
            ShellLost => CommandError::ShellLost,
            Terminal => CommandError::Terminal(refusal()),
            StartCancelled => CommandError::StartCancelled,
            StartCancelledStopping => CommandError::StartCancelledStopping,
            StartCancelledStopFailed => CommandError::StartCancelledStopFailed("it does not answer".to_owned()),
            StopNotAwaited => CommandError::StopNotAwaited,
            SuspendCancelled => CommandError::SuspendCancelled,
            NoSocket => CommandError::NoSocket("web".to_owned()),
            BrowserStore => CommandError::BrowserStore { database: "/u/.pki/nssdb".into(), source: refusal() },
            SystemStore => CommandError::SystemStore { path: "/usr/local/share".into(), source: refusal() },
            StoreProgram => CommandError::StoreProgram { program: "update-ca-certificates", source: refusal() },
            StoreProgramFailed => CommandError::StoreProgramFailed {
                program: "update-ca-certificates",
                status: "exit status: 1".to_owned(),
                output: "no space".to_owned(),
            },
            StoreUnknown => CommandError::StoreUnknown { directory: "/usr/local".into(), certificate: "/c".into() },
            PagesMissing => CommandError::PagesMissing("/usr/bin/rorqual".into()),
            Port => CommandError::Port { port: 80, source: refusal() },
            Server => CommandError::Server("it has ended".to_owned()),
        });
        let of_docker = one_of_each!(ContextError {
            Nowhere => ContextError::Nowhere,
            Io => ContextError::Io { action: "write", path: "/u/.docker".into(), source: refusal() },
            Damaged => ContextError::Damaged { path: "/u/.docker/config.json".into(), reason: "no object".to_owned() },
            Foreign => ContextError::Foreign { name: "rorqual".to_owned(), path: "/u/.docker/meta.json".into() },
        });
        let failures =
            own.iter().map(|error| Failure::of(error)).chain(of_docker.iter().map(|error| Failure::of(error)));
        let faults: Vec<_> = failures.flat_map(|failure| form::faults(&failure)).collect();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
