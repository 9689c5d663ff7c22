//! The failure of a command: its message, for people or as JSON, and its exit status.

use rorqual_engine::{
    client::ClientError,
    error::{self, Coded},
};
use serde_json::json;

use crate::{docker_context::ContextError, error::CommandError, exit::Exit};

/// A failed command: the message to print, and the exit status.
#[derive(Debug)]
pub(crate) struct Failure {
    /// `None` if everything has been printed already.
    pub(crate) shown: Option<error::Failure>,
    pub(crate) exit: Exit,
}

impl Failure {
    /// Exits with a status and prints nothing more.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self { shown: None, exit }
    }

    /// Converts an error of the engine library.
    pub(crate) fn coded(error: &dyn Coded) -> Self {
        error::Failure::of(error).into()
    }

    /// The same failure for `rorqual shell`, where small exit statuses belong to the command it runs.
    #[must_use]
    pub(crate) fn without_command_status(self) -> Self {
        Self { exit: Exit::NoCommandStatus, ..self }
    }

    /// Prints it on standard error as a message of this kind: `error`, `warning`.
    pub(crate) fn report(&self, kind: &str, introduction: &str, json: bool) {
        let Some(shown) = &self.shown else { return };
        if json {
            eprintln!("{}", json!({ kind: shown }));
        } else {
            eprintln!("rorqual: {introduction}{}", text(shown));
        }
    }
}

/// Formats a failure for people.
fn text(failure: &error::Failure) -> String {
    match &failure.fix {
        Some(fix) => format!("{}\nFix: {fix}", failure.message),
        None => failure.message.clone(),
    }
}

impl From<error::Failure> for Failure {
    fn from(failure: error::Failure) -> Self {
        Self { exit: Exit::of_code(&failure.code), shown: Some(failure) }
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        Self { exit: error.exit(), shown: Some(error.into()) }
    }
}

impl From<ContextError> for Failure {
    fn from(error: ContextError) -> Self {
        Self { exit: error.exit(), shown: Some(error.into()) }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        // Whatever the reason, the daemon is unavailable, unless the user can correct a file.
        let exit = match Exit::of_code(error.code()) {
            Exit::BadConfiguration => Exit::BadConfiguration,
            _ => Exit::NoDaemon,
        };
        Self { exit, shown: Some(error.into()) }
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        error::Failure::from(status).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_has_a_line_of_its_own_and_is_null_in_json_where_there_is_none() {
        let failure = |fix: Option<&str>| error::Failure {
            code: "x".to_owned(),
            message: "cannot open a: no such file; it was removed".to_owned(),
            fix: fix.map(str::to_owned),
        };
        let lines = "cannot open a: no such file; it was removed\nFix: create it";
        assert_eq!(text(&failure(Some("create it"))), lines);
        assert_eq!(text(&failure(None)), "cannot open a: no such file; it was removed");
        assert_eq!(json!({ "error": failure(None) })["error"].get("fix"), Some(&serde_json::Value::Null));
    }
}
