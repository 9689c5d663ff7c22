//! Headers of IPv4 (RFC 791) and IPv6 (RFC 8200).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::bytes::word;
use super::checksum::checksum;
use super::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Mac, write_ethernet};

/// Protocol numbers (IANA, "Protocol Numbers").
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// Most extension headers of a packet that is read.
const MAX_EXTENSIONS: usize = 6;
const HOP_LIMIT: u8 = 64;

/// The place of a fragment in its packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Fragment {
    /// Common to all fragments of one packet.
    pub(crate) identification: u32,
    /// Bytes of payload before this fragment.
    pub(crate) offset: usize,
    /// Whether more fragments follow.
    pub(crate) more: bool,
}

/// A packet of either IP version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ip<'a> {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// Protocol of the payload, after IPv6's extension headers.
    pub(crate) protocol: u8,
    pub(crate) hop_limit: u8,
    /// Set if the payload is not whole.
    pub(crate) fragment: Option<Fragment>,
    pub(crate) payload: &'a [u8],
    /// The packet from its first byte on, for errors that quote it.
    pub(crate) packet: &'a [u8],
}

/// The header of a whole packet, read from its first bytes only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// Protocol after the first header.
    pub(crate) protocol: u8,
    pub(crate) header_bytes: usize,
    pub(crate) payload_bytes: usize,
}

impl Head {
    /// Reads the header of a packet of Ethernet type `kind` and `total` bytes, padding included. None for a fragment.
    pub(crate) fn read(kind: u16, bytes: &[u8], total: usize) -> Option<Self> {
        match kind {
            ETHERTYPE_IPV4 => {
                let header_bytes = usize::from(*bytes.first()? & 15) * 4;
                let header = bytes.get(..header_bytes)?;
                let length = usize::from(word(header, 2)?);
                let sound =
                    header[0] >> 4 == 4 && header_bytes >= IPV4_BYTES && (header_bytes..=total).contains(&length);
                if !sound || word(header, 6)? & 0x3fff != 0 || checksum(header, 0) != 0 {
                    return None;
                }
                let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
                Some(Self {
                    source: address(12).into(),
                    destination: address(16).into(),
                    protocol: header[9],
                    header_bytes,
                    payload_bytes: length - header_bytes,
                })
            }
            ETHERTYPE_IPV6 => {
                let header = bytes.first_chunk::<IPV6_BYTES>()?;
                let payload_bytes = usize::from(word(header, 4)?);
                if header[0] >> 4 != 6 || IPV6_BYTES + payload_bytes > total {
                    return None;
                }
                let address = |at: usize| {
                    let octets: Option<[u8; 16]> = header.get(at..at + 16)?.try_into().ok();
                    octets.map(|octets| IpAddr::V6(Ipv6Addr::from(octets)))
                };
                Some(Self {
                    source: address(8)?,
                    destination: address(24)?,
                    protocol: header[6],
                    header_bytes: IPV6_BYTES,
                    payload_bytes,
                })
            }
            _ => None,
        }
    }
}

impl<'a> Ip<'a> {
    /// Reads an IPv4 packet. Bytes after its length are padding.
    pub(crate) fn read_v4(packet: &'a [u8]) -> Option<Self> {
        let header = packet.first_chunk::<IPV4_BYTES>()?;
        let (length, header_bytes) = (usize::from(word(header, 2)?), usize::from(header[0] & 15) * 4);
        if header[0] >> 4 != 4 || header_bytes < IPV4_BYTES || length < header_bytes {
            return None;
        }
        let packet = packet.get(..length)?;
        let (header, payload) = packet.split_at(header_bytes);
        if checksum(header, 0) != 0 {
            return None;
        }
        let place = word(header, 6)?;
        let (more, offset) = (place & 0x2000 != 0, usize::from(place & 0x1fff) * 8);
        let fragment =
            (more || offset > 0).then_some(Fragment { identification: word(header, 4)?.into(), offset, more });
        let address = |at: usize| IpAddr::V4(Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]));
        Some(Self {
            source: address(12),
            destination: address(16),
            protocol: header[9],
            hop_limit: header[8],
            fragment,
            payload,
            packet,
        })
    }

    /// Reads an IPv6 packet. Bytes after its length are padding. Routing headers are not followed.
    pub(crate) fn read_v6(packet: &'a [u8]) -> Option<Self> {
        let header = packet.first_chunk::<IPV6_BYTES>()?;
        if header[0] >> 4 != 6 {
            return None;
        }
        let packet = packet.get(..IPV6_BYTES + usize::from(word(header, 4)?))?;
        let (mut protocol, mut payload, mut fragment) = (header[6], packet.get(IPV6_BYTES..)?, None);
        let mut extensions = 0;
        while matches!(protocol, HOP_BY_HOP | FRAGMENT | DESTINATION_OPTIONS) {
            extensions += 1;
            if extensions > MAX_EXTENSIONS || fragment.is_some() {
                return None;
            }
            let length = if protocol == FRAGMENT {
                let place = word(payload, 2)?;
                let identification = u32::from(word(payload, 4)?) << 16 | u32::from(word(payload, 6)?);
                let (offset, more) = (usize::from(place & !7), place & 1 != 0);
                // A packet of one fragment is whole (RFC 6946).
                fragment = (offset > 0 || more).then_some(Fragment { identification, offset, more });
                8
            } else {
                (usize::from(*payload.get(1)?) + 1) * 8
            };
            protocol = *payload.first()?;
            payload = payload.get(length..)?;
        }
        let address = |at: usize| -> Option<IpAddr> {
            let octets: [u8; 16] = header.get(at..at + 16)?.try_into().ok()?;
            Some(IpAddr::V6(Ipv6Addr::from(octets)))
        };
        let (source, destination) = (address(8)?, address(24)?);
        Some(Self { source, destination, protocol, hop_limit: header[7], fragment, payload, packet })
    }
}

