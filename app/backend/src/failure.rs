//! Failures as the pages show them. Errors of the engine bring code and advice; these are the backend's own.

use super::contract::Failure;
use rorqual_engine::error;

/// A failure with a code of its own. `fix` is an instruction, where one helps.
pub(crate) fn coded(code: &str, message: impl Into<String>, fix: impl Into<Option<&'static str>>) -> Failure {
    Failure { code: code.to_owned(), message: message.into(), fix: fix.into().map(str::to_owned) }
}

/// The caller asked for something that does not exist, or in a wrong way.
pub(crate) fn bad_request(message: impl Into<String>) -> Failure {
    coded("bad-request", message, None)
}

/// A defect of ours or of the engine.
pub(crate) fn unexpected(message: impl Into<String>) -> Failure {
    coded("unexpected", message, "copy this error and report it")
}

/// The reader of the stream is gone.
pub(crate) fn canceled() -> Failure {
    coded("canceled", "canceled", None)
}

/// The engine ended a stream that has no end of its own.
pub(crate) fn engine_ended() -> Failure {
    coded("engine-lost", "the Docker Engine has ended", "check whether the machine still runs")
}

/// Errors of the engine, and statuses of its daemon.
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
