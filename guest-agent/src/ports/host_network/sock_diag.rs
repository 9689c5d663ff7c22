//! The sockets of this network namespace that listen or receive datagrams, by netlink (`sock_diag(7)`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::sys::socket::SockProtocol;

use super::super::transport::Transport;
use crate::netlink::{Netlink, array, attributes};

const BY_FAMILY: u16 = 20;
/// `struct inet_diag_req_v2`, `struct inet_diag_msg`.
const QUERY_BYTES: usize = 56;
const SOCKET_BYTES: usize = 72;
const ONLY_IPV6: u16 = 11;
const CONTROL_GROUP: u16 = 21;
const LISTENS: u32 = 10;
const NO_CONNECTION: u32 = 7;

/// A socket that others can connect or send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) transport: Transport,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// Whether an IPv6 socket takes no IPv4.
    pub(super) only_ipv6: bool,
    /// Number of the control group whose process made it; 0 if the kernel does not report one.
    pub(super) control_group: u64,
}

/// A netlink socket for queries of sockets.
pub(super) struct SockDiag(Netlink);

impl SockDiag {
    pub(super) fn open() -> io::Result<Self> {
        Netlink::open(SockProtocol::NetlinkSockDiag).map(Self)
    }

    /// All listeners at present.
    ///
    /// # Errors
    /// The kernel refuses the query.
    pub(super) fn listeners(&mut self) -> io::Result<Vec<Listener>> {
        let mut found = Vec::new();
        for transport in [Transport::Tcp, Transport::Udp] {
            for family in [libc::AF_INET, libc::AF_INET6] {
                self.0.dump(BY_FAMILY, &query(transport, family), |body| found.extend(listener(transport, body)))?;
            }
        }
        Ok(found)
    }
}

fn query(transport: Transport, family: i32) -> Vec<u8> {
    let (number, states) = match transport {
        Transport::Tcp => (libc::IPPROTO_TCP, 1_u32 << LISTENS),
        Transport::Udp => (libc::IPPROTO_UDP, 1 << NO_CONNECTION),
    };
    let mut body = vec![family.cast_unsigned() as u8, number.cast_unsigned() as u8, 0, 0];
    body.extend(states.to_ne_bytes());
    body.resize(QUERY_BYTES, 0);
    body
}

/// Reads a `struct inet_diag_msg` and the attributes behind it.
fn listener(transport: Transport, body: &[u8]) -> Option<Listener> {
    let address = match i32::from(*body.first()?) {
        libc::AF_INET => Ipv4Addr::from(array::<4>(body, 8)?).into(),
        libc::AF_INET6 => Ipv6Addr::from(array::<16>(body, 8)?).into(),
        _ => return None,
    };
    let port = u16::from_be_bytes(array(body, 4)?);
    let mut listener = Listener { transport, address, port, only_ipv6: false, control_group: 0 };
    for (kind, value) in attributes(body.get(SOCKET_BYTES..)?) {
        match kind {
            ONLY_IPV6 => listener.only_ipv6 = value.first() == Some(&1),
            CONTROL_GROUP => listener.control_group = u64::from_ne_bytes(array(value, 0)?),
            _ => {}
        }
    }
    Some(listener)
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
        let mut diag = SockDiag::open().unwrap();
        let found = diag.listeners().unwrap();
        let has = |transport, address: std::net::SocketAddr| {
            found.iter().any(|listener| {
                (listener.transport, listener.address, listener.port) == (transport, address.ip(), address.port())
            })
        };
        assert!(has(Transport::Tcp, four.local_addr().unwrap()));
        assert!(has(Transport::Tcp, six.local_addr().unwrap()));
        assert!(has(Transport::Udp, datagrams.local_addr().unwrap()));
        assert!(!has(Transport::Udp, connected.local_addr().unwrap()));
        let address = four.local_addr().unwrap();
        drop(four);
        let found = diag.listeners().unwrap();
        assert!(!found.iter().any(|listener| listener.transport == Transport::Tcp && listener.port == address.port()));
    }

    #[test]
    fn attributes_name_the_control_group_and_whether_only_ipv6_is_taken() {
        let mut body = vec![0; SOCKET_BYTES];
        body[0] = libc::AF_INET6 as u8;
        body[4..6].copy_from_slice(&8080_u16.to_be_bytes());
        body.extend([5, 0, ONLY_IPV6 as u8, 0, 1, 0, 0, 0]);
        body.extend([12, 0, CONTROL_GROUP as u8, 0, 77, 0, 0, 0, 0, 0, 0, 0]);
        let found = listener(Transport::Tcp, &body).unwrap();
        assert_eq!((found.port, found.only_ipv6, found.control_group), (8080, true, 77));
        for cut in 0..SOCKET_BYTES {
            assert_eq!(listener(Transport::Tcp, &body[..cut]), None);
        }
    }
}