/// Appends the Ethernet and IP headers of a packet with `length` bytes of payload. Both addresses are of the same IP
/// version.
pub(crate) fn write_ip(
    frame: &mut Vec<u8>,
    (from, to): (Mac, Mac),
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    length: usize,
) {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            write_ethernet(frame, to, from, ETHERTYPE_IPV4);
            let begin = frame.len();
            frame.extend([0x45, 0]);
            frame.extend(((IPV4_BYTES + length) as u16).to_be_bytes());
            // Fragmentation is allowed; a link that takes the packet whole needs no identification.
            frame.extend([0, 0, 0, 0, HOP_LIMIT, protocol, 0, 0]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
            let sum = checksum(&frame[begin..], 0);
            frame[begin + 10..begin + 12].copy_from_slice(&sum.to_be_bytes());
        }
        (source, destination) => {
            let octets = |address| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            write_ethernet(frame, to, from, ETHERTYPE_IPV6);
            frame.extend([0x60, 0, 0, 0]);
            frame.extend((length as u16).to_be_bytes());
            // Neighbour discovery accepts only messages from the link itself (RFC 4861, section 7.1).
            frame.extend([protocol, if protocol == super::ICMPV6 { 255 } else { HOP_LIMIT }]);
            frame.extend(octets(source));
            frame.extend(octets(destination));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::wire::{ETHERNET_BYTES, UDP};

    fn packet(source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        write_ip(&mut frame, ([1; 6], [2; 6]), source, destination, UDP, payload.len());
        frame.extend(payload);
        frame.split_off(ETHERNET_BYTES)
    }

    #[test]
    fn a_packet_is_read_as_it_was_written() {
        let bytes = packet("10.0.0.1", "10.0.0.2", b"hello");
        let read = Ip::read_v4(&bytes).unwrap();
        assert_eq!((read.payload, read.protocol, read.fragment), (&b"hello"[..], UDP, None));
        assert_eq!((read.source, read.destination), ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()));
        let bytes = packet("fd00::1", "fd00::2", b"hello");
        let read = Ip::read_v6(&bytes).unwrap();
        assert_eq!((read.payload, read.protocol, read.fragment), (&b"hello"[..], UDP, None));
        assert_eq!(read.destination, "fd00::2".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn padding_is_no_payload_and_missing_bytes_are_an_error() {
        let mut bytes = packet("10.0.0.1", "10.0.0.2", b"hello");
        bytes.extend([0; 20]);
        assert_eq!(Ip::read_v4(&bytes).unwrap().payload, b"hello");
        for length in 0..25 {
            assert!(Ip::read_v4(&bytes[..length]).is_none());
        }
        let bytes = packet("fd00::1", "fd00::2", b"hello");
        for length in 0..bytes.len() {
            assert!(Ip::read_v6(&bytes[..length]).is_none());
        }
    }

    #[test]
    fn a_damaged_header_is_refused() {
        let good = packet("10.0.0.1", "10.0.0.2", b"hello");
        for position in 0..20 {
            let mut bytes = good.clone();
            bytes[position] ^= 4;
            assert!(Ip::read_v4(&bytes).is_none(), "byte {position}");
        }
    }

    #[test]
    fn a_part_of_a_packet_says_where_it_belongs() {
        let mut bytes = packet("10.0.0.1", "10.0.0.2", b"hello");
        bytes[4..8].copy_from_slice(&[0, 7, 0x20, 2]);
        bytes[10..12].fill(0);
        let sum = checksum(&bytes[..20], 0);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        let expected = Fragment { identification: 7, offset: 16, more: true };
        assert_eq!(Ip::read_v4(&bytes).unwrap().fragment, Some(expected));

        let mut inside = vec![UDP, 0, 0, 0x11, 0, 1, 0, 2];
        inside.extend(b"hello");
        let mut bytes = packet("fd00::1", "fd00::2", &inside);
        bytes[6] = FRAGMENT;
        let read = Ip::read_v6(&bytes).unwrap();
        let expected = Fragment { identification: 0x1_0002, offset: 16, more: true };
        assert_eq!((read.fragment, read.payload, read.protocol), (Some(expected), &b"hello"[..], UDP));
    }

    #[test]
    fn endless_extension_headers_are_given_up() {
        let mut bytes = packet("fd00::1", "fd00::2", &[DESTINATION_OPTIONS, 0, 0, 0, 0, 0, 0, 0].repeat(20));
        bytes[6] = DESTINATION_OPTIONS;
        assert!(Ip::read_v6(&bytes).is_none());
    }
}
