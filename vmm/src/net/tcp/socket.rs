//! A TCP socket of the host, nonblocking and registered with epoll, as the host's end of a flow.

use std::io;
use std::mem::zeroed;
use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::{Shutdown, getsockopt, setsockopt, shutdown, sockopt};

use super::host::{HostSocket, Peeked};
use super::identity::FlowId;
use crate::devices::span::Span;

/// Most pieces of guest memory handed to one system call.
const MAX_VECTORS: usize = 128;
/// Size of the buffer for bytes that a peek must skip, on systems that cannot peek at an offset.
const SCRATCH_BYTES: usize = 64 << 10;
/// Most bytes that a peek skips: each is copied again with each peek.
const SCRATCH_REACH: usize = 4 * SCRATCH_BYTES;

/// The host's end of a flow. Nearly all are sockets of the system, which need no allocation of their own.
pub enum Socket {
    /// A socket of the system.
    System(TcpSocket),
    /// An end that the gateway serves itself.
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

/// A TCP socket of the host.
#[derive(Debug)]
pub struct TcpSocket {
    socket: TcpStream,
    /// The offset at which the system peeks next; [`NOWHERE`] if it cannot peek at an offset.
    peek_at: u32,
}

/// No offset: offsets of the system are below 2^31.
const NOWHERE: u32 = u32::MAX;

impl TcpSocket {
    /// Sets the options that every connection has. The socket need not be connected yet.
    pub(super) fn new(descriptor: OwnedFd, peek_at: bool) -> io::Result<Self> {
        // The guest's own stack decides what waits for more bytes (Nagle); this side forwards at once.
        setsockopt(&descriptor, sockopt::TcpNoDelay, &true)?;
        setsockopt(&descriptor, sockopt::KeepAlive, &true)?;
        setsockopt(&descriptor, sockopt::OobInline, &true)?;
        let can = peek_at && set_peek_offset(descriptor.as_raw_fd(), 0).is_ok();
        Ok(Self { socket: descriptor.into(), peek_at: if can { 0 } else { NOWHERE } })
    }

    /// Takes over an accepted connection, for the flow that [`Splice::open`](super::Splice::open) opens, and registers
    /// it with `epoll`. It need not be nonblocking: no call here waits.
    pub fn adopt(accepted: OwnedFd, epoll: &Epoll, flow: FlowId) -> io::Result<Socket> {
        let made = Self::new(accepted, true)?;
        made.register(epoll, flow)?;
        Ok(Socket::System(made))
    }

    /// Registers the socket for edge-triggered events: peeked bytes stay in it, so a level would be reported without
    /// end.
    pub(super) fn register(&self, epoll: &Epoll, flow: FlowId) -> io::Result<()> {
        let events = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLPRI
            | EpollFlags::EPOLLET;
        Ok(epoll.add(self.socket.as_fd(), EpollEvent::new(events, flow.token()))?)
    }

    fn receive(&self, vectors: &mut [libc::iovec], flags: libc::c_int) -> io::Result<Option<usize>> {
        // SAFETY: msghdr is plain data of which all zeroes is a valid value.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = vectors.as_mut_ptr();
        message.msg_iovlen = vectors.len() as _;
        retry(|| {
            // SAFETY: `message` names `vectors`, which the callers fill with memory that is mapped and writable for as
            // long as they are borrowed. It may be the guest's, which may write there too; the kernel copies and no
            // reference exists.
            unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, flags | libc::MSG_DONTWAIT) }
        })
    }

    /// Peeks at `offset` by copying the bytes before it too.
    fn peek_past(&self, offset: usize, room: Span<'_, '_>) -> io::Result<Peeked> {
        let mut scratch = vec![0_u8; SCRATCH_BYTES.min(offset)];
        let (mut vectors, mut count) = (EMPTY_VECTORS, 0);
        let mut left = offset;
        while left > 0 && count < MAX_VECTORS / 2 {
            let length = left.min(scratch.len());
            vectors[count] = libc::iovec { iov_base: scratch.as_mut_ptr().cast(), iov_len: length };
            left -= length;
            count += 1;
        }
        if left > 0 {
            return Ok(Peeked::Empty);
        }
        count += fill(&mut vectors[count..], room);
        // Checked first: between the two calls the last bytes may arrive together with the end.
        let ended = self.has_ended();
        match self.receive(&mut vectors[..count], libc::MSG_PEEK)? {
            Some(bytes) if bytes > offset => Ok(Peeked::Bytes(bytes - offset)),
            Some(bytes) if bytes == offset && ended => Ok(Peeked::End),
            Some(_) | None => Ok(Peeked::Empty),
        }
    }

    /// Whether the other end has finished, even if bytes are still to be read.
    fn has_ended(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
        // SAFETY: one pollfd on this stack, and a time-out of zero.
        let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
        ready > 0 && poll.revents & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) != 0
    }
}

