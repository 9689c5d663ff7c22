//! What went wrong, as the pages show it.

use serde_json::Value;

use super::contract::Failure;
use crate::{client::ClientError, error};

fn failure(code: &str, message: impl Into<String>, hint: Option<&str>) -> Failure {
    Failure { code: code.to_owned(), message: message.into(), hint: hint.map(str::to_owned) }
}

/// Something with a code of its own and perhaps a way out.
pub(crate) fn coded(code: &str, message: impl Into<String>, hint: impl Into<Option<&'static str>>) -> Failure {
    failure(code, message, hint.into())
}

/// The caller asked for what there is not, or in a wrong way.
pub(crate) fn bad_request(message: impl Into<String>) -> Failure {
    failure("bad-request", message, None)
}

/// A defect of ours or of the engine.
pub(crate) fn unexpected(message: impl Into<String>) -> Failure {
    failure("unexpected", message, Some("copy this error and report it"))
}

/// Whoever opened the stream is gone.
pub(crate) fn canceled() -> Failure {
    failure("canceled", "canceled", None)
}

/// The engine's socket cannot be connected to.
pub(crate) fn engine_unreachable(error: &std::io::Error) -> Failure {
    let message = format!("the Docker Engine does not answer: {error}");
    failure("engine-not-running", message, Some("start the machine, here or with `rorqual start`"))
}

/// A connection to the engine broke.
pub(crate) fn broken(error: &hyper::Error) -> Failure {
    let message = format!("the connection to the Docker Engine ended: {}", error::root_cause(error));
    failure("engine-lost", message, Some("see whether the machine still runs"))
}

/// What the engine answered in place of what was asked.
pub(crate) fn of_docker(status: u16, body: &[u8]) -> Failure {
    let said =
        serde_json::from_slice::<Value>(body).ok().and_then(|body| Some(body.get("message")?.as_str()?.to_owned()));
    let message = said.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
    // The daemon's own answer while the machine does not run.
    let code = match status {
        _ if message.contains("rorqual start") => "engine-not-running",
        400 => "refused",
        401 | 403 => "not-allowed",
        404 => "not-found",
        409 => "conflict",
        500 if message.contains("no space left") => "no-space",
        500 if message.contains("unauthorized") || message.contains("authentication required") => "not-allowed",
        503 => "engine-not-running",
        _ => "engine-failed",
    };
    let hint = match code {
        "no-space" => Some("delete what nothing uses, or make the machine's disk larger in Settings"),
        "not-allowed" => Some("log in at the registry first"),
        _ => None,
    };
    failure(code, message, hint)
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let code =
            error::code_of(&status).map_or_else(|| format!("daemon-{:?}", status.code()).to_lowercase(), str::to_owned);
        failure(&code, status.message(), None)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        failure(error.stable_code(), error.to_string(), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_words_stay_and_get_a_code() {
        let refused = of_docker(409, br#"{"message":"name is taken"}"#);
        assert_eq!((refused.code.as_str(), refused.message.as_str()), ("conflict", "name is taken"));
        assert_eq!(of_docker(500, br#"{"message":"write: no space left on device"}"#).code, "no-space");
        assert_eq!(of_docker(502, b"gone").message, "gone");
    }
}
