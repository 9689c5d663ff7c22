//! What went wrong, as the pages show it.

use super::contract::Failure;
use rorqual_engine::{
    client::ClientError,
    docker::DockerError,
    error::{self, Coded},
};

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

impl From<DockerError> for Failure {
    fn from(error: DockerError) -> Self {
        let hint = match error.code() {
            "engine-not-running" => Some("start the machine, here or with `rorqual start`"),
            "engine-lost" => Some("see whether the machine still runs"),
            "no-space" => Some("delete what nothing uses, or make the machine's disk larger in Settings"),
            "not-allowed" => Some("log in at the registry first"),
            "unexpected" => Some("copy this error and report it"),
            _ => None,
        };
        failure(error.code(), error.to_string(), hint)
    }
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
