//! A published port inside the machine.
//!
//! On a native engine a published port also answers on the engine's own localhost, because docker-proxy listens there.
//! A push to `localhost:5000`, or a container on the host's network, relies on that. Here the host listens on its side,
//! and this listener on the guest's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tracing::debug;

use super::local_datagrams;
use super::request::PublishRequest;
use super::transport::Transport;
use crate::relay::{Endpoint, join};

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener of the guest, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct LocalListener(JoinHandle<()>);

impl Drop for LocalListener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Listens in the guest for a port about to be published. `None` if the address is the host's and not the guest's.
///
/// # Errors
/// The port is in use in the guest, or the guest cannot listen on it; the text is for the user.
pub(super) fn listen_locally(request: &PublishRequest) -> Result<Option<LocalListener>, String> {
    let address = SocketAddr::new(request.host_address, request.host_port);
    let target = SocketAddr::new(request.container_address, request.container_port);
    let served = match bound(request.transport, address) {
        Ok(socket) => serve_at(request.transport, socket, target),
        Err(Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT) => return Ok(None),
        Err(Errno::EADDRINUSE) => {
            return Err(format!(
                "address already in use: a container on the host's network, or a program of the machine itself, \
                 listens on {address}"
            ));
        }
        Err(errno) => return Err(format!("the machine cannot listen on {address}: {errno}")),
    };
    let task = served.map_err(|error| format!("the machine cannot listen on {address}: {error}"))?;
    Ok(Some(LocalListener(task)))
}

fn serve_at(transport: Transport, socket: OwnedFd, target: SocketAddr) -> io::Result<JoinHandle<()>> {
    Ok(match transport {
        Transport::Tcp => tokio::spawn(serve(TcpListener::from_std(socket.into())?, target)),
        Transport::Udp => tokio::spawn(local_datagrams::serve(UdpSocket::from_std(socket.into())?, target)),
    })
}

/// A socket that listens or, for UDP, is bound. An IPv6 one takes no IPv4, because dockerd publishes the two
/// separately.
fn bound(transport: Transport, address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = match address.ip() {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let kind = match transport {
        Transport::Tcp => SockType::Stream,
        Transport::Udp => SockType::Datagram,
    };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if transport == Transport::Tcp {
        // Connections of an earlier listener may still be closing. With UDP this would let two sockets share the port.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    if transport == Transport::Tcp {
        listen(&socket, Backlog::MAXCONN)?;
    }
    Ok(socket)
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

    async fn free_port() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn a_published_port_answers_in_the_machine_and_stops_when_it_is_unpublished() {
        let container = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = free_port().await;
        let listening = listen_locally(&request(port, container.local_addr().unwrap())).unwrap().unwrap();
        let mut client = TcpStream::connect(port).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = String::new();
        container.accept().await.unwrap().0.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "hello");
        let LocalListener(task) = &listening;
        task.abort();
        drop(listening);
        // The runtime drops the task, and with it the listener, at its next turn.
        tokio::task::yield_now().await;
        assert!(TcpStream::connect(port).await.is_err());
    }

    #[tokio::test]
    async fn a_port_in_use_is_refused_and_an_address_of_the_host_is_left_to_it() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        assert!(listen_locally(&request(address, address)).unwrap_err().contains("already in use"));
        let taken = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let udp = PublishRequest { transport: Transport::Udp, ..request(address, address) };
        assert!(listen_locally(&udp).unwrap_err().contains("already in use"));
        let elsewhere: SocketAddr = "192.0.2.1:8080".parse().unwrap();
        assert!(listen_locally(&request(elsewhere, address)).unwrap().is_none());
    }
}
