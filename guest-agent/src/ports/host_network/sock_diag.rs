//! The sockets of this network namespace that listen or take datagrams, by netlink (`sock_diag(7)`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

use super::super::request::Protocol;

const BY_FAMILY: u16 = 20;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// A request for all there are.
const REQUEST_DUMP: u16 = 1 | 0x300;
const HEADER_BYTES: usize = 16;
/// `struct inet_diag_req_v2`, `struct inet_diag_msg`.
const QUESTION_BYTES: usize = 56;
const SOCKET_BYTES: usize = 72;
const ONLY_IPV6: u16 = 11;
const CONTROL_GROUP: u16 = 21;
const LISTENS: u32 = 10;
const NO_CONNECTION: u32 = 7;
/// The kernel fills at most this much at once.
const ANSWER_BYTES: usize = 32 * 1024;

/// A socket that others can begin to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) protocol: Protocol,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// One of IPv6 that takes no IPv4.
    pub(super) only_ipv6: bool,
    /// Number of the control group whose process made it; 0 when the kernel does not say.
    pub(super) control_group: u64,
}

/// A netlink socket for such questions.
pub(super) struct SockDiag(OwnedFd);

impl SockDiag {
    pub(super) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        Ok(Self(socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkSockDiag)?))
    }

    /// All listeners there are now.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub(super) fn listeners(&self) -> io::Result<Vec<Listener>> {
        let mut found = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for family in [libc::AF_INET, libc::AF_INET6] {
                self.dump(protocol, family, &mut found)?;
            }
        }
        Ok(found)
    }

    fn dump(&self, protocol: Protocol, family: i32, found: &mut Vec<Listener>) -> io::Result<()> {
        sendto(self.0.as_raw_fd(), &question(protocol, family), &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut answer = vec![0; ANSWER_BYTES];
        loop {
            let length = match recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            for (kind, body) in messages(&answer[..length]) {
                match kind {
                    DONE => return Ok(()),
                    ERROR => return Err(refusal(body)),
                    BY_FAMILY => found.extend(listener(protocol, body)),
                    _ => {}
                }
            }
        }
    }
}

fn question(protocol: Protocol, family: i32) -> Vec<u8> {
    let (number, states) = match protocol {
        Protocol::Tcp => (libc::IPPROTO_TCP, 1_u32 << LISTENS),
        Protocol::Udp => (libc::IPPROTO_UDP, 1 << NO_CONNECTION),
    };
    let bytes = HEADER_BYTES + QUESTION_BYTES;
    let mut message = Vec::with_capacity(bytes);
    message.extend((bytes as u32).to_ne_bytes());
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(REQUEST_DUMP.to_ne_bytes());
    // Neither a sequence nor a sender: one question at a time.
    message.extend([0; 8]);
    message.extend([family.cast_unsigned() as u8, number.cast_unsigned() as u8, 0, 0]);
    message.extend(states.to_ne_bytes());
    message.resize(bytes, 0);
    message
}

/// The messages of a datagram of netlink, each its kind and body.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(array(datagram, 0)?) as usize;
        let kind = u16::from_ne_bytes(array(datagram, 4)?);
        let body = datagram.get(HEADER_BYTES..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

fn refusal(body: &[u8]) -> io::Error {
    let number = array(body, 0).map_or(libc::EPROTO, |bytes| i32::from_ne_bytes(bytes).wrapping_neg());
    io::Error::from_raw_os_error(number)
}

/// Reads a `struct inet_diag_msg` and the attributes behind it.
fn listener(protocol: Protocol, body: &[u8]) -> Option<Listener> {
    let address = match i32::from(*body.first()?) {
        libc::AF_INET => Ipv4Addr::from(array::<4>(body, 8)?).into(),
        libc::AF_INET6 => Ipv6Addr::from(array::<16>(body, 8)?).into(),
        _ => return None,
    };
    let port = u16::from_be_bytes(array(body, 4)?);
    let mut listener = Listener { protocol, address, port, only_ipv6: false, control_group: 0 };
    let mut attributes = body.get(SOCKET_BYTES..)?;
    while let (Some(length), Some(kind)) = (array(attributes, 0), array(attributes, 2)) {
        let length = usize::from(u16::from_ne_bytes(length));
        let Some(value) = attributes.get(4..length) else { break };
        match u16::from_ne_bytes(kind) {
            ONLY_IPV6 => listener.only_ipv6 = value.first() == Some(&1),
            CONTROL_GROUP => listener.control_group = u64::from_ne_bytes(array(value, 0)?),
            _ => {}
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(listener)
}

fn array<const BYTES: usize>(bytes: &[u8], at: usize) -> Option<[u8; BYTES]> {
    bytes.get(at..at + BYTES)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn what_listens_is_found_and_what_does_not_is_not() {
        let four = TcpListener::bind("127.0.0.1:0").unwrap();
        let six = TcpListener::bind("[::1]:0").unwrap();
        let datagrams = UdpSocket::bind("0.0.0.0:0").unwrap();
        let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
        connected.connect(four.local_addr().unwrap()).unwrap();
        let diag = SockDiag::open().unwrap();
        let found = diag.listeners().unwrap();
        let has = |protocol, address: std::net::SocketAddr| {
            found.iter().any(|listener| {
                (listener.protocol, listener.address, listener.port) == (protocol, address.ip(), address.port())
            })
        };
        assert!(has(Protocol::Tcp, four.local_addr().unwrap()));
        assert!(has(Protocol::Tcp, six.local_addr().unwrap()));
        assert!(has(Protocol::Udp, datagrams.local_addr().unwrap()));
        assert!(!has(Protocol::Udp, connected.local_addr().unwrap()));
        let address = four.local_addr().unwrap();
        drop(four);
        let found = diag.listeners().unwrap();
        assert!(!found.iter().any(|listener| listener.protocol == Protocol::Tcp && listener.port == address.port()));
    }

    #[test]
    fn attributes_tell_control_group_and_the_one_family() {
        let mut body = vec![0; SOCKET_BYTES];
        body[0] = libc::AF_INET6 as u8;
        body[4..6].copy_from_slice(&8080_u16.to_be_bytes());
        body.extend([5, 0, ONLY_IPV6 as u8, 0, 1, 0, 0, 0]);
        body.extend([12, 0, CONTROL_GROUP as u8, 0, 77, 0, 0, 0, 0, 0, 0, 0]);
        let found = listener(Protocol::Tcp, &body).unwrap();
        assert_eq!((found.port, found.only_ipv6, found.control_group), (8080, true, 77));
        for cut in 0..SOCKET_BYTES {
            assert_eq!(listener(Protocol::Tcp, &body[..cut]), None);
        }
    }
}
