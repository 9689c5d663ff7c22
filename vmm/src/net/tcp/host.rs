//! The host's end of a flow, as the state machine sees it.

use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;

use super::identity::FlowId;
use crate::devices::span::Span;

/// The result of peeking at a socket's receive buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peeked {
    /// This many bytes were copied, at least one.
    Bytes(usize),
    /// Nothing has arrived at that offset yet. Readiness will be reported.
    Empty,
    /// The stream ends at that offset.
    End,
}

/// A connection of the host. No call blocks.
///
/// Dropping it closes the connection in order: bytes already written are still sent.
pub trait HostSocket: Send {
    /// Whether the connection is established; false while it is connecting. The error is the reason why it could not be
    /// established.
    fn connected(&mut self) -> io::Result<bool>;
    /// Largest `offset` of [`peek`](Self::peek), in bytes.
    fn reach(&self) -> usize {
        usize::MAX
    }
    /// Copies received bytes to `room`, which is not empty, from `offset` bytes after the first one not consumed, and
    /// leaves them in the socket. The stream's end comes after all its bytes, and so does the error of a broken
    /// connection.
    fn peek(&mut self, offset: usize, room: Span<'_, '_>) -> io::Result<Peeked>;
    /// Discards the first `bytes` received, which must have been peeked.
    fn consume(&mut self, bytes: usize) -> io::Result<()>;
    /// Sends as much from the beginning of `data` as the socket takes now. If that is not all, readiness will be
    /// reported.
    fn write(&mut self, data: Span<'_, '_>) -> io::Result<usize>;
    /// Sends the end of the stream.
    fn shutdown(&mut self) -> io::Result<()>;
    /// Breaks the connection, so that the other end sees a reset. To be dropped afterwards.
    fn reset(&mut self);
}

/// Where a flow goes.
pub enum Destination {
    /// To this address, by a socket of the host.
    Host(SocketAddr),
    /// To an end inside the gateway.
    Gateway(Box<dyn HostSocket>),
    /// Nowhere: answered with a reset, as if nobody listened.
    Refused,
    /// Nowhere: answered with ICMP.
    Unreachable(Unreachable),
}

/// The gateway's policy.
pub trait Destinations {
    /// Where a connection from `guest` to `wanted` goes. Asked at each SYN of a new flow, and so again if the guest
    /// repeats the SYN of a flow that was evicted.
    fn destination(&mut self, flow: FlowId, guest: SocketAddr, wanted: SocketAddr) -> Destination;
}

/// Why a destination is unreachable, in terms of ICMP (RFC 792; RFC 4443 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// There is no route: ICMP code 0, `ICMPv6` code 0.
    Network,
    /// The host or its router does not answer: ICMP code 1, `ICMPv6` code 3.
    Host,
    /// The gateway does not allow it: ICMP code 13, `ICMPv6` code 1.
    Prohibited,
}

/// Why an attempt to connect failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The guest receives a reset.
    Refused,
    /// The guest receives an ICMP message.
    Unreachable(Unreachable),
    /// The host has no descriptor or memory to spare. The guest receives nothing and tries again.
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

/// What a host's socket reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// It has bytes, or the end of the stream.
    pub readable: bool,
    /// It takes bytes, or has finished connecting.
    pub writable: bool,
    /// The other end has finished, or has marked bytes as urgent: a short read does not mean that nothing is left.
    pub ended: bool,
    /// The connection broke.
    pub failed: bool,
}

impl Readiness {
    /// The meaning of an epoll event's flags.
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
