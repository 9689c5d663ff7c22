//! Makes the host's sockets, on the system's epoll.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::epoll::Epoll;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, connect, socket};

use super::identity::FlowId;
use super::socket::{Socket, TcpSocket};

/// Makes the host's ends of flows.
pub trait Connector: Send {
    /// Begins to connect to `to`. [`Splice::host_event`](super::Splice::host_event) reports the outcome for `flow`,
    /// unless it is known at once.
    fn connect(&mut self, flow: FlowId, to: SocketAddr) -> io::Result<Socket>;
}

/// Makes sockets of the system and registers them for edge-triggered events.
#[derive(Debug)]
pub struct Sockets {
    epoll: Arc<Epoll>,
    peek_at: bool,
}

impl Sockets {
    /// Sockets whose events go to `epoll`, with the flow's token.
    pub fn new(epoll: Arc<Epoll>) -> Self {
        Self { epoll, peek_at: true }
    }

    /// Behaves as if the system could not peek at an offset (Linux before 6.10).
    #[cfg(test)]
    pub(super) fn without_offsets(epoll: Arc<Epoll>) -> Self {
        Self { epoll, peek_at: false }
    }
}

impl Connector for Sockets {
    fn connect(&mut self, flow: FlowId, to: SocketAddr) -> io::Result<Socket> {
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let descriptor = socket(family, SockType::Stream, flags, SockProtocol::Tcp)?;
        let made = TcpSocket::new(descriptor, self.peek_at)?;
        let begun = match to {
            SocketAddr::V4(to) => connect(made.as_raw_fd(), &SockaddrIn::from(to)),
            SocketAddr::V6(to) => connect(made.as_raw_fd(), &SockaddrIn6::from(to)),
        };
        match begun {
            Ok(()) | Err(Errno::EINPROGRESS | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        // Not earlier: an unconnected socket would report at once that it hung up.
        made.register(&self.epoll, flow)?;
        Ok(Socket::System(made))
    }
}
