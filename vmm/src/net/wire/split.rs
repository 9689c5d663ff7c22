//! Fragments of packets, for a link or path that does not take them whole (RFC 791, section 3.2; RFC 8200, section
//! 4.5).

use super::checksum::checksum;
use super::ethernet::ETHERNET_BYTES;

const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const FRAGMENT_HEADER_BYTES: usize = 8;
const FRAGMENT: u8 = 44;
const MORE_V4: usize = 0x2000;

/// Cuts the packet in `frame` into frames with packets of at most `max_packet` bytes. [`write_ip`](super::write_ip)
/// must have written its header, and its checksum must be complete.
pub(crate) fn split(frame: &[u8], max_packet: usize, identification: u32) -> Vec<Vec<u8>> {
    let v4 = frame.get(ETHERNET_BYTES).is_some_and(|first| first >> 4 == 4);
    let header_bytes = ETHERNET_BYTES + if v4 { IPV4_BYTES } else { IPV6_BYTES };
    let Some((header, payload)) = frame.split_at_checked(header_bytes) else { return Vec::new() };
    let overhead = header_bytes - ETHERNET_BYTES + if v4 { 0 } else { FRAGMENT_HEADER_BYTES };
    // Offsets count in units of eight bytes.
    let part_bytes = (max_packet.saturating_sub(overhead) & !7).max(8);
    let part = |(number, part): (usize, &[u8])| {
        let offset = number * part_bytes;
        let more = offset + part.len() < payload.len();
        let place = Place { identification, offset, more };
        let mut bytes = header.to_vec();
        if v4 {
            place.write_v4(&mut bytes, part.len());
        } else {
            place.write_v6(&mut bytes, part.len());
        }
        bytes.extend(part);
        bytes
    };
    payload.chunks(part_bytes).enumerate().map(part).collect()
}

struct Place {
    identification: u32,
    offset: usize,
    more: bool,
}

impl Place {
    fn write_v4(&self, bytes: &mut [u8], length: usize) {
        let header = &mut bytes[ETHERNET_BYTES..];
        let place = (self.offset / 8) | if self.more { MORE_V4 } else { 0 };
        header[2..4].copy_from_slice(&((IPV4_BYTES + length) as u16).to_be_bytes());
        header[4..6].copy_from_slice(&(self.identification as u16).to_be_bytes());
        header[6..8].copy_from_slice(&(place as u16).to_be_bytes());
        header[10..12].fill(0);
        let sum = checksum(header, 0);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }

    fn write_v6(&self, bytes: &mut Vec<u8>, length: usize) {
        let header = &mut bytes[ETHERNET_BYTES..];
        header[4..6].copy_from_slice(&((FRAGMENT_HEADER_BYTES + length) as u16).to_be_bytes());
        let protocol = std::mem::replace(&mut header[6], FRAGMENT);
        bytes.extend([protocol, 0]);
        bytes.extend(((self.offset | usize::from(self.more)) as u16).to_be_bytes());
        bytes.extend(self.identification.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::net::fragments::Fragments;
    use crate::net::wire::{Ip, UDP, write_ip};

    #[test]
    fn the_parts_of_a_packet_make_it_whole_again() {
        for (source, destination) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            for (length, max) in [(65_515, 65_520), (65_515, 1500), (3000, 1280), (1281, 1280)] {
                let payload: Vec<u8> = (0..length).map(|number| (number % 251) as u8).collect();
                let mut frame = Vec::new();
                let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
                write_ip(&mut frame, ([1; 6], [2; 6]), source, destination, UDP, length);
                frame.extend(&payload);
                let parts = split(&frame, max, 7);
                assert!(parts.len() >= 2);
                let mut fragments = Fragments::default();
                let mut whole = None;
                for part in &parts {
                    let packet = &part[ETHERNET_BYTES..];
                    assert!(packet.len() <= max, "{} of {max}", packet.len());
                    let read = if source.is_ipv4() { Ip::read_v4(packet) } else { Ip::read_v6(packet) }.unwrap();
                    assert_eq!((read.source, read.destination, read.protocol), (source, destination, UDP));
                    whole = fragments.add(&read, read.fragment.unwrap(), Instant::now());
                }
                assert!(whole.unwrap() == payload);
            }
        }
    }

    #[test]
    fn what_is_no_packet_has_no_parts() {
        assert!(split(&[0; 20], 1500, 1).is_empty());
        assert!(split(&[], 1500, 1).is_empty());
    }
}
