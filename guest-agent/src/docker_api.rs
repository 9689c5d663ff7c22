//! The few calls of the Docker API the agent makes itself.
//!
//! They use HTTP/1.0 with one request per connection. The answer ends with the connection, so neither chunks nor
//! keep-alive are needed.

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;

/// Where dockerd listens.
pub(crate) const DOCKER_SOCKET: &str = "/run/docker.sock";

/// Why a call failed.
#[derive(Debug, Error)]
pub(crate) enum DockerApiError {
    /// dockerd does not run, or hung up.
    #[error("dockerd does not answer: {0}")]
    Connection(#[from] io::Error),
    /// The answer is not HTTP.
    #[error("dockerd's answer is not HTTP: {0:?}")]
    NotHttp(String),
    /// dockerd refused.
    #[error("dockerd answers {status}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Body of the answer.
        message: String,
    },
}

/// A complete answer.
struct Answer {
    status: u16,
    body: Vec<u8>,
}

/// `GET /_ping`: returns once the API answers, which dockerd delays until it can serve.
pub(crate) async fn ping(socket: &Path) -> Result<(), DockerApiError> {
    succeeded(&call(socket, "GET", "/_ping", &[]).await?)
}

/// Whether the engine has an image of that name.
pub(crate) async fn has_image(socket: &Path, name: &str) -> Result<bool, DockerApiError> {
    let answer = call(socket, "GET", &format!("/images/{name}/json"), &[]).await?;
    if answer.status == 404 {
        return Ok(false);
    }
    succeeded(&answer).map(|()| true)
}

/// Loads the images of an archive, as `docker load` does. dockerd reports some failures only in the body.
pub(crate) async fn load_images(socket: &Path, archive: &[u8]) -> Result<(), DockerApiError> {
    let answer = call(socket, "POST", "/images/load?quiet=1", archive).await?;
    let said = String::from_utf8_lossy(&answer.body).trim().to_owned();
    if answer.status == 200 && said.contains("\"error\"") {
        return Err(DockerApiError::Refused { status: answer.status, message: said });
    }
    succeeded(&answer)
}

/// A container, by its ID, joined or left the host's network (`--network host`).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HostNetworkChange {
    Joined(String),
    Left(String),
}

/// The events of the host's network.
pub(crate) struct HostNetwork(Lines<BufReader<UnixStream>>);

/// Filter of the API, percent-encoded: `{"network":["host"]}`.
const ON_HOST_NETWORK: &str = "%7B%22network%22%3A%5B%22host%22%5D%7D";
/// The same with `"type":["network"]` and `"event":["connect","disconnect"]`.
const CHANGES_OF_HOST_NETWORK: &str = "%7B%22type%22%3A%5B%22network%22%5D%2C%22network%22%3A%5B%22host%22%5D%2C\
                                       %22event%22%3A%5B%22connect%22%2C%22disconnect%22%5D%7D";

impl HostNetwork {
    /// Follows the host's network. Also returns the containers that run on it now; changes since the call also arrive
    /// as events, so none is missed.
    pub(crate) async fn follow(socket: &Path) -> Result<(Self, Vec<String>), DockerApiError> {
        // dockerd subscribes to events only after it has answered, so those since this second are requested as well.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let path = format!("/events?since={since}&filters={CHANGES_OF_HOST_NETWORK}");
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n").as_bytes()).await?;
        let mut lines = BufReader::new(stream).lines();
        let mut head = String::new();
        loop {
            match lines.next_line().await?.as_deref() {
                None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Some("") => break,
                Some(line) => head.extend([line, "\r\n"]),
            }
        }
        succeeded(&parse(format!("{head}\r\n").into_bytes())?)?;
        Ok((Self(lines), running_on_host_network(socket).await?))
    }

    /// The next change. May be dropped while it waits.
    ///
    /// # Errors
    /// dockerd hung up, or sent something other than an event.
    pub(crate) async fn next(&mut self) -> Result<HostNetworkChange, DockerApiError> {
        loop {
            let Some(line) = self.0.next_line().await? else {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            };
            if let Some(change) = host_network_change(&line)? {
                return Ok(change);
            }
        }
    }
}

/// Reads an event. `None` for another network whose name begins alike, which the filter lets through.
fn host_network_change(line: &str) -> Result<Option<HostNetworkChange>, DockerApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Event {
        action: String,
        actor: Actor,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Actor {
        attributes: Attributes,
    }
    #[derive(Deserialize)]
    struct Attributes {
        container: Option<String>,
        r#type: Option<String>,
    }
    let event: Event = serde_json::from_str(line).map_err(io::Error::from)?;
    let Attributes { container: Some(container), r#type: Some(kind) } = event.actor.attributes else { return Ok(None) };
    Ok(match event.action.as_str() {
        "connect" if kind == "host" => Some(HostNetworkChange::Joined(container)),
        "disconnect" if kind == "host" => Some(HostNetworkChange::Left(container)),
        _ => None,
    })
}

async fn running_on_host_network(socket: &Path) -> Result<Vec<String>, DockerApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Container {
        id: String,
    }
    let answer = call(socket, "GET", &format!("/containers/json?filters={ON_HOST_NETWORK}"), &[]).await?;
    succeeded(&answer)?;
    let containers: Vec<Container> = serde_json::from_slice(&answer.body).map_err(io::Error::from)?;
    Ok(containers.into_iter().map(|container| container.id).collect())
}

