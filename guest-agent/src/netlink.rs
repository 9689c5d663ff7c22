//! Messages to and from the kernel (netlink(7)), for every netlink protocol.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 1;
/// `NLM_F_ACK`: the kernel acknowledges the request.
const ACKNOWLEDGE: u16 = 4;
/// `NLM_F_DUMP`: the request is for all objects.
const DUMP: u16 = 0x300;
const HEADER_BYTES: usize = 16;
/// The kernel writes at most this many bytes at once.
const ANSWER_BYTES: usize = 32 * 1024;

/// A socket of one of netlink's protocols.
pub(crate) struct Netlink {
    socket: OwnedFd,
    /// Number of the last request.
    sequence: u32,
}

impl Netlink {
    pub(crate) fn open(protocol: SockProtocol) -> io::Result<Self> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Has the kernel do something.
    ///
    /// # Errors
    /// The kernel's error.
    pub(crate) fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.send(kind, REQUEST | ACKNOWLEDGE | flags, body)?;
        self.receive(|_| {})
    }

    /// Requests all objects of a kind and passes the body of each message to `take`.
    ///
    /// # Errors
    /// The kernel refuses the request.
    pub(crate) fn dump(&mut self, kind: u16, body: &[u8], mut take: impl FnMut(&[u8])) -> io::Result<()> {
        self.send(kind, REQUEST | DUMP, body)?;
        self.receive(|message| {
            if message.kind == kind {
                take(message.body);
            }
        })
    }

    fn send(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = HEADER_BYTES + body.len();
        let mut message = Vec::with_capacity(bytes);
        message.extend((bytes as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        // The kernel needs no sender's address.
        message.extend(0_u32.to_ne_bytes());
        message.extend(body);
        sendto(self.socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        Ok(())
    }

    /// Reads the answer to the last request to its end.
    fn receive(&self, mut take: impl FnMut(&Message<'_>)) -> io::Result<()> {
        let mut answer = vec![0; ANSWER_BYTES];
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            for message in messages(&answer[..length]).filter(|message| message.sequence == self.sequence) {
                match message.verdict() {
                    Some(0) => return Ok(()),
                    Some(error) => return Err(io::Error::from_raw_os_error(error)),
                    None => take(&message),
                }
            }
        }
    }
}

/// A message from the kernel.
struct Message<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

impl Message<'_> {
    /// The error number that ends an answer, or 0 for success; `None` for any other message.
    fn verdict(&self) -> Option<i32> {
        match self.kind {
            DONE => Some(0),
            ERROR => Some(array(self.body, 0).map_or(libc::EPROTO, |bytes| i32::from_ne_bytes(bytes).wrapping_neg())),
            _ => None,
        }
    }
}

/// The messages of one datagram, up to one that is truncated.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(array(datagram, 0)?) as usize;
        let kind = u16::from_ne_bytes(array(datagram, 4)?);
        let sequence = u32::from_ne_bytes(array(datagram, 8)?);
        let body = datagram.get(HEADER_BYTES..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, sequence, body })
    })
}

/// Adds an attribute of 4 or 16 bytes to the body of a request, which keeps the next one aligned.
pub(crate) fn add_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend(((value.len() + 4) as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
}

/// The attributes in a part of a body: the kind and value of each.
pub(crate) fn attributes(mut part: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(array(part, 0)?));
        let kind = u16::from_ne_bytes(array(part, 2)?);
        let value = part.get(4..length)?;
        part = part.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The bytes from `at`; `None` if there are too few.
pub(crate) fn array<const BYTES: usize>(bytes: &[u8], at: usize) -> Option<[u8; BYTES]> {
    bytes.get(at..at + BYTES)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER_BYTES + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn the_messages_of_a_datagram_are_separated_and_a_truncated_one_ends_it() {
        let datagram = [message(20, 7, b"first"), message(21, 8, b""), message(ERROR, 7, &[0; 4])].concat();
        let read = |bytes: usize| -> Vec<_> {
            messages(&datagram[..bytes]).map(|message| (message.kind, message.sequence, message.body.len())).collect()
        };
        assert_eq!(read(datagram.len()), [(20, 7, 5), (21, 8, 0), (ERROR, 7, 4)]);
        assert_eq!(read(datagram.len() - 1), [(20, 7, 5), (21, 8, 0)]);
        for bytes in 0..21 {
            assert!(read(bytes).is_empty(), "{bytes}");
        }
    }

    #[test]
    fn the_kernels_verdict_is_read() {
        let verdict = |kind, body: &[u8]| Message { kind, sequence: 1, body }.verdict();
        assert_eq!(verdict(ERROR, &(-libc::EPERM).to_ne_bytes()), Some(libc::EPERM));
        assert_eq!(verdict(ERROR, &[0; 4]), Some(0));
        assert_eq!(verdict(ERROR, &[0; 3]), Some(libc::EPROTO));
        assert_eq!(verdict(DONE, &[]), Some(0));
        assert_eq!(verdict(20, &[0; 4]), None);
    }

    #[test]
    fn attributes_are_read_as_they_were_added() {
        let mut body = Vec::new();
        add_attribute(&mut body, 5, &[1; 4]);
        add_attribute(&mut body, 9, &[2; 16]);
        let read: Vec<_> = attributes(&body).map(|(kind, value)| (kind, value.len())).collect();
        assert_eq!(read, [(5, 4), (9, 16)]);
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0, "shorter than its own header");
    }
}
