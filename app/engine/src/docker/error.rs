//! Why the Docker Engine did not do what was asked.

use serde_json::Value;
use thiserror::Error;

use crate::error::{Coded, root_cause};

/// A request to the Docker Engine that failed.
#[derive(Debug, Error)]
pub enum DockerError {
    /// Nothing accepts connections on the engine's socket.
    #[error("the Docker Engine does not answer: {0}")]
    Unreachable(std::io::Error),
    /// The connection ended before the answer did.
    #[error("the connection to the Docker Engine ended: {}", root_cause(.0))]
    Broken(hyper::Error),
    /// The engine answered with an error status.
    #[error("{message}")]
    Refused {
        /// HTTP status, 300 to 599.
        status: u16,
        /// The engine's own sentence.
        message: String,
    },
    /// A request that cannot be made, or an answer that cannot be read: a defect of ours or of the engine.
    #[error("{0}")]
    Unexpected(String),
}

impl DockerError {
    /// The engine's refusal: `body` is its JSON document, or whatever stood in its place.
    pub(super) fn refused(status: u16, body: &[u8]) -> Self {
        let said =
            serde_json::from_slice::<Value>(body).ok().and_then(|body| Some(body.get("message")?.as_str()?.to_owned()));
        Self::Refused { status, message: said.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned()) }
    }
}

impl Coded for DockerError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "engine-not-running",
            Self::Broken(_) => "engine-lost",
            Self::Unexpected(_) => "unexpected",
            Self::Refused { status, message } => match status {
                // The daemon answers this itself while the machine does not run.
                _ if message.contains("rorqual start") => "engine-not-running",
                400 => "refused",
                401 | 403 => "not-allowed",
                404 => "not-found",
                409 => "conflict",
                500 if message.contains("no space left") => "no-space",
                500 if message.contains("unauthorized") || message.contains("authentication required") => "not-allowed",
                503 => "engine-not-running",
                _ => "engine-failed",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_words_stay_and_get_a_code() {
        let refused = DockerError::refused(409, br#"{"message":"name is taken"}"#);
        assert_eq!((refused.code(), refused.to_string().as_str()), ("conflict", "name is taken"));
        let full = DockerError::refused(500, br#"{"message":"write: no space left on device"}"#);
        assert_eq!(full.code(), "no-space");
        assert_eq!(DockerError::refused(502, b"gone").to_string(), "gone");
    }
}
