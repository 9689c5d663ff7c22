//! Failures as the pages show them. The engine's errors have a code and advice already; these are the backend's own.

use super::contract::Failure;
use rorqual_engine::error;

/// A failure with its own code, for which there is no advice.
pub(crate) fn coded(code: &str, message: impl Into<String>) -> Failure {
    Failure { code: code.to_owned(), message: message.into(), fix: None }
}

/// The same with advice. [`advised`] checks that the advice is an instruction.
pub(crate) fn with_fix(code: &str, message: impl Into<String>, fix: &'static str) -> Failure {
    Failure { fix: Some(fix.to_owned()), ..coded(code, message) }
}

/// A failure with its own code and advice: `advised!(code, message, "advice")`. Advice that is no instruction does not
/// compile, since these failures are no enum that a test could walk.
macro_rules! advised {
    ($code:expr, $message:expr, $fix:literal $(,)?) => {{
        const { assert!(rorqual_engine::error::form::is_instruction($fix), "the advice is not an instruction") };
        $crate::failure::with_fix($code, $message, $fix)
    }};
}
pub(crate) use advised;

/// The request names something that does not exist, or is malformed.
pub(crate) fn bad_request(message: impl Into<String>) -> Failure {
    coded("bad-request", message)
}

/// A defect in Rorqual or in the engine.
pub(crate) fn unexpected(message: impl Into<String>) -> Failure {
    advised!("unexpected", message, "copy this error and report it")
}

/// The reader of the stream has left.
pub(crate) fn canceled() -> Failure {
    coded("canceled", "canceled")
}

/// The engine ended a stream that should not end.
pub(crate) fn engine_ended() -> Failure {
    advised!("engine-lost", "the Docker Engine stopped", "check whether the machine still runs")
}

/// Converts errors of the engine and statuses of its daemon.
impl<E: Into<error::Failure>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error::Failure { code, message, fix } = error.into();
        Self { code, message, fix }
    }
}

#[cfg(test)]
mod tests {
    use rorqual_engine::{client::ClientError, error::to_status, home::HomeError};

    use super::*;

    #[test]
    fn an_error_of_the_engine_has_the_same_three_fields_by_every_way() {
        let expected = Failure {
            code: "state-directory-unusable".to_owned(),
            message: "no state directory: neither RORQUAL_HOME nor HOME is set".to_owned(),
            fix: Some("set RORQUAL_HOME to a directory of yours".to_owned()),
        };
        assert_eq!(Failure::from(HomeError::Nowhere), expected);
        assert_eq!(Failure::from(to_status(&HomeError::Nowhere)), expected);
        assert_eq!(Failure::from(ClientError::Refused(HomeError::Nowhere.into())), expected);
    }

    #[test]
    fn a_call_the_daemon_did_not_answer_is_a_daemon_out_of_reach() {
        let lost = Failure::from(tonic::Status::unavailable("broken pipe"));
        assert_eq!((lost.code.as_str(), lost.fix.is_some()), ("daemon-unreachable", true));
    }
}
