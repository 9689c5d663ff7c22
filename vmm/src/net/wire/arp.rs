//! The Address Resolution Protocol for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use super::ethernet::{ETHERTYPE_ARP, Mac, write_ethernet};

const REQUEST: u16 = 1;
const REPLY: u16 = 2;
/// Ethernet and IPv4, and the lengths of their addresses.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// A request for the hardware address of `target`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Arp {
    pub(crate) sender: (Mac, Ipv4Addr),
    pub(crate) target: Ipv4Addr,
}

impl Arp {
    /// Reads a request; None for anything else.
    pub(crate) fn read_request(packet: &[u8]) -> Option<Self> {
        let packet = packet.first_chunk::<28>()?;
        if packet[..6] != KIND || u16::from_be_bytes([packet[6], packet[7]]) != REQUEST {
            return None;
        }
        let mac = [packet[8], packet[9], packet[10], packet[11], packet[12], packet[13]];
        let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
        Some(Self { sender: (mac, address(14)), target: address(24) })
    }

    /// Appends the frame of the reply: the target is at `mac`.
    pub(crate) fn write_reply(&self, frame: &mut Vec<u8>, mac: Mac) {
        write_ethernet(frame, self.sender.0, mac, ETHERTYPE_ARP);
        frame.extend(KIND);
        frame.extend(REPLY.to_be_bytes());
        frame.extend(mac);
        frame.extend(self.target.octets());
        frame.extend(self.sender.0);
        frame.extend(self.sender.1.octets());
    }

    /// Appends the frame of the request.
    #[cfg(test)]
    pub(crate) fn write_request(&self, frame: &mut Vec<u8>) {
        write_ethernet(frame, [0xff; 6], self.sender.0, ETHERTYPE_ARP);
        frame.extend(KIND);
        frame.extend(REQUEST.to_be_bytes());
        frame.extend(self.sender.0);
        frame.extend(self.sender.1.octets());
        frame.extend([0; 6]);
        frame.extend(self.target.octets());
    }
}
