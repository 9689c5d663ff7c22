//! The host's sockets: nonblocking, on the system's epoll.

use std::io;
use std::mem::zeroed;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, connect, getsockopt,
    setsockopt, shutdown, socket, sockopt,
};

use super::flow::FlowId;
use super::host::{Connector, HostSocket, Peeked, Socket};
use super::span::Span;

/// Most pieces of guest memory handed to one system call.
const MAX_VECTORS: usize = 128;
/// Where bytes go that must be passed over in peeking, on systems that cannot peek at an offset.
const SCRATCH_BYTES: usize = 64 << 10;
/// How far they are passed over: each of these bytes is copied again at each peek.
const SCRATCH_REACH: usize = 4 * SCRATCH_BYTES;

/// Makes sockets for flows of the guest, and registers them for edge-triggered events.
#[derive(Debug)]
pub struct Sockets {
    epoll: Arc<Epoll>,
    peek_at: bool,
}

impl Sockets {
    /// Sockets whose events go to `epoll`, under the flow's token.
    pub fn new(epoll: Arc<Epoll>) -> Self {
        Self { epoll, peek_at: true }
    }

    /// As if the system could not peek at an offset (Linux before 6.10).
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
            SocketAddr::V4(to) => connect(made.socket.as_raw_fd(), &SockaddrIn::from(to)),
            SocketAddr::V6(to) => connect(made.socket.as_raw_fd(), &SockaddrIn6::from(to)),
        };
        match begun {
            Ok(()) | Err(Errno::EINPROGRESS | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        // Only now: an unconnected socket would report at once that it hung up.
        made.register(&self.epoll, flow)?;
        Ok(Socket::System(made))
    }
}

/// A TCP socket of the host.
#[derive(Debug)]
pub struct TcpSocket {
    socket: TcpStream,
    /// The offset the system peeks at next; [`NOWHERE`] when it cannot.
    peek_at: u32,
}

/// No offset: those of the system are below 2^31.
const NOWHERE: u32 = u32::MAX;

impl TcpSocket {
    fn new(descriptor: OwnedFd, peek_at: bool) -> io::Result<Self> {
        // The guest's own stack decides what waits for more bytes (Nagle), and this side passes on what it gets.
        setsockopt(&descriptor, sockopt::TcpNoDelay, &true)?;
        setsockopt(&descriptor, sockopt::KeepAlive, &true)?;
        setsockopt(&descriptor, sockopt::OobInline, &true)?;
        let can = peek_at && set_peek_offset(descriptor.as_raw_fd(), 0).is_ok();
        Ok(Self { socket: descriptor.into(), peek_at: if can { 0 } else { NOWHERE } })
    }

    /// Takes over a connection that was accepted, for the flow that [`Splice::open`](super::Splice::open) names, and registers
    /// it with `epoll`. It need not be nonblocking: no call here waits.
    pub fn adopt(accepted: OwnedFd, epoll: &Epoll, flow: FlowId) -> io::Result<Socket> {
        let made = Self::new(accepted, true)?;
        made.register(epoll, flow)?;
        Ok(Socket::System(made))
    }

    /// Edge-triggered: peeking leaves the bytes there, and would be called for without end.
    fn register(&self, epoll: &Epoll, flow: FlowId) -> io::Result<()> {
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
            // SAFETY: `message` names `vectors`, which the callers fill with memory that is mapped and writable for as long as
            // they are borrowed. It may be the guest's, which may write there too; the kernel copies and no reference is made.
            unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, flags | libc::MSG_DONTWAIT) }
        })
    }

    /// Peeks past `offset` bytes by copying them too.
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
        // Asked first: between the two calls the last bytes may come together with the end.
        let ended = self.has_ended();
        match self.receive(&mut vectors[..count], libc::MSG_PEEK)? {
            Some(bytes) if bytes > offset => Ok(Peeked::Bytes(bytes - offset)),
            Some(bytes) if bytes == offset && ended => Ok(Peeked::End),
            Some(_) | None => Ok(Peeked::Empty),
        }
    }

    /// Whether the other end has finished, whatever is still to be read.
    fn has_ended(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
        // SAFETY: one pollfd on this stack, and a time-out of zero.
        let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
        ready > 0 && poll.revents & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) != 0
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
        // A socket that connects to a port of its own host where nobody listens may be given that port, and meet itself.
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
        // The system moves its offset back by what was taken.
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
                // SAFETY: `message` names vectors on this stack, which point at pieces of memory that are mapped for as long as
                // `data` lives. The guest may write there meanwhile; the kernel copies and no reference is made.
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
        // Without lingering, close sends a reset. If it fails, the connection is closed in order: the best that is left.
        let _ = setsockopt(&self.socket, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
    }
}

const EMPTY_VECTORS: [libc::iovec; MAX_VECTORS] =
    [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MAX_VECTORS];

/// Vectors for the pieces of `span`, as far as they go; returns how many.
fn fill(vectors: &mut [libc::iovec], span: Span<'_, '_>) -> usize {
    let mut count = 0;
    for (vector, piece) in vectors.iter_mut().zip(span.pieces()) {
        vector.iov_base = piece.ptr_guard_mut().as_ptr().cast();
        vector.iov_len = piece.len();
        count += 1;
    }
    count
}

/// Repeats `call` while it is interrupted; nothing when it would block.
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

/// `SO_PEEK_OFF`: TCP has it since Linux 6.10, over IPv6 since 6.11.
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
