//! Why something did not work, with the codes the daemon decides by.

use std::error::Error;
use std::fmt::{self, Display};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The kind of a failure, for programs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureCode {
    /// The configuration or a request is wrong.
    ConfigInvalid,
    /// A file the configuration names does not exist.
    FileMissing,
    /// A writable disk is in use.
    FileLocked,
    /// Another monitor listens on a socket of this machine.
    SocketInUse,
    /// The host has no room for the guest's memory.
    NoMemory,
    /// The accelerator does not work on this host.
    AcceleratorUnusable,
    /// A snapshot is damaged, of another format, or of a machine that has changed since.
    SnapshotInvalid,
    /// The request does not fit what the machine is doing, or its accelerator cannot do it.
    NotPossible,
    /// Anything else, and every code that a newer monitor may have.
    #[serde(other)]
    Internal,
}

/// A failure: its code, what failed on what and why, and the advice apart from it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Failure {
    /// The kind, for programs.
    pub code: FailureCode,
    /// What failed, on what and why, for people. No closing full stop.
    pub message: String,
    /// What to do about it, as an instruction, for people. No closing full stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Failure {
    /// A failure of the given kind, without advice.
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), fix: None }
    }

    /// The same failure with advice.
    #[must_use]
    pub fn with_fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }

    /// The system refused `action` on `path`. [`FailureCode::FileMissing`] if the file does not exist, else
    /// [`FailureCode::Internal`].
    pub fn of_file(action: &str, path: &Path, source: &io::Error) -> Self {
        let code = match source.kind() {
            io::ErrorKind::NotFound => FailureCode::FileMissing,
            _ => FailureCode::Internal,
        };
        Self::new(code, format!("cannot {action} {}: {source}", path.display()))
    }

    /// `action`, an internal step of the monitor, failed.
    pub fn internal(action: &str, source: impl Display) -> Self {
        Self::new(FailureCode::Internal, format!("cannot {action}: {source}"))
    }
}

impl Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl Error for Failure {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn codes_have_their_names_and_unknown_ones_are_internal() {
        let codes = [
            FailureCode::ConfigInvalid,
            FailureCode::FileMissing,
            FailureCode::FileLocked,
            FailureCode::SocketInUse,
            FailureCode::NoMemory,
            FailureCode::AcceleratorUnusable,
            FailureCode::SnapshotInvalid,
            FailureCode::NotPossible,
            FailureCode::Internal,
        ];
        let names = json!([
            "config-invalid",
            "file-missing",
            "file-locked",
            "socket-in-use",
            "no-memory",
            "accelerator-unusable",
            "snapshot-invalid",
            "not-possible",
            "internal"
        ]);
        assert_eq!(serde_json::to_value(codes).unwrap(), names);
        assert_eq!(serde_json::from_value::<[FailureCode; 9]>(names).unwrap(), codes);
        assert_eq!(serde_json::from_str::<FailureCode>("\"too-tired\"").unwrap(), FailureCode::Internal);
    }

    #[test]
    fn advice_is_a_field_of_its_own_and_absent_when_there_is_none() {
        let failure = Failure::new(FailureCode::NoMemory, "the guest's memory does not fit");
        let written = json!({"code": "no-memory", "message": "the guest's memory does not fit"});
        assert_eq!(serde_json::to_value(&failure).unwrap(), written);
        assert_eq!(serde_json::from_value::<Failure>(written).unwrap(), failure);
        let failure = failure.with_fix("give the machine less memory");
        let written = json!({
            "code": "no-memory", "message": "the guest's memory does not fit", "fix": "give the machine less memory"
        });
        assert_eq!(serde_json::to_value(&failure).unwrap(), written);
        assert_eq!(serde_json::from_value::<Failure>(written).unwrap(), failure);
        assert_eq!(failure.to_string(), "the guest's memory does not fit");
    }

    #[test]
    fn a_missing_file_has_its_own_code() {
        let failure = Failure::of_file("read the kernel", Path::new("/k"), &io::ErrorKind::NotFound.into());
        assert_eq!(
            (failure.code, failure.message.starts_with("cannot read the kernel /k: ")),
            (FailureCode::FileMissing, true)
        );
        let failure = Failure::of_file("read the kernel", Path::new("/k"), &io::ErrorKind::PermissionDenied.into());
        assert_eq!(failure.code, FailureCode::Internal);
        assert_eq!(Failure::internal("start a thread", "no room").message, "cannot start a thread: no room");
    }
}
