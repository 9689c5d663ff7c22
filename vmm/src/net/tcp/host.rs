//! The host's end of a flow, as the state machine sees it.

use std::io;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;

use super::flow::FlowId;
use super::socket::TcpSocket;
use super::span::Span;

/// What a look into a socket's receive buffer found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peeked {
    /// So many bytes were copied; at least one.
    Bytes(usize),
    /// Nothing at that offset yet. Readiness is reported when there is.
    Empty,
    /// The stream ends at that offset.
    End,
}

/// One connection on the host. No call blocks.
///
/// Dropping it closes the connection in order: what was written is still sent.
pub trait HostSocket: Send {
    /// Whether the connection stands; false while it is being made. An error is why it could not be.
    fn connected(&mut self) -> io::Result<bool>;
    /// Largest `offset` of [`peek`](Self::peek), in bytes.
    fn reach(&self) -> usize {
        usize::MAX
    }
    /// Copies received bytes to `room`, which is not empty, starting `offset` bytes after the first that was not consumed, and
    /// leaves them where they are. The stream's end comes after all its bytes, and so does the error of a broken connection.
    fn peek(&mut self, offset: usize, room: Span<'_, '_>) -> io::Result<Peeked>;
    /// Forgets the first `bytes` that were received; never more than were peeked.
    fn consume(&mut self, bytes: usize) -> io::Result<()>;
    /// Sends from the beginning of `data` as much as the socket takes now. Fewer than all is a promise of readiness to come.
    fn write(&mut self, data: Span<'_, '_>) -> io::Result<usize>;
    /// Sends the end of the stream.
    fn shutdown(&mut self) -> io::Result<()>;
    /// Breaks the connection: the other end sees a reset. Dropped afterwards.
    fn reset(&mut self);
}

/// What a flow stands on. Nearly every one stands on a socket of the system, which needs no allocation of its own.
pub enum Socket {
    /// Of the system.
    System(TcpSocket),
    /// Of whoever serves the flow.
    Other(Box<dyn HostSocket>),
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::System(socket) => socket.fmt(formatter),
            Self::Other(_) => formatter.write_str("Other"),
        }
    }
}

impl Deref for Socket {
    type Target = dyn HostSocket;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::System(socket) => socket,
            Self::Other(socket) => &**socket,
        }
    }
}

impl DerefMut for Socket {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::System(socket) => socket,
            Self::Other(socket) => &mut **socket,
        }
    }
}

/// Makes the host's sockets.
pub trait Connector: Send {
    /// Begins to connect to `to`. The outcome is reported by [`Splice::host_event`](super::Splice::host_event) for `flow`, or at once.
    fn connect(&mut self, flow: FlowId, to: SocketAddr) -> io::Result<Socket>;
}

/// Where a flow goes.
pub enum Destination {
    /// To this address, by a socket of the host.
    Host(SocketAddr),
    /// To something inside the gateway.
    Gateway(Box<dyn HostSocket>),
    /// Nowhere: answered with a reset, as if nobody listened there.
    Refused,
    /// Nowhere: answered by ICMP.
    Unreachable(Unreachable),
}

/// The gateway's policy.
pub trait Destinations {
    /// Where a connection from `guest` to `wanted` goes. Asked at each SYN of a new flow, so also when the guest repeats one
    /// whose flow was forgotten under flood.
    fn destination(&mut self, flow: FlowId, guest: SocketAddr, wanted: SocketAddr) -> Destination;
}

/// Why there is no way to a destination, in the terms of ICMP (RFC 792; RFC 4443 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// No route: ICMP code 0, `ICMPv6` code 0.
    Network,
    /// No answer from the host or its router: ICMP code 1, `ICMPv6` code 3.
    Host,
    /// Forbidden here: ICMP code 13, `ICMPv6` code 1.
    Prohibited,
}

/// What became of an attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The guest hears a reset.
    Refused,
    /// The guest hears ICMP.
    Unreachable(Unreachable),
    /// The host has no descriptor or memory to spare. The guest hears nothing and tries again.
    Exhausted,
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENETUNREACH | Errno::ENETDOWN | Errno::EAFNOSUPPORT | Errno::EINVAL) => {
                Self::Unreachable(Unreachable::Network)
            }
            Some(Errno::EHOSTUNREACH | Errno::EHOSTDOWN) => Self::Unreachable(Unreachable::Host),
            Some(Errno::EACCES | Errno::EPERM) => Self::Unreachable(Unreachable::Prohibited),
            Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM | Errno::ENOSPC) => Self::Exhausted,
            _ => Self::Refused,
        }
    }
}

/// What a host's socket has to report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// There are bytes, or the end of the stream.
    pub readable: bool,
    /// It takes bytes, or its connecting has come to an end.
    pub writable: bool,
    /// The other end has finished or marked bytes as urgent: that fewer bytes came than there was room for does not mean that
    /// nothing is left to read.
    pub ended: bool,
    /// The connection is broken.
    pub failed: bool,
}

impl Readiness {
    /// From the flags of an epoll event.
    pub fn from_epoll(flags: EpollFlags) -> Self {
        let failed = flags.contains(EpollFlags::EPOLLERR);
        let ended = flags.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLPRI);
        Self {
            readable: flags.contains(EpollFlags::EPOLLIN) || failed || ended,
            writable: flags.contains(EpollFlags::EPOLLOUT) || failed || ended,
            ended: failed || ended,
            failed,
        }
    }
}
