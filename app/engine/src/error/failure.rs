//! The one shape of a failure, and the trait of the errors that have it.

use serde::{Deserialize, Serialize};
use tonic::Code;

/// What failed, for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable name: lower-case words joined by hyphens, such as `config-invalid`. Never changes its meaning.
    pub code: String,
    /// What failed, on what and why. One line, no closing full stop, no advice.
    pub message: String,
    /// Advice, as an instruction; `None` if nothing sensible can be done.
    #[serde(default)]
    pub fix: Option<String>,
}

impl Failure {
    /// The failure that an error represents.
    pub fn of(error: &dyn Coded) -> Self {
        Self { code: error.code().to_owned(), message: error.to_string(), fix: error.fix() }
    }

    /// Message and advice in one text, for a client that shows only one: docker.
    pub fn text(&self) -> String {
        match &self.fix {
            Some(fix) => format!("{}; {fix}", self.message),
            None => self.message.clone(),
        }
    }
}

impl<E: Coded> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::of(&error)
    }
}

/// An error with a stable code and with advice of its own. Its `Display` is the message of the [`Failure`].
pub trait Coded: std::error::Error {
    /// The stable name ([`Failure::code`]).
    fn code(&self) -> &str;

    /// What to do about it ([`Failure::fix`]). There is no default, so that no error forgets it.
    fn fix(&self) -> Option<String>;

    /// The gRPC code that fits; most of what a user meets is a precondition that does not hold.
    fn grpc_code(&self) -> Code {
        Code::FailedPrecondition
    }
}

/// The most informative cause of an operating system or transport error, in the system's words.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// The words of another program as part of a message: its lines joined, without control characters.
pub fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ").chars().filter(|sign| !sign.is_control()).collect()
}
