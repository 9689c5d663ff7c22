//! The way into a container: HTTP/1.1 over a forwarded stream of the guest. Connections are kept for the next request,
//! as a browser does.

use std::{
    error::Error,
    io,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{Uri, body::Incoming};
use hyper_util::{
    client::legacy::{self, Client},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use rorqual_protocol::{
    FORWARD_PORT,
    forward::{self, ForwardError},
};
use thiserror::Error;
use tokio::{io::AsyncWriteExt, net::UnixStream};
use tower::Service;

use crate::vsock;

/// How long a connection to a container is kept for the next request.
const KEPT: Duration = Duration::from_secs(30);
/// Connections kept for each container.
const KEPT_EACH: usize = 16;

/// A client of containers.
pub(super) type Upstream = Client<Connector, Incoming>;

/// Why there is no connection.
#[derive(Debug, Error)]
pub(super) enum ConnectError {
    /// The guest answers, but not the container at that port.
    #[error("{0}")]
    Container(String),
    /// The guest cannot be reached.
    #[error("the machine cannot be reached: {0}")]
    Machine(#[from] io::Error),
}

impl ConnectError {
    /// The reason within an error of the client, if the connection failed.
    pub(super) fn of(error: &legacy::Error) -> Option<&Self> {
        let mut cause = error.source();
        while let Some(error) = cause {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            cause = error.source();
        }
        None
    }
}

/// Opens streams to the address in a request's URI.
#[derive(Clone)]
pub(super) struct Connector {
    vsock_socket: Arc<Path>,
}

/// A client for the containers behind a machine's vsock socket.
pub(super) fn client(vsock_socket: &Path) -> Upstream {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(KEPT)
        .pool_max_idle_per_host(KEPT_EACH)
        .build(Connector { vsock_socket: vsock_socket.into() })
}

impl Service<Uri> for Connector {
    type Response = TokioIo<UnixStream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let vsock_socket = Arc::clone(&self.vsock_socket);
        Box::pin(async move {
            let target = uri.authority().and_then(|authority| authority.as_str().parse().ok());
            let target = target.ok_or_else(|| io::Error::other(format!("{uri} names no address")))?;
            connect(&vsock_socket, target).await.map(TokioIo::new)
        })
    }
}

async fn connect(vsock_socket: &Path, target: SocketAddr) -> Result<UnixStream, ConnectError> {
    let mut guest = vsock::connect(vsock_socket, FORWARD_PORT).await?;
    guest.write_all(forward::header(target).as_bytes()).await?;
    let line = vsock::read_line(&guest, forward::MAX_LINE).await?;
    match forward::parse_answer(&line) {
        Ok(()) => Ok(guest),
        Err(ForwardError::Refused(reason)) => Err(ConnectError::Container(reason)),
        Err(error) => Err(io::Error::other(error).into()),
    }
}
