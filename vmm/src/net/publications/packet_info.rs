//! Datagrams with the host's address they arrived at (`IP_PKTINFO`, ip(7); `IPV6_PKTINFO`, RFC 3542). A socket bound to
//! every address must answer from that one, or the client does not recognize the answer.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrLike, SockaddrStorage, recvmsg,
    sendmsg, setsockopt, sockopt,
};

/// Requests the addresses of arriving datagrams from the system, if `socket` is bound to every address. Returns whether
/// it is.
pub(super) fn ask_for_it(socket: &UdpSocket) -> io::Result<bool> {
    let bound = socket.local_addr()?;
    if !bound.ip().is_unspecified() {
        return Ok(false);
    }
    if bound.is_ipv4() {
        setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
    } else {
        setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    }
    Ok(true)
}

/// Receives a datagram: its length in bytes, its sender, and the address it arrived at, if the system reports that.
pub(super) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, Option<IpAddr>)> {
    let mut space = cmsg_space!(libc::in6_pktinfo);
    let mut vectors = [IoSliceMut::new(buffer)];
    let received =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut vectors, Some(&mut space), MsgFlags::MSG_DONTWAIT)?;
    let local = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(IpAddr::V4(Ipv4Addr::from_bits(u32::from_be(info.ipi_addr.s_addr))))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::V6(info.ipi6_addr.s6_addr.into())),
        _ => None,
    });
    let sender = received.address.as_ref().and_then(address).ok_or(io::ErrorKind::InvalidData)?;
    Ok((received.bytes, sender, local))
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| SocketAddr::V4(SocketAddrV4::from(*v4)));
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| SocketAddr::V6(SocketAddrV6::from(*v6))))
}

/// Sends a datagram, from the address `local` if there is one.
pub(super) fn send(socket: &UdpSocket, datagram: &[u8], to: SocketAddr, local: Option<IpAddr>) -> io::Result<()> {
    match to {
        SocketAddr::V4(to) => send_to(socket, datagram, &SockaddrIn::from(to), local),
        SocketAddr::V6(to) => send_to(socket, datagram, &SockaddrIn6::from(to), local),
    }
}

fn send_to(socket: &UdpSocket, datagram: &[u8], to: &impl SockaddrLike, local: Option<IpAddr>) -> io::Result<()> {
    let vectors = [IoSlice::new(datagram)];
    let (v4, v6);
    let from = match local {
        None => None,
        Some(IpAddr::V4(address)) => {
            let address = libc::in_addr { s_addr: address.to_bits().to_be() };
            v4 = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: libc::in_addr { s_addr: 0 } };
            Some(ControlMessage::Ipv4PacketInfo(&v4))
        }
        Some(IpAddr::V6(address)) => {
            v6 = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: address.octets() }, ipi6_ifindex: 0 };
            Some(ControlMessage::Ipv6PacketInfo(&v6))
        }
    };
    let messages = from.as_slice();
    sendmsg(socket.as_raw_fd(), &vectors, messages, MsgFlags::MSG_DONTWAIT, Some(to))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_answer_comes_from_the_address_that_was_asked() {
        let server = UdpSocket::bind("0.0.0.0:0").unwrap();
        assert!(ask_for_it(&server).unwrap());
        let port = server.local_addr().unwrap().port();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        // Connected, so that it takes answers from there only.
        client.connect(("127.0.0.9", port)).unwrap();
        client.send(b"ask").unwrap();
        let mut buffer = [0; 16];
        let (length, from, local) = receive(&server, &mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"ask"[..], client.local_addr().unwrap()));
        assert_eq!(local, Some(Ipv4Addr::new(127, 0, 0, 9).into()));
        send(&server, b"answer", from, local).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 6);
        let again = receive(&server, &mut buffer).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_socket_of_one_address_needs_no_telling() {
        let Ok(server) = UdpSocket::bind("[::1]:0") else { return };
        assert!(!ask_for_it(&server).unwrap());
        let client = UdpSocket::bind("[::1]:0").unwrap();
        client.send_to(b"", server.local_addr().unwrap()).unwrap();
        let (length, from, local) = receive(&server, &mut [0; 4]).unwrap();
        assert_eq!((length, from, local), (0, client.local_addr().unwrap(), None));
        send(&server, b"", from, None).unwrap();
        assert_eq!(client.recv(&mut [0; 4]).unwrap(), 0);
    }
}
