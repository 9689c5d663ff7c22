//! The host's side of the muxer: the listening socket, unfinished handshakes, and what epoll watches.
//!
//! Stream sockets are registered once, edge triggered, for reading and writing together. A stream that cannot be served
//! (the guest has no receive buffer, or no credit) must not be read, and level triggering would report it again on
//! every wait unless its registration changed each time. With edges the registration never changes: the stream
//! remembers that its socket was readable or writable until a call would block, and only then waits for the next edge.
//! The listening socket and the eventfd are level triggered, because the device always drains them as far as it needs.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::socket::{self, SocketFile};

/// Identifies a socket in epoll and in the tables; never reused.
pub(super) type SocketId = u64;

/// The listening socket.
pub(super) const LISTENER: SocketId = 0;
/// The eventfd by which the device has itself called again.
pub(super) const AGAIN: SocketId = 1;
const FIRST_STREAM: SocketId = 2;

/// Most connections that have not sent `CONNECT` yet. The oldest makes way for a new one: a client that has been silent
/// for so long is not coming back and must not keep others out.
const MAX_HANDSHAKES: usize = 1024;
/// Longest first line: `CONNECT 4294967295\n` and some blanks.
const MAX_LINE_BYTES: usize = 32;

/// The state of a handshake.
pub(super) enum Handshake {
    /// The line has not arrived yet.
    Waiting,
    /// The host asks for this port of the guest.
    Connect(u32, UnixStream),
    /// The line is invalid, or the host has gone.
    Failed,
}

/// Sockets and the epoll instance that watches them.
#[derive(Debug)]
pub(super) struct Host {
    epoll: Epoll,
    again: EventFd,
    file: SocketFile,
    /// Not accepting for now: the process is out of descriptors, or the table out of room.
    paused: bool,
    handshakes: BTreeMap<SocketId, UnixStream>,
    next_id: SocketId,
}

impl Host {
    /// Listens at `path`.
    pub(super) fn listen(path: &Path) -> io::Result<Self> {
        let file = SocketFile::bind(path)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let again = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&file.listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        epoll.add(&again, EpollEvent::new(EpollFlags::EPOLLIN, AGAIN))?;
        Ok(Self { epoll, again, file, paused: false, handshakes: BTreeMap::new(), next_id: FIRST_STREAM })
    }

    pub(super) fn event_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// The events that are pending.
    pub(super) fn events<'e>(&self, space: &'e mut [EpollEvent]) -> io::Result<&'e [EpollEvent]> {
        match self.epoll.wait(space, EpollTimeout::ZERO) {
            Ok(count) => Ok(&space[..count]),
            // Nothing is lost: epoll reports it at the next wait.
            Err(Errno::EINTR) => Ok(&[]),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the epoll instance readable, so that the device is called again soon.
    pub(super) fn call_again(&self) {
        // Fails only if the counter is full; the descriptor is readable then.
        let _ = self.again.write(1);
    }

    /// Revokes [`call_again`](Self::call_again).
    pub(super) fn called_again(&self) {
        // Fails only if the counter is zero already.
        let _ = self.again.read();
    }

    /// Watches the socket of a stream.
    pub(super) fn watch(&mut self, socket: &UnixStream) -> io::Result<SocketId> {
        let events = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        self.epoll.add(socket, EpollEvent::new(events, self.next_id))?;
        self.next_id += 1;
        Ok(self.next_id - 1)
    }

    pub(super) fn handshakes(&self) -> usize {
        self.handshakes.len()
    }

    /// Drops all unfinished handshakes.
    pub(super) fn close_handshakes(&mut self) {
        self.handshakes.clear();
    }

    /// Accepts one waiting connection. None if none is left, or none can be accepted now. The second value reports
    /// whether an older handshake made way for it.
    pub(super) fn accept(&mut self) -> Option<(SocketId, bool)> {
        let socket = loop {
            match socket::accept(&self.file.listener) {
                Ok(socket) => break socket,
                Err(Errno::EINTR | Errno::ECONNABORTED) => {}
                Err(Errno::EAGAIN) => return None,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a vsock connection now; waiting until another one ends");
                    self.pause();
                    return None;
                }
            }
        };
        let id = match self.watch(&socket) {
            Ok(id) => id,
            Err(error) => {
                tracing::warn!(%error, "cannot watch a vsock connection of the host; it is closed");
                return None;
            }
        };
        let crowded = self.handshakes.len() >= MAX_HANDSHAKES;
        if crowded {
            self.handshakes.pop_first();
        }
        self.handshakes.insert(id, socket);
        Some((id, crowded))
    }

    /// Stops accepting. Clients that wait are not lost.
    pub(super) fn pause(&mut self) {
        if !self.paused {
            self.paused = self.epoll.delete(&self.file.listener).is_ok();
        }
    }

    /// Accepts again.
    pub(super) fn resume(&mut self) {
        if self.paused {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, LISTENER);
            self.paused = self.epoll.add(&self.file.listener, event).is_err();
        }
    }

    /// Checks whether the handshake `id` is complete; `ended` means that no more bytes can arrive. None if there is no
    /// such handshake.
    ///
    /// Peeks at the line first and then takes exactly the line: what the host sent after it stays in the socket, as the
    /// beginning of the stream.
    pub(super) fn handshake(&mut self, id: SocketId, ended: bool) -> Option<Handshake> {
        let socket = self.handshakes.get(&id)?;
        let mut bytes = [0; MAX_LINE_BYTES];
        let length = match socket::peek(socket, &mut bytes) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !ended => return Some(Handshake::Waiting),
            Err(_) => 0,
        };
        let line = bytes[..length].split_inclusive(|&byte| byte == b'\n').next().filter(|line| line.ends_with(b"\n"));
        match line {
            None if length > 0 && length < MAX_LINE_BYTES && !ended => return Some(Handshake::Waiting),
            None => {}
            Some(line) => {
                if let (Some(port), Some(socket)) = (requested_port(line), self.handshakes.remove(&id)) {
                    let mut taken = [0; MAX_LINE_BYTES];
                    if io::Read::read(&mut &socket, &mut taken[..line.len()]).is_ok_and(|bytes| bytes == line.len()) {
                        return Some(Handshake::Connect(port, socket));
                    }
                }
            }
        }
        self.handshakes.remove(&id);
        Some(Handshake::Failed)
    }
}

/// The port of a `CONNECT <port>` line.
pub(super) fn requested_port(line: &[u8]) -> Option<u32> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let ("CONNECT", port, None) = (words.next()?, words.next()?, words.next()) else { return None };
    // `parse` would accept a sign.
    port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::requested_port;

    #[test]
    fn only_a_connect_line_names_a_port() {
        assert_eq!(requested_port(b"CONNECT 1024\n"), Some(1024));
        assert_eq!(requested_port(b"CONNECT 4294967295\r\n"), Some(u32::MAX));
        for line in
            ["CONNECT\n", "CONNECT 1 2\n", "connect 1\n", "CONNECT +1\n", "CONNECT -1\n", "CONNECT 4294967296\n", "\n"]
        {
            assert_eq!(requested_port(line.as_bytes()), None, "{line:?}");
        }
        assert_eq!(requested_port(b"CONNECT \xff\n"), None);
    }
}