impl AsRawFd for TcpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl HostSocket for TcpSocket {
    fn connected(&mut self) -> io::Result<bool> {
        let error = getsockopt(&self.socket, sockopt::SocketError)?;
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        let remote = match self.socket.peer_addr() {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(false),
            remote => remote?,
        };
        // A socket that connects to a port of its own host, where nobody listens, may be given that port and connect to
        // itself.
        if self.socket.local_addr()? == remote {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(true)
    }

    fn reach(&self) -> usize {
        if self.peek_at == NOWHERE { SCRATCH_REACH } else { usize::MAX }
    }

    fn peek(&mut self, offset: usize, room: Span<'_, '_>) -> io::Result<Peeked> {
        if self.peek_at == NOWHERE {
            return self.peek_past(offset, room);
        }
        if self.peek_at as usize != offset {
            set_peek_offset(self.socket.as_raw_fd(), offset)?;
            self.peek_at = offset as u32;
        }
        let mut vectors = EMPTY_VECTORS;
        let count = fill(&mut vectors, room);
        match self.receive(&mut vectors[..count], libc::MSG_PEEK)? {
            None => Ok(Peeked::Empty),
            Some(0) => Ok(Peeked::End),
            Some(bytes) => {
                self.peek_at = (offset + bytes) as u32;
                Ok(Peeked::Bytes(bytes))
            }
        }
    }

    fn consume(&mut self, bytes: usize) -> io::Result<()> {
        let mut left = bytes;
        while left > 0 {
            let taken = retry(|| {
                // SAFETY: with MSG_TRUNC a TCP socket discards the bytes and writes nothing to the buffer (tcp(7)).
                unsafe {
                    libc::recv(
                        self.socket.as_raw_fd(),
                        std::ptr::null_mut(),
                        left,
                        libc::MSG_TRUNC | libc::MSG_DONTWAIT,
                    )
                }
            })?;
            match taken {
                None | Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(taken) => left -= taken.min(left),
            }
        }
        // The system moves its offset back by the bytes that were taken.
        if self.peek_at != NOWHERE {
            self.peek_at = self.peek_at.saturating_sub(bytes as u32);
        }
        Ok(())
    }

    fn write(&mut self, data: Span<'_, '_>) -> io::Result<usize> {
        let mut written = 0;
        while written < data.len() {
            let rest = data.after(written);
            let mut vectors = EMPTY_VECTORS;
            let count = fill(&mut vectors, rest);
            let offered: usize = vectors[..count].iter().map(|vector| vector.iov_len).sum();
            // SAFETY: msghdr is plain data of which all zeroes is a valid value.
            let mut message: libc::msghdr = unsafe { zeroed() };
            message.msg_iov = vectors.as_mut_ptr();
            message.msg_iovlen = count as _;
            let sent = retry(|| {
                // SAFETY: `message` names vectors on this stack, which point at pieces of memory that are mapped for as
                // long as `data` lives. The guest may write there at the same time; the kernel copies and no reference
                // exists.
                unsafe {
                    libc::sendmsg(self.socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
                }
            })?;
            written += sent.unwrap_or(0);
            if sent.unwrap_or(0) < offered {
                break;
            }
        }
        Ok(written)
    }

    fn shutdown(&mut self) -> io::Result<()> {
        Ok(shutdown(self.socket.as_raw_fd(), Shutdown::Write)?)
    }

    fn reset(&mut self) {
        // Without lingering, close sends a reset. If this fails, close ends the connection in order instead.
        let _ = setsockopt(&self.socket, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
    }
}

const EMPTY_VECTORS: [libc::iovec; MAX_VECTORS] =
    [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MAX_VECTORS];

/// Fills `vectors` with the pieces of `span`, as far as they go; returns how many it filled.
fn fill(vectors: &mut [libc::iovec], span: Span<'_, '_>) -> usize {
    let mut count = 0;
    for (vector, piece) in vectors.iter_mut().zip(span.pieces()) {
        vector.iov_base = piece.ptr_guard_mut().as_ptr().cast();
        vector.iov_len = piece.len();
        count += 1;
    }
    count
}

/// Repeats `call` while it is interrupted; None if it would block.
fn retry(mut call: impl FnMut() -> isize) -> io::Result<Option<usize>> {
    loop {
        match Errno::result(call()) {
            Ok(bytes) => return Ok(Some(bytes.cast_unsigned())),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sets `SO_PEEK_OFF`, which TCP supports since Linux 6.10, over IPv6 since 6.11.
fn set_peek_offset(socket: RawFd, offset: usize) -> io::Result<()> {
    let offset = libc::c_int::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the option's value is an int on this stack, of the length given.
    let result = unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_PEEK_OFF,
            (&raw const offset).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    Errno::result(result)?;
    Ok(())
}
