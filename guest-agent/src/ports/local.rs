//! A published port inside the machine.
//!
//! On a native engine a published port also answers on the engine's own localhost, because docker-proxy listens there.
//! A push to `localhost:5000`, or a container on the host's network, relies on that. Here the host listens on its side,
//! and on the guest's the socket that dockerd has bound is served.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tracing::debug;

use super::local_datagrams;
use super::request::PublishRequest;
use super::transport::Transport;
use crate::relay::{Endpoint, join};

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket of the guest that is served until this is closed or dropped.
#[derive(Debug)]
pub(super) struct LocalListener(JoinHandle<()>);

impl LocalListener {
    /// Stops serving. The socket is closed when this returns, except that a UDP port's sessions end a moment later.
    pub(super) async fn close(mut self) {
        self.0.abort();
        // An error is the cancellation just asked for.
        let _ = (&mut self.0).await;
    }
}

impl Drop for LocalListener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves the socket dockerd has bound for a port about to be published: a TCP one listens, a UDP one is bound.
///
/// # Errors
/// The socket cannot be served.
pub(super) fn serve_locally(request: &PublishRequest, socket: OwnedFd) -> io::Result<LocalListener> {
    let target = SocketAddr::new(request.container_address, request.container_port);
    let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL)?);
    fcntl(&socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(LocalListener(match request.transport {
        Transport::Tcp => tokio::spawn(serve(TcpListener::from_std(socket.into())?, target)),
        Transport::Udp => tokio::spawn(local_datagrams::serve(UdpSocket::from_std(socket.into())?, target)),
    }))
}

async fn serve(listener: TcpListener, target: SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                tokio::spawn(async move {
                    if let Err(error) = connect(client, target).await {
                        debug!("a connection of the machine to {target} failed: {error}");
                    }
                });
            }
            Err(error) => {
                debug!("cannot accept a connection of the machine to {target}: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connect(client: TcpStream, target: SocketAddr) -> io::Result<()> {
    let container = TcpStream::connect(target).await?;
    join(Endpoint::new(client.into_std()?)?, Endpoint::new(container.into_std()?)?).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn request(host: SocketAddr, container: SocketAddr) -> PublishRequest {
        PublishRequest {
            transport: Transport::Tcp,
            host_address: host.ip(),
            host_port: host.port(),
            container_address: container.ip(),
            container_port: container.port(),
        }
    }

    #[tokio::test]
    async fn a_published_port_answers_in_the_machine_and_is_free_once_it_is_unpublished() {
        let container = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap();
        let request = request(port, container.local_addr().unwrap());
        let listening = serve_locally(&request, listener.into()).unwrap();
        let mut client = TcpStream::connect(port).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = String::new();
        container.accept().await.unwrap().0.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "hello");
        listening.close().await;
        assert!(TcpStream::connect(port).await.is_err());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_an_error() {
        let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let file = tempfile::tempfile().unwrap();
        // The kernel refuses to wait for a file at the latest.
        assert!(serve_locally(&request(address, address), file.into()).is_err());
    }
}
