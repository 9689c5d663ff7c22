//! Descriptors that come with the bytes of a Unix socket (unix(7), `SCM_RIGHTS`).

use std::collections::VecDeque;
use std::io::{self, IoSliceMut, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// Most descriptors in one message.
const MAX_PER_MESSAGE: usize = 4;
/// Most descriptors that wait to be taken; more end the connection.
const MAX_WAITING: usize = 16;

/// Reads a connection and keeps its descriptors in their order. A descriptor never comes after the line it belongs to,
/// but may come earlier, with lines that have none.
#[derive(Debug)]
pub(crate) struct Receiver<'a> {
    connection: &'a UnixStream,
    waiting: VecDeque<OwnedFd>,
}

impl<'a> Receiver<'a> {
    pub(crate) fn new(connection: &'a UnixStream) -> Self {
        Self { connection, waiting: VecDeque::new() }
    }

    /// Takes the oldest descriptor.
    pub(crate) fn take(&mut self) -> Option<OwnedFd> {
        self.waiting.pop_front()
    }
}

impl Read for Receiver<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let received = receive::<MAX_PER_MESSAGE>(self.connection, buffer, &mut self.waiting)?;
        if self.waiting.len() > MAX_WAITING {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "more descriptors came than requests that need one",
            ));
        }
        Ok(received.bytes)
    }
}

/// What one call received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) bytes: usize,
    /// Whether more descriptors came than a message may have; the system has closed the rest.
    pub(crate) truncated: bool,
}

/// Reads available bytes into `buffer` and adds the descriptors that came with them, at most `MAX` per message, to
/// `descriptors`.
pub(crate) fn receive<const MAX: usize>(
    from: &UnixStream,
    buffer: &mut [u8],
    descriptors: &mut impl Extend<OwnedFd>,
) -> io::Result<Received> {
    let mut space = cmsg_space!([RawFd; MAX]);
    let mut vectors = [IoSliceMut::new(buffer)];
    let message = loop {
        match recvmsg::<()>(from.as_raw_fd(), &mut vectors, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    for entry in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = entry {
            // SAFETY: the system has just made these descriptors for this message, and nothing else knows their
            // numbers.
            descriptors.extend(received.into_iter().map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }));
        }
    }
    Ok(Received { bytes: message.bytes, truncated: message.flags.contains(MsgFlags::MSG_CTRUNC) })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, IoSlice, Write};

    use nix::sys::socket::{ControlMessage, sendmsg};

    use super::*;

    fn send(to: &UnixStream, text: &str, descriptor: &impl AsRawFd) {
        let descriptors = [descriptor.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&descriptors)];
        sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(text.as_bytes())], &rights, MsgFlags::empty(), None).unwrap();
    }

    #[test]
    fn a_descriptor_comes_with_its_line_and_is_the_senders() {
        let (mut sender, connection) = UnixStream::pair().unwrap();
        let (mut far, near) = UnixStream::pair().unwrap();
        sender.write_all(b"first\n").unwrap();
        send(&sender, "second\n", &near);
        drop(near);
        let mut lines = BufReader::new(Receiver::new(&connection));
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "first\n");
        line.clear();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "second\n");
        let mut received = UnixStream::from(lines.get_mut().take().unwrap());
        far.write_all(b"x").unwrap();
        let mut byte = [0];
        received.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        let flags = nix::fcntl::fcntl(&received, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_ne!(flags & libc::FD_CLOEXEC, 0, "programs would inherit it");
    }

    #[test]
    fn descriptors_that_are_not_taken_end_the_connection() {
        let (sender, connection) = UnixStream::pair().unwrap();
        let mut receiver = Receiver::new(&connection);
        let end = (0..=MAX_WAITING).find_map(|_| {
            send(&sender, "x", &sender);
            receiver.read(&mut [0]).err()
        });
        assert_eq!(end.unwrap().kind(), io::ErrorKind::InvalidData);
    }
}
