//! What a command says when it fails: a stable code for programs, a sentence for people, what to do, an exit status.

use std::fmt;

use rorqual_engine::{
    client::ClientError,
    error::{Coded, code_of},
};
use serde_json::{Value, json};

/// The exit statuses, as `--help` and the manual page tell them.
pub(crate) const EXIT_STATUS_HELP: &str = "Exit status:
  0    done
  1    failed; for doctor: a problem was found
  2    the command line is wrong
  3    the machine is not running
  4    the daemon cannot be reached or started
  5    a configuration file is wrong: config.toml, machine.toml, or docker's config.json
  130  cancelled by Ctrl-C
  `rorqual shell` exits with the status of the command it ran, and 125 when it could not run it.";

/// How a command ended, as its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Failed,
    Usage,
    NotRunning,
    NoDaemon,
    BadConfiguration,
    Cancelled,
    /// `rorqual shell`: there is no status of a command to pass on.
    NoCommandStatus,
}

impl Exit {
    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotRunning => 3,
            Self::NoDaemon => 4,
            Self::BadConfiguration => 5,
            Self::NoCommandStatus => 125,
            Self::Cancelled => 130,
        }
    }

    /// The exit status that goes with a stable code of the engine.
    fn of_code(code: &str) -> Self {
        match code {
            "machine-not-running" => Self::NotRunning,
            "machine-name-invalid" => Self::Usage,
            "daemon-not-running" | "daemon-unreachable" | "daemon-start-failed" => Self::NoDaemon,
            _ if code.starts_with("config-") => Self::BadConfiguration,
            _ => Self::Failed,
        }
    }
}

/// A command that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) message: String,
    /// What to do next; empty when the message says it.
    pub(crate) fix: String,
    pub(crate) exit: Exit,
}

impl Failure {
    pub(crate) fn new(exit: Exit, code: &str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), fix: fix.into(), exit }
    }

    /// Ends with a status and says nothing more: what there is to say has been printed.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self::new(exit, "", "", "")
    }

    /// An error of the engine library, which has a stable code of its own.
    pub(crate) fn coded(error: &dyn Coded) -> Self {
        Self::new(Exit::of_code(error.code()), error.code(), error.to_string(), "")
    }

    /// The same failure for `rorqual shell`, whose small exit statuses belong to the command it runs.
    #[must_use]
    pub(crate) fn without_command_status(self) -> Self {
        Self { exit: Exit::NoCommandStatus, ..self }
    }

    pub(crate) fn json(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if !self.fix.is_empty() {
            error["fix"] = json!(self.fix);
        }
        json!({ "error": error })
    }

    /// Says it on standard error.
    pub(crate) fn report(&self, json: bool) {
        if self.message.is_empty() {
            return;
        }
        if json {
            eprintln!("{}", self.json());
        } else {
            eprintln!("rorqual: {self}");
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The engine's messages are one sentence whose last part says what to do.
        let (message, fix) = match (self.fix.as_str(), self.message.rsplit_once("; ")) {
            ("", Some((message, fix))) => (message, fix),
            (fix, _) => (self.message.as_str(), fix),
        };
        formatter.write_str(message)?;
        if fix.is_empty() { Ok(()) } else { write!(formatter, "\n  what to do: {fix}") }
    }
}

impl std::error::Error for Failure {}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = error.stable_code();
        // Whatever kept the daemon from starting, it is the daemon that is missing; except where the user can mend a file.
        let exit = match Exit::of_code(code) {
            Exit::BadConfiguration => Exit::BadConfiguration,
            _ => Exit::NoDaemon,
        };
        Self::new(exit, code, error.to_string(), "")
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        if let Some(code) = code_of(&status) {
            return Self::new(Exit::of_code(code), code, status.message(), "");
        }
        match status.code() {
            tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Unknown => Self::new(
                Exit::NoDaemon,
                "daemon-unreachable",
                format!("the daemon went away while it worked: {}", status.message()),
                "see why in `rorqual logs daemon`, then try again: the command starts a new daemon",
            ),
            tonic::Code::Unimplemented => Self::new(
                Exit::Failed,
                "daemon-other-version",
                "the running daemon does not know this request: it is of another version than this command",
                "end it with `rorqual quit` and try again; machines go on meanwhile",
            ),
            // Refusals of the guest come without a stable code; their message is for a person all the same.
            tonic::Code::FailedPrecondition | tonic::Code::NotFound | tonic::Code::InvalidArgument => {
                Self::new(Exit::Failed, "refused", status.message(), "")
            }
            code => Self::new(
                Exit::Failed,
                "internal",
                format!("the daemon failed ({code:?}): {}", status.message()),
                "see `rorqual logs daemon`",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_of_an_engine_message_becomes_the_advice() {
        let failure = Failure::new(Exit::Failed, "x", "cannot open a: no such file; create it", "");
        assert_eq!(failure.to_string(), "cannot open a: no such file\n  what to do: create it");
        assert_eq!(failure.json()["error"]["message"], "cannot open a: no such file; create it");
    }

    #[test]
    fn codes_decide_the_exit_status() {
        for (code, status) in [
            ("machine-not-running", 3),
            ("config-invalid", 5),
            ("daemon-unreachable", 4),
            ("machine-name-invalid", 2),
            ("image-corrupt", 1),
        ] {
            assert_eq!(Exit::of_code(code).status(), status, "{code}");
        }
    }

    #[test]
    fn every_exit_status_is_told_in_the_help() {
        for exit in [
            Exit::Failed,
            Exit::Usage,
            Exit::NotRunning,
            Exit::NoDaemon,
            Exit::BadConfiguration,
            Exit::NoCommandStatus,
            Exit::Cancelled,
        ] {
            assert!(EXIT_STATUS_HELP.contains(&exit.status().to_string()), "{exit:?}");
        }
    }
}
