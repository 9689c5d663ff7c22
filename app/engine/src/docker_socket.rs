//! `run/docker.sock`: carries the guest's Docker socket, byte for byte. While the machine runs the daemon parses no
//! HTTP, so upgrades, half-close and streams pass unchanged. Without an engine the daemon answers itself, in a form the
//! docker client shows to its user.

use std::{io, time::Duration};

use rorqual_protocol::DOCKER_PORT;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    time::{sleep, timeout},
};

use crate::{
    api::machine_status::State,
    error::Failure,
    home::MachinePaths,
    machine::{Machine, NotRunning},
    splice::{self, Direction},
    vsock,
};

/// Maximum size of a request head that is read before the daemon answers itself, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// Maximum time for a client to send its head.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// How long a refused client's data is drained, so that it receives the answer and not a reset.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// Pause before accepting again when the system is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `listener` for `machine` until dropped.
pub(crate) async fn serve(listener: UnixListener, machine: Machine, paths: MachinePaths) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let (machine, paths) = (machine.clone(), paths.clone());
                tokio::spawn(async move {
                    if let Err(error) = serve_one(client, &machine, &paths).await {
                        tracing::debug!("a connection to the Docker socket ended: {error}");
                    }
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection to the Docker socket: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_one(client: UnixStream, machine: &Machine, paths: &MachinePaths) -> io::Result<()> {
    let snapshot = machine.snapshot();
    if snapshot.state != State::Running {
        return refuse(client, &machine.not_running(snapshot).into()).await;
    }
    match vsock::connect(&paths.vsock_socket(), DOCKER_PORT).await {
        Ok(guest) => relay(client, guest).await,
        Err(error) => {
            // The machine appeared to run: the engine or the guest was just lost.
            let reason = format!("it cannot be reached ({error})");
            let state = State::Degraded;
            let gone = NotRunning { machine: machine.name().clone(), state, reason, advice: None };
            refuse(client, &gone.into()).await
        }
    }
}

async fn relay(mut client: UnixStream, mut guest: UnixStream) -> io::Result<()> {
    let (mut client_reader, mut client_writer) = client.split();
    let (mut guest_reader, mut guest_writer) = guest.split();
    splice::both_ways(
        (&mut client_reader, &mut client_writer),
        (&mut guest_reader, &mut guest_writer),
        Direction::default(),
    )
    .await
}

/// Answers one request with 503 (RFC 9110 §15.6.4) and the failure in the Docker API's form, a single text. Rorqual's
/// own clients also read the separate fields.
async fn refuse(mut client: UnixStream, failure: &Failure) -> io::Result<()> {
    let Some(head) = timeout(HEAD_LIMIT, read_head(&mut client)).await.map_err(io::Error::from)?? else {
        return Ok(());
    };
    let body = serde_json::json!({"message": failure.text(), "rorqual": failure}).to_string();
    // A response to HEAD has no body (RFC 9110 §9.3.2).
    let shown = if head.starts_with(b"HEAD ") { "" } else { body.as_str() };
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{shown}",
        body.len()
    );
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await?;
    let drain = async {
        let mut sink = vec![0; 16 * 1024];
        while client.read(&mut sink).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // The client has its answer, so the drain ends even if it keeps sending.
    let _ = timeout(DRAIN_LIMIT, drain).await;
    Ok(())
}

/// Reads to the end of a request's head. `None` if the client left first.
async fn read_head(client: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if head.len() >= MAX_HEAD || client.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn off() -> Failure {
        let fix = Some("start it with `rorqual start`".to_owned());
        Failure { code: "machine-not-running".to_owned(), message: "it is off".to_owned(), fix }
    }

    async fn refused(request: &'static str) -> String {
        let (mut client, server) = UnixStream::pair().unwrap();
        let task = tokio::spawn(async move { refuse(server, &off()).await });
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        drop(client);
        task.await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn a_client_without_a_machine_is_told_how_to_start_it() {
        let answer = refused("GET /v1.41/containers/json HTTP/1.1\r\nHost: docker\r\n\r\n").await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
        let body_json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body_json["message"], "it is off; start it with `rorqual start`");
        assert_eq!(body_json["rorqual"]["fix"], "start it with `rorqual start`");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
    }

    #[tokio::test]
    async fn a_ping_by_head_gets_no_body() {
        assert!(refused("HEAD /_ping HTTP/1.1\r\nHost: docker\r\n\r\n").await.ends_with("\r\n\r\n"));
    }

    #[tokio::test]
    async fn a_client_that_goes_on_sending_still_sees_the_answer() {
        let (mut client, server) = UnixStream::pair().unwrap();
        tokio::spawn(async move { refuse(server, &off()).await });
        client.write_all(b"POST /build HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
        client.write_all(&vec![b'x'; 300_000]).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains(r#""message":"it is off; "#), "{answer}");
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_and_leaves_is_let_go() {
        let (client, server) = UnixStream::pair().unwrap();
        drop(client);
        refuse(server, &off()).await.unwrap();
    }
}