fn succeeded(answer: &Answer) -> Result<(), DockerApiError> {
    if (200..300).contains(&answer.status) {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&answer.body).trim().to_owned();
    Err(DockerApiError::Refused { status: answer.status, message })
}

async fn call(socket: &Path, method: &str, path: &str, body: &[u8]) -> Result<Answer, DockerApiError> {
    let mut stream = UnixStream::connect(socket).await?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/x-tar\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    // dockerd may answer and hang up before it has read the whole body; its answer is the reason.
    let sent = stream.write_all(body).await;
    let mut answer = Vec::new();
    let received = stream.read_to_end(&mut answer).await;
    if answer.is_empty() {
        sent?;
        received?;
    }
    parse(answer)
}

fn parse(mut answer: Vec<u8>) -> Result<Answer, DockerApiError> {
    if answer.is_empty() {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let body = head_end.map(|end| answer.split_off(end + 4));
    let head = String::from_utf8_lossy(&answer);
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    match (status, body) {
        (Some(status), Some(body)) => Ok(Answer { status, body }),
        _ => Err(DockerApiError::NotHttp(head.chars().take(100).collect())),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    /// A socket that answers one request with `answer` and returns the request.
    fn dockerd(answer: &'static str) -> (tempfile::TempDir, tokio::task::JoinHandle<String>) {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("docker.sock")).unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (folder, served)
    }

    #[tokio::test]
    async fn a_ping_that_answers_is_ready() {
        let (folder, served) = dockerd("HTTP/1.0 200 OK\r\nApi-Version: 1.45\r\n\r\nOK");
        ping(&folder.path().join("docker.sock")).await.unwrap();
        assert!(served.await.unwrap().starts_with("GET /_ping HTTP/1.0\r\n"));
    }

    #[tokio::test]
    async fn an_image_that_is_absent_is_no_error() {
        let (folder, _served) = dockerd("HTTP/1.0 404 Not Found\r\n\r\n{\"message\":\"No such image\"}");
        assert!(!has_image(&folder.path().join("docker.sock"), "a/b:latest").await.unwrap());
    }

    #[tokio::test]
    async fn a_failure_carries_dockerds_message() {
        let (folder, _served) = dockerd("HTTP/1.0 500 Internal Server Error\r\n\r\n{\"message\":\"no space left\"}");
        let error = has_image(&folder.path().join("docker.sock"), "a").await.unwrap_err();
        assert!(error.to_string().contains("500") && error.to_string().contains("no space left"), "{error}");
    }

    #[tokio::test]
    async fn a_load_that_fails_in_its_body_fails() {
        let (folder, _served) = dockerd("HTTP/1.0 200 OK\r\n\r\n{\"errorDetail\":{},\"error\":\"bad archive\"}");
        assert!(load_images(&folder.path().join("docker.sock"), b"tar").await.is_err());
    }

    #[test]
    fn events_of_the_hosts_network_name_who_joined_and_left() {
        let event = |action: &str, kind: &str| {
            format!(
                r#"{{"Type":"network","Action":"{action}",
                    "Actor":{{"ID":"1","Attributes":{{"container":"abc","name":"host","type":"{kind}"}}}}}}"#
            )
        };
        let change = |line: &str| host_network_change(line).unwrap();
        assert_eq!(change(&event("connect", "host")), Some(HostNetworkChange::Joined("abc".to_owned())));
        assert_eq!(change(&event("disconnect", "host")), Some(HostNetworkChange::Left("abc".to_owned())));
        assert_eq!(change(&event("connect", "bridge")), None);
        assert!(host_network_change("no event").is_err());
    }

    #[tokio::test]
    async fn a_refusal_of_events_is_an_error() {
        let (folder, _served) = dockerd("HTTP/1.0 400 Bad Request\r\n\r\n");
        let refused = HostNetwork::follow(&folder.path().join("docker.sock")).await;
        assert!(matches!(refused, Err(DockerApiError::Refused { status: 400, .. })));
    }

    #[test]
    fn what_is_not_http_is_refused() {
        for answer in ["", "SSH-2.0", "HTTP/1.0 200 OK\r\n", "HTTP/1.1 abc\r\n\r\n"] {
            assert!(parse(answer.as_bytes().to_vec()).is_err(), "{answer:?}");
        }
    }
}
