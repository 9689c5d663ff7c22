//! Why the Docker Engine did not do what was asked.

use serde::Deserialize;
use thiserror::Error;

use crate::error::{Coded, Failure, root_cause};

/// A request to the Docker Engine that failed.
#[derive(Debug, Error)]
pub enum DockerError {
    /// Nothing accepts connections on the engine's socket.
    #[error("the Docker Engine does not answer: {0}")]
    Unreachable(std::io::Error),
    /// The connection ended before the answer did.
    #[error("the connection to the Docker Engine ended: {}", root_cause(.0))]
    Broken(hyper::Error),
    /// The daemon answered in the engine's place, because the machine does not run.
    #[error("{}", .0.message)]
    NotRunning(Failure),
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
        let Ok(Refusal { message, rorqual }) = serde_json::from_slice(body) else {
            return Self::Refused { status, message: String::from_utf8_lossy(body).trim().to_owned() };
        };
        rorqual.map_or(Self::Refused { status, message }, Self::NotRunning)
    }

    /// Whether the refusal is one of a registry, which a login may mend.
    fn is_of_registry(status: u16, message: &str) -> bool {
        const WORDS: [&str; 5] = [
            "unauthorized",
            "authentication required",
            "requested access to the resource is denied",
            "no basic auth",
            "docker login",
        ];
        status == 401 || WORDS.iter().any(|words| message.contains(words))
    }
}

/// The document of a refusal; `rorqual` is in those of the daemon alone ([`crate::docker_socket`]).
#[derive(Deserialize)]
struct Refusal {
    message: String,
    #[serde(default)]
    rorqual: Option<Failure>,
}

impl Coded for DockerError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::NotRunning(_) => "engine-not-running",
            Self::Broken(_) => "engine-lost",
            Self::Unexpected(_) => "unexpected",
            Self::Refused { status, message } => match status {
                400 => "refused",
                401 | 403 => "not-allowed",
                404 => "not-found",
                409 => "conflict",
                500 if message.contains("no space left") => "no-space",
                500 if Self::is_of_registry(*status, message) => "not-allowed",
                503 => "engine-not-running",
                _ => "engine-failed",
            },
        }
    }

    fn fix(&self) -> Option<String> {
        let advice = match self {
            Self::Unreachable(_) => "start the machine, here or with `rorqual start`",
            Self::NotRunning(failure) => return failure.fix.clone(),
            Self::Broken(_) => "check whether the machine still runs",
            Self::Unexpected(_) => "copy this error and report it",
            Self::Refused { message, .. } if message.contains("has active endpoints") => {
                "disconnect or remove the containers in the network first"
            }
            Self::Refused { status, message } => match self.code() {
                "engine-not-running" => "start the machine, here or with `rorqual start`",
                "no-space" => "delete what nothing uses, or make the machine's disk larger in Settings",
                "not-allowed" | "not-found" if Self::is_of_registry(*status, message) => "log in at the registry first",
                _ => return None,
            },
        };
        Some(advice.to_owned())
    }
}

#[cfg(test)]
crate::error::tests::samples!(DockerError {
    Unreachable => Self::Unreachable(crate::error::tests::refusal()),
    Broken => Self::Broken(broken_sample()),
    NotRunning => Self::NotRunning(Failure::of(&Self::Unreachable(crate::error::tests::refusal()))),
    Refused => Self::Refused { status: 400, message: "invalid name".to_owned() },
    Refused => Self::Refused { status: 401, message: "authentication required".to_owned() },
    Refused => Self::Refused { status: 403, message: "network web has active endpoints".to_owned() },
    Refused => Self::Refused { status: 404, message: "no such container: web".to_owned() },
    Refused => Self::Refused { status: 409, message: "the name is taken".to_owned() },
    Refused => Self::Refused { status: 500, message: "write: no space left on device".to_owned() },
    Refused => Self::Refused { status: 500, message: "unauthorized".to_owned() },
    Refused => Self::Refused { status: 503, message: "not ready".to_owned() },
    Refused => Self::Refused { status: 500, message: "it broke".to_owned() },
    Unexpected => Self::Unexpected("the answer cannot be read".to_owned()),
});

/// The error of a connection whose other end is closed.
#[cfg(test)]
fn broken_sample() -> hyper::Error {
    use http_body_util::Empty;
    use hyper_util::rt::TokioIo;

    let (near, far) = tokio::io::duplex(64);
    drop(far);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let handshake = hyper::client::conn::http1::handshake::<_, Empty<bytes::Bytes>>(TokioIo::new(near));
        let (mut sender, connection) = handshake.await.unwrap();
        let (answer, _) = tokio::join!(sender.send_request(hyper::Request::new(Empty::new())), connection);
        answer.unwrap_err()
    })
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

    #[test]
    fn a_login_is_advised_where_a_registry_asks_for_one_alone() {
        let fix = |status, message: &str| DockerError::Refused { status, message: message.to_owned() }.fix();
        let active = "error while removing network: network web has active endpoints";
        assert_eq!(fix(403, active).unwrap(), "disconnect or remove the containers in the network first");
        assert_eq!(fix(403, "bridge is a pre-defined network and cannot be removed"), None);
        assert_eq!(
            fix(500, "Get \"https://r.example.com/v2/\": unauthorized").unwrap(),
            "log in at the registry first"
        );
        let private = "pull access denied for a/b, repository does not exist or may require 'docker login': denied";
        assert_eq!(fix(404, private).unwrap(), "log in at the registry first");
        assert_eq!(fix(404, "No such container: web"), None);
    }

    #[test]
    fn what_the_daemon_answers_for_the_engine_keeps_its_advice() {
        let body = br#"{"message":"it is off; start it",
            "rorqual":{"code":"machine-not-running","message":"it is off","fix":"start it"}}"#;
        let off = DockerError::refused(503, body);
        let expected =
            Failure { code: "engine-not-running".into(), message: "it is off".into(), fix: Some("start it".into()) };
        assert_eq!(Failure::of(&off), expected);
    }
}
