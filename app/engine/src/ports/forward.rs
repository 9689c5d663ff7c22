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
    /// Carries every connection it takes: the monitor reads and writes the client's socket itself.
    pub(super) gateway: Gateway,
    /// Carries the others, by way of this daemon and the agent.
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

/// Passes a connection to the gateway. Returns it if the gateway does not reach the target, or does not take it.
async fn offer_to_gateway(client: TcpStream, from: SocketAddr, route: &Route) -> io::Result<Option<TcpStream>> {
    // What listens on the machine's own loopback receives no frames.
    if route.target.ip().is_loopback() {
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

    // The monitor is a thread that is waited for.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_connection_from_localhost_goes_to_the_gateway() {
        let directory = tempfile::tempdir().unwrap();
        let control_socket = directory.path().join("control.sock");
        let monitor = std::os::unix::net::UnixListener::bind(&control_socket).unwrap();
        let asked = std::thread::spawn(move || {
            let (stream, _) = monitor.accept().unwrap();
            let mut line = String::new();
            std::io::BufRead::read_line(&mut std::io::BufReader::new(&stream), &mut line).unwrap();
            std::io::Write::write_all(&mut &stream, b"{\"ok\":{}}\n").unwrap();
            line
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gateway = Gateway::new(control_socket);
        let vsock_socket = directory.path().join("vsock.sock").into();
        let served = serve(listener, Route { id: 7, gateway, vsock_socket, target: "172.17.0.2:80".parse().unwrap() });
        let served = tokio::spawn(served);
        let _client = TcpStream::connect(address).await.unwrap();
        let line = asked.join().unwrap();
        assert!(line.contains("publish-connection") && line.contains("172.17.0.2:80"), "{line}");
        served.abort();
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
