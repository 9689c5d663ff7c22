//! The connections of one published TCP port: accepted, then passed to the gateway or carried over vsock.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use rorqual_protocol::{FORWARD_PORT, forward};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    monitor::Gateway,
    splice::{self, Direction},
    vsock,
};

/// Pause before accepting again when the system is out of descriptors. The connection stays queued.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the connections of one published port go.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// Number of the port in the guest.
    pub(super) id: u64,
    /// Carries connections from the clients' own addresses.
    pub(super) gateway: Gateway,
    /// Carries all others.
    pub(super) vsock_socket: Arc<Path>,
    /// The container.
    pub(super) target: SocketAddr,
}

/// Serves `listener` until dropped. Its connections over vsock end with it, as on a native engine; those of the gateway
/// end with the publication there.
pub(super) async fn serve(listener: TcpListener, route: Route) {
    let target = route.target;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, from)) => {
                    let route = route.clone();
                    connections.spawn(async move {
                        if let Err(error) = forward_one(client, from, &route).await {
                            tracing::debug!("connection from {from} to {target} ended: {error}");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!("cannot accept a connection for {target}: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries one connection. A client whose stream fails is reset, as by a host that refuses connections.
async fn forward_one(client: TcpStream, from: SocketAddr, route: &Route) -> io::Result<()> {
    let Some(mut client) = offer_to_gateway(client, from, route).await? else { return Ok(()) };
    // The container decides how its data is split into packets, so each of its writes is forwarded immediately.
    client.set_nodelay(true)?;
    let carried = carry(&mut client, &route.vsock_socket, route.target).await;
    if carried.is_err() {
        // A client that is gone needs no reset.
        let _ = client.set_zero_linger();
    }
    carried
}

/// Passes a connection to the gateway, if its client has an address the guest can see. Returns it if it has none, or if
/// the gateway does not take it.
async fn offer_to_gateway(client: TcpStream, from: SocketAddr, route: &Route) -> io::Result<Option<TcpStream>> {
    if from.ip().is_loopback() || from.is_ipv4() != route.target.is_ipv4() {
        return Ok(Some(client));
    }
    match route.gateway.publish_connection(route.id, client.into_std()?.into(), route.target).await {
        Ok(()) => Ok(None),
        Err((socket, error)) => {
            tracing::debug!("carrying the connection from {from} over vsock: {error}");
            TcpStream::from_std(socket.into()).map(Some)
        }
    }
}

async fn carry(client: &mut TcpStream, vsock_socket: &Path, target: SocketAddr) -> io::Result<()> {
    let mut guest = vsock::connect(vsock_socket, FORWARD_PORT).await?;
    guest.write_all(forward::header(target).as_bytes()).await?;
    let (mut guest_reader, mut guest_writer) = guest.split();
    let (mut client_reader, mut client_writer) = client.split();
    let mut up = Direction::default();
    let line = {
        // Data of the client is forwarded while the guest still connects.
        let mut answer = Box::pin(vsock::read_line(guest_reader.as_ref(), forward::MAX_LINE));
        std::future::poll_fn(|context| {
            if let std::task::Poll::Ready(Err(error)) = up.poll(context, &mut client_reader, &mut guest_writer) {
                return std::task::Poll::Ready(Err(error));
            }
            answer.as_mut().poll(context)
        })
        .await?
    };
    forward::parse_answer(&line).map_err(io::Error::other)?;
    splice::both_ways((&mut client_reader, &mut client_writer), (&mut guest_reader, &mut guest_writer), up).await
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncBufReadExt, AsyncReadExt, BufReader},
        net::UnixListener,
    };

    use super::*;

    /// A guest that answers each forwarded stream with `answer`, then echoes until the client's end, then says "bye".
    async fn guest(listener: UnixListener, answer: &'static str) {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            assert_eq!(line, "CONNECT 1025\n");
            stream.write_all(b"OK 1000\n").await.unwrap();
            line.clear();
            stream.read_line(&mut line).await.unwrap();
            assert_eq!(line, "TCP 172.17.0.2:80\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            if answer == "OK\n" {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                all.extend(b"bye");
                stream.write_all(&all).await.unwrap();
            }
        }
    }

    async fn published(answer: &'static str) -> (tempfile::TempDir, JoinSet<()>, SocketAddr) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("vsock.sock");
        let mut tasks = JoinSet::new();
        tasks.spawn(guest(UnixListener::bind(&socket).unwrap(), answer));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gateway = Gateway::new(directory.path().join("control.sock"));
        let target = "172.17.0.2:80".parse().unwrap();
        tasks.spawn(serve(listener, Route { id: 1, gateway, vsock_socket: socket.into(), target }));
        (directory, tasks, address)
    }

    #[tokio::test]
    async fn a_connection_reaches_the_container_and_keeps_its_half_close() {
        let (_directory, _tasks, address) = published("OK\n").await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"early bytes ").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "early bytes bye");
    }

    #[tokio::test]
    async fn a_container_that_refuses_resets_the_client() {
        let (_directory, _tasks, address) = published("ERR connection refused\n").await;
        let mut client = TcpStream::connect(address).await.unwrap();
        let error = client.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn an_unpublished_port_takes_its_connections_along() {
        let (_directory, mut tasks, address) = published("OK\n").await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"x").await.unwrap();
        tasks.shutdown().await;
        let mut rest = Vec::new();
        let ended = client.read_to_end(&mut rest).await;
        assert!(ended.is_err() || rest.is_empty());
        assert!(TcpStream::connect(address).await.is_err());
    }
}
