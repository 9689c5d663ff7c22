//! The User Datagram Protocol (RFC 768).

use std::net::SocketAddr;

use super::bytes::word;
use super::checksum::partial_checksum;
use super::ethernet::{ETHERNET_BYTES, Mac};
use super::ip::{UDP, write_ip};
use crate::devices::net::backend::Checksum;

const HEADER_BYTES: usize = 8;

/// A datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Udp<'a> {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    pub(crate) payload: &'a [u8],
}

impl<'a> Udp<'a> {
    /// Reads the datagram in the payload of a packet. Its checksum is ignored: the link loses nothing, and the guest
    /// may leave it out. Of several datagrams in one frame, the length is that of all.
    pub(crate) fn read(packet: &'a [u8]) -> Option<Self> {
        let length = usize::from(word(packet, 4)?);
        let payload = packet.get(HEADER_BYTES..length)?;
        Some(Self { source: word(packet, 0)?, destination: word(packet, 2)?, payload })
    }
}

/// Appends all headers of a datagram with `length` bytes of payload. The checksum is left to the guest; returns its
/// place.
pub(crate) fn write_udp_header(
    frame: &mut Vec<u8>,
    macs: (Mac, Mac),
    source: SocketAddr,
    destination: SocketAddr,
    length: usize,
) -> Checksum {
    let total = HEADER_BYTES + length;
    write_ip(frame, macs, source.ip(), destination.ip(), UDP, total);
    let start = frame.len();
    frame.extend(source.port().to_be_bytes());
    frame.extend(destination.port().to_be_bytes());
    frame.extend((total as u16).to_be_bytes());
    frame.extend(partial_checksum(source.ip(), destination.ip(), UDP, total).to_be_bytes());
    debug_assert!(start > ETHERNET_BYTES);
    Checksum { start: start as u16, offset: 6 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::wire::{Ip, checksum};

    #[test]
    fn a_datagram_is_read_as_it_was_written_and_its_checksum_can_be_completed() {
        for (source, destination) in [("10.0.0.1:53", "10.0.0.2:4000"), ("[fd00::1]:53", "[fd00::2]:4000")] {
            let (source, destination): (SocketAddr, SocketAddr) =
                (source.parse().unwrap(), destination.parse().unwrap());
            let mut frame = Vec::new();
            let place = write_udp_header(&mut frame, ([1; 6], [2; 6]), source, destination, 3);
            frame.extend(b"abc");
            let start = usize::from(place.start);
            let sum = checksum(&frame[start..], 0);
            frame[start + 6..start + 8].copy_from_slice(&sum.to_be_bytes());
            let packet = &frame[ETHERNET_BYTES..];
            let ip = if source.is_ipv4() { Ip::read_v4(packet) } else { Ip::read_v6(packet) }.unwrap();
            let udp = Udp::read(ip.payload).unwrap();
            assert_eq!((udp.source, udp.destination, udp.payload), (53, 4000, &b"abc"[..]));
            let all = crate::net::wire::pseudo_header(ip.source, ip.destination, UDP, 11);
            assert_eq!(checksum(ip.payload, all), 0);
        }
    }

    #[test]
    fn a_length_that_does_not_fit_is_refused() {
        for length in [0, 7, 12] {
            assert!(Udp::read(&[0, 1, 0, 2, 0, length, 0, 0, 1, 2, 3]).is_none());
        }
        assert_eq!(Udp::read(&[0, 1, 0, 2, 0, 10, 0, 0, 1, 2, 3]).unwrap().payload, [1, 2]);
    }
}
