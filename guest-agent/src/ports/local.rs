//! A published port inside the machine.
//!
//! On a native engine a published port also answers on the engine's own localhost, because docker-proxy listens there: a push to
//! `localhost:5000`, or a container with the host's network, counts on it. Here the host listens for its side, and this for the guest's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tracing::debug;

use super::local_datagrams;
use super::request::{Protocol, PublishRequest};
use crate::relay::{Endpoint, join};

/// A listener of the guest, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct LocalListener(JoinHandle<()>);

impl Drop for LocalListener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Listens in the guest for a port about to be published. `None`: the address is the host's and not the guest's.
///
/// # Errors
/// Somebody in the guest has the port, or it cannot be listened on; the text is for the user.
pub(super) fn listen_locally(request: &PublishRequest) -> Result<Option<LocalListener>, String> {
    let address = SocketAddr::new(request.host_address, request.host_port);
    let target = SocketAddr::new(request.container_address, request.container_port);
    let served = match bound(request.protocol, address) {
        Ok(socket) => serve_at(request.protocol, socket, target),
        Err(Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT) => return Ok(None),
        Err(Errno::EADDRINUSE) => {
            return Err(format!(
                "address already in use: a container with the host's network, or a program of the machine, listens on {address}"
            ));
        }
        Err(errno) => return Err(format!("the machine cannot listen on {address}: {errno}")),
    };
    let task = served.map_err(|error| format!("the machine cannot listen on {address}: {error}"))?;
    Ok(Some(LocalListener(task)))
}

fn serve_at(protocol: Protocol, socket: OwnedFd, target: SocketAddr) -> io::Result<JoinHandle<()>> {
    Ok(match protocol {
        Protocol::Tcp => tokio::spawn(serve(TcpListener::from_std(socket.into())?, target)),
        Protocol::Udp => tokio::spawn(local_datagrams::serve(UdpSocket::from_std(socket.into())?, target)),
    })
}

/// A socket that listens or, for UDP, is bound. An IPv6 one takes no IPv4: dockerd publishes the two apart.
fn bound(protocol: Protocol, address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = match address.ip() {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let kind = match protocol {
        Protocol::Tcp => SockType::Stream,
        Protocol::Udp => SockType::Datagram,
    };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if protocol == Protocol::Tcp {
        // Connections of the listener before may still be waiting for their end. Two sockets of UDP would share the port.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    if protocol == Protocol::Tcp {
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
                tokio::time::sleep(super::REST).await;
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
            protocol: Protocol::Tcp,
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
        // The listener goes when its task has been collected: the next turn of this runtime.
        tokio::task::yield_now().await;
        assert!(TcpStream::connect(port).await.is_err());
    }

    #[tokio::test]
    async fn a_port_somebody_has_is_refused_and_an_address_of_the_host_is_left_to_it() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        assert!(listen_locally(&request(address, address)).unwrap_err().contains("already in use"));
        let taken = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let udp = PublishRequest { protocol: Protocol::Udp, ..request(address, address) };
        assert!(listen_locally(&udp).unwrap_err().contains("already in use"));
        let elsewhere: SocketAddr = "192.0.2.1:8080".parse().unwrap();
        assert!(listen_locally(&request(elsewhere, address)).unwrap().is_none());
    }
}
