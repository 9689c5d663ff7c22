//! What is on the wire: headers read from untrusted bytes, and written.
//!
//! Reading returns None for whatever is not valid and never looks beyond its bytes. Writing appends to a frame.

mod arp;
mod icmp;
mod ip;
mod neighbour;
mod split;
mod udp;

pub(crate) use self::arp::Arp;
pub(crate) use self::icmp::{Echo, Unreachable, unreachable};
pub(crate) use self::ip::{Fragment, Head, Ip, write_ip};
pub(crate) use self::neighbour::{advertise_neighbour, solicited_neighbour};
pub(crate) use self::split::split;
pub(crate) use self::udp::{Udp, write_udp_header};

use std::net::IpAddr;

/// A hardware address.
pub(crate) type Mac = [u8; 6];

/// Bytes of an Ethernet header.
pub(crate) const ETHERNET_BYTES: usize = 14;
pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// An Ethernet frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ethernet<'a> {
    pub(crate) destination: Mac,
    pub(crate) source: Mac,
    pub(crate) kind: u16,
    pub(crate) payload: &'a [u8],
}

impl<'a> Ethernet<'a> {
    pub(crate) fn read(frame: &'a [u8]) -> Option<Self> {
        let (header, payload) = frame.split_first_chunk::<ETHERNET_BYTES>()?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, k0, k1] = *header;
        let (destination, source) = ([d0, d1, d2, d3, d4, d5], [s0, s1, s2, s3, s4, s5]);
        Some(Self { destination, source, kind: u16::from_be_bytes([k0, k1]), payload })
    }
}

/// Appends an Ethernet header.
pub(crate) fn write_ethernet(frame: &mut Vec<u8>, destination: Mac, source: Mac, kind: u16) {
    frame.extend(destination);
    frame.extend(source);
    frame.extend(kind.to_be_bytes());
}

/// The ones' complement sum of 16-bit words (RFC 1071), not folded; an odd last byte counts as the upper one.
fn sum(bytes: &[u8], initial: u64) -> u64 {
    let mut sum = initial;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        sum += u64::from(u32::from_be_bytes(*word));
    }
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum + u64::from(u32::from_be_bytes(last))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The Internet checksum of `bytes` and what was summed before; 0 when `bytes` hold a right one.
pub(crate) fn checksum(bytes: &[u8], initial: u64) -> u16 {
    !fold(sum(bytes, initial))
}

/// Sum of the pseudo header that checksums of transports begin with.
pub(crate) fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> u64 {
    let of = |address| match address {
        IpAddr::V4(address) => sum(&address.octets(), 0),
        IpAddr::V6(address) => sum(&address.octets(), 0),
    };
    of(source) + of(destination) + u64::from(protocol) + length as u64
}

/// The same, folded: what stands in the place of a checksum that is left to the other side.
pub(crate) fn partial_checksum(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> u16 {
    fold(pseudo_header(source, destination, protocol, length))
}

/// Big-endian 16 bits at `at`.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes([pair[0], pair[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_the_standards_example_is_right() {
        // RFC 1071, section 3.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&bytes, 0), !0xddf2);
        let mut whole = bytes.to_vec();
        whole.extend(checksum(&bytes, 0).to_be_bytes());
        assert_eq!(checksum(&whole, 0), 0);
        // An odd byte is the upper half of a word.
        assert_eq!(checksum(&[0x12], 0), !0x1200);
        assert_eq!(checksum(&[1, 2, 3], 0), checksum(&[1, 2, 3, 0], 0));
    }

    #[test]
    fn a_frame_shorter_than_its_header_is_none() {
        assert!(Ethernet::read(&[0; 13]).is_none());
        let frame = Ethernet::read(&[1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 8, 0]).unwrap();
        assert_eq!((frame.destination, frame.source, frame.kind), ([1; 6], [2; 6], ETHERTYPE_IPV4));
        assert!(frame.payload.is_empty());
    }
}
