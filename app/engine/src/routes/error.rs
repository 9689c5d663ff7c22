//! Why a request for a container has no answer of it.

use hyper::StatusCode;
use thiserror::Error;

use super::{DOMAIN, table::PORT_LABEL};
use crate::{docker::DockerError, error::Coded};

/// A request that is answered by a page of ours.
#[derive(Debug, Error)]
pub(crate) enum RouteError {
    /// The request cannot be understood.
    #[error("{0}")]
    BadRequest(String),
    /// A path of the list's host that is not the list.
    #[error("nothing is here but the list of containers")]
    NotFound,
    /// The list is for reading.
    #[error("the list can only be read")]
    ListReadOnly,
    /// The client takes this for a proxy.
    #[error("this server is no proxy for other connections")]
    NoProxy,
    /// Another server owns the name.
    #[error("{host} is not a name that is served here")]
    NameForeign {
        /// The name.
        host: String,
        /// Where all containers are listed.
        list: String,
    },
    /// A page of another site made the request.
    #[error("a page of another site made this request, which only pages of this computer may")]
    OriginForeign,
    /// Without the engine the containers are unknown.
    #[error(transparent)]
    Engine(#[from] DockerError),
    /// The machine is gone.
    #[error("{0}")]
    Machine(String),
    /// No container has the name.
    #[error("there is no container named {0}")]
    Unknown(String),
    /// The container is paused.
    #[error("the container {0} is paused")]
    Paused(String),
    /// The container does not run.
    #[error("the container {name} is not running (it is {state})")]
    Stopped {
        /// The container.
        name: String,
        /// The engine's word: `exited`, `created`.
        state: String,
    },
    /// The container's label names no port.
    #[error("the label {PORT_LABEL} of the container {name} is {label:?}, which is no port")]
    LabelInvalid {
        /// The container.
        name: String,
        /// What its label has.
        label: String,
    },
    /// The container has no address.
    #[error("the container {0} has no network")]
    WithoutNetwork(String),
    /// The container refuses the connection.
    #[error("the container {name} runs, but nothing in it answers at port {port} ({reason})")]
    NotListening {
        /// The container.
        name: String,
        /// The port that was tried.
        port: u16,
        /// The guest's reason.
        reason: String,
        /// Other ports its image names.
        others: Vec<u16>,
    },
    /// The container ended the connection.
    #[error("the container {name} closed the connection without an HTTP answer ({reason})")]
    BrokeOff {
        /// The container.
        name: String,
        /// What the connection reported.
        reason: String,
    },
}

impl RouteError {
    /// The status of the answer.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::ListReadOnly | Self::NoProxy => StatusCode::METHOD_NOT_ALLOWED,
            Self::NameForeign { .. } => StatusCode::MISDIRECTED_REQUEST,
            Self::OriginForeign => StatusCode::FORBIDDEN,
            Self::Engine(_) | Self::Machine(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unknown(_)
            | Self::Paused(_)
            | Self::Stopped { .. }
            | Self::LabelInvalid { .. }
            | Self::WithoutNetwork(_)
            | Self::NotListening { .. }
            | Self::BrokeOff { .. } => StatusCode::BAD_GATEWAY,
        }
    }
}

impl Coded for RouteError {
    fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad-request",
            Self::NotFound => "not-found",
            Self::ListReadOnly | Self::NoProxy => "method-not-allowed",
            Self::NameForeign { .. } => "name-foreign",
            Self::OriginForeign => "origin-foreign",
            Self::Engine(_) => "engine-not-running",
            Self::Machine(_) => "machine-unreachable",
            Self::Unknown(_) => "container-unknown",
            Self::Paused(_) => "container-paused",
            Self::Stopped { .. } => "container-stopped",
            Self::LabelInvalid { .. } => "label-invalid",
            Self::WithoutNetwork(_) => "container-without-network",
            Self::NotListening { .. } => "container-not-listening",
            Self::BrokeOff { .. } => "container-broke-off",
        }
    }

    fn fix(&self) -> Option<String> {
        Some(match self {
            Self::BadRequest(_) | Self::NotFound | Self::ListReadOnly | Self::NoProxy => return None,
            Self::NameForeign { list, .. } => {
                format!("use <container>.{DOMAIN} for one container, or {list} for the list of all")
            }
            Self::OriginForeign => {
                "open the address itself, or publish the container's port with -p and use that".to_owned()
            }
            Self::Engine(error) => error.fix().unwrap_or_else(|| "start the machine with `rorqual start`".to_owned()),
            Self::Machine(_) => "check the machine with `rorqual status`".to_owned(),
            Self::Unknown(_) => {
                "list the names with `docker ps -a`: a service of compose is at <service>.<project>".to_owned()
            }
            Self::Paused(name) => format!("resume it with `docker unpause {name}`"),
            Self::Stopped { name, .. } => {
                format!("start it with `docker start {name}`, or read why it ended with `docker logs {name}`")
            }
            Self::LabelInvalid { .. } => "create the container again with a port from 1 to 65535".to_owned(),
            Self::WithoutNetwork(name) => format!("connect it to one with `docker network connect bridge {name}`"),
            Self::NotListening { name, others, .. } => {
                let label = match others.as_slice() {
                    [] => format!("the port it listens on: `docker run --label {PORT_LABEL}=…`"),
                    [first, ..] => format!(
                        "the port {} that its image names: `docker run --label {PORT_LABEL}={first}`",
                        others.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
                    ),
                };
                format!("wait until its program has started (`docker logs {name}`), or set its label to {label}")
            }
            Self::BrokeOff { name, .. } => {
                format!("read `docker logs {name}`, or name the port at which it speaks HTTP in its label {PORT_LABEL}")
            }
        })
    }
}

#[cfg(test)]
crate::error::tests::samples!(RouteError {
    BadRequest => Self::BadRequest("the request names no host, or several".to_owned()),
    NotFound => Self::NotFound,
    ListReadOnly => Self::ListReadOnly,
    NoProxy => Self::NoProxy,
    NameForeign => Self::NameForeign { host: "example.com".to_owned(), list: "http://rorqual.localhost/".to_owned() },
    OriginForeign => Self::OriginForeign,
    Engine => Self::Engine(DockerError::Unexpected("the engine's list cannot be read".to_owned())),
    Machine => Self::Machine("the machine cannot be reached: timed out".to_owned()),
    Unknown => Self::Unknown("web".to_owned()),
    Paused => Self::Paused("web".to_owned()),
    Stopped => Self::Stopped { name: "web".to_owned(), state: "exited".to_owned() },
    LabelInvalid => Self::LabelInvalid { name: "web".to_owned(), label: "http".to_owned() },
    WithoutNetwork => Self::WithoutNetwork("web".to_owned()),
    NotListening => Self::NotListening {
        name: "web".to_owned(),
        port: 80,
        reason: "connection refused".to_owned(),
        others: vec![8080],
    },
    NotListening => Self::NotListening {
        name: "web".to_owned(),
        port: 80,
        reason: "connection refused".to_owned(),
        others: Vec::new(),
    },
    BrokeOff => Self::BrokeOff { name: "web".to_owned(), reason: "connection closed".to_owned() },
});
