//! How a query reaches a resolver of the host: one socket for each query.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

use crate::net::sockets::{SocketId, Sockets};
use crate::net::wire::word;

/// A socket connected to a resolver of the host, with one query on its way.
#[derive(Debug)]
pub(super) enum Upstream {
    Datagram(UdpSocket),
    Stream { socket: TcpStream, unsent: Vec<u8>, received: Vec<u8> },
}

impl Upstream {
    /// Sends `query` to `resolver` in a datagram.
    pub(super) fn by_datagram(resolver: SocketAddr, query: &[u8]) -> io::Result<Self> {
        let any: SocketAddr =
            if resolver.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        socket.connect(resolver)?;
        socket.send(query)?;
        Ok(Self::Datagram(socket))
    }

    /// Begins a connection to `resolver`, over which `query` will be sent.
    pub(super) fn by_stream(resolver: SocketAddr, query: &[u8]) -> io::Result<Self> {
        let family = if resolver.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
        match connect(socket.as_raw_fd(), &SockaddrStorage::from(resolver)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let mut unsent = (query.len() as u16).to_be_bytes().to_vec();
        unsent.extend(query);
        Ok(Self::Stream { socket: socket.into(), unsent, received: Vec::new() })
    }

    pub(super) fn is_stream(&self) -> bool {
        matches!(self, Self::Stream { .. })
    }

    /// Registers the socket with `sockets`.
    pub(super) fn watch(&self, sockets: &mut Sockets) -> io::Result<SocketId> {
        match self {
            Self::Datagram(socket) => sockets.watch(socket),
            Self::Stream { socket, .. } => sockets.watch_stream(socket),
        }
    }

    /// The next message, if one has arrived.
    pub(super) fn take<'b>(&mut self, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        match self {
            Self::Datagram(socket) => match retried(|| socket.recv(buffer)) {
                Ok(length) => Ok(Some(&buffer[..length])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(error),
            },
            Self::Stream { socket, unsent, received } => {
                if let Some(error) = socket.take_error()? {
                    return Err(error);
                }
                while !unsent.is_empty() {
                    match retried(|| socket.write(unsent)) {
                        Ok(length) => drop(unsent.drain(..length)),
                        Err(error)
                            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) =>
                        {
                            return Ok(None);
                        }
                        Err(error) => return Err(error),
                    }
                }
                loop {
                    match retried(|| socket.read(buffer)) {
                        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                        Ok(length) => received.extend(&buffer[..length]),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                        Err(error) => return Err(error),
                    }
                    // Only one message was asked for.
                    if let Some(length) = word(received, 0).map(usize::from)
                        && let Some(message) = received.get(2..2 + length)
                    {
                        buffer[..length].copy_from_slice(message);
                        return Ok(Some(&buffer[..length]));
                    }
                }
            }
        }
    }
}

/// Repeats `call` while it is interrupted.
fn retried<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
