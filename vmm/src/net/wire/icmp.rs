//! Messages of ICMP (RFC 792) and `ICMPv6` (RFC 4443) that a gateway handles: echoes and unreachable destinations.

use std::net::IpAddr;

use super::bytes::word;
use super::checksum::{checksum, pseudo_header};
use super::ethernet::Mac;
use super::ip::{ICMP, ICMPV6, Ip, write_ip};

/// Most bytes of a packet that an error quotes: its headers and more (RFC 1812, section 4.3.2.3), within the smallest
/// MTU.
const QUOTED_BYTES: usize = 548;

/// An echo request or reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Echo<'a> {
    pub(crate) identifier: u16,
    pub(crate) sequence: u16,
    pub(crate) data: &'a [u8],
}

impl<'a> Echo<'a> {
    /// Reads an echo request in a packet of ICMP, or of `ICMPv6` if `v6`.
    pub(crate) fn read_request(message: &'a [u8], v6: bool) -> Option<Self> {
        Self::read(message, if v6 { 128 } else { 8 })
    }

    /// Reads an echo reply.
    pub(crate) fn read_reply(message: &'a [u8], v6: bool) -> Option<Self> {
        Self::read(message, if v6 { 129 } else { 0 })
    }

    fn read(message: &'a [u8], kind: u8) -> Option<Self> {
        let (header, data) = message.split_first_chunk::<8>()?;
        (header[..2] == [kind, 0]).then_some(())?;
        Some(Self { identifier: word(header, 4)?, sequence: word(header, 6)?, data })
    }

    /// The message of an echo request. Its checksum is left to a ping socket.
    pub(crate) fn request(&self, v6: bool) -> Vec<u8> {
        self.message(if v6 { 128 } else { 8 })
    }

    fn message(&self, kind: u8) -> Vec<u8> {
        let mut message = vec![kind, 0, 0, 0];
        message.extend(self.identifier.to_be_bytes());
        message.extend(self.sequence.to_be_bytes());
        message.extend(self.data);
        message
    }

    /// Appends the frame of an echo reply.
    pub(crate) fn write_reply(&self, frame: &mut Vec<u8>, macs: (Mac, Mac), source: IpAddr, destination: IpAddr) {
        let message = self.message(if source.is_ipv6() { 129 } else { 0 });
        write_message(frame, macs, source, destination, message);
    }
}

/// Appends the frame of `message`, whose checksum is still zero.
pub(super) fn write_message(
    frame: &mut Vec<u8>,
    macs: (Mac, Mac),
    source: IpAddr,
    destination: IpAddr,
    mut message: Vec<u8>,
) {
    let (protocol, initial) = match source {
        IpAddr::V4(_) => (ICMP, 0),
        IpAddr::V6(_) => (ICMPV6, pseudo_header(source, destination, ICMPV6, message.len())),
    };
    let sum = checksum(&message, initial);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    write_ip(frame, macs, source, destination, protocol, message.len());
    frame.extend(message);
}

/// Why a packet cannot be delivered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unreachable {
    /// There is no route to its network.
    Network,
    /// Its host does not answer.
    Host,
    /// Nobody listens on its port.
    Port,
    /// The gateway does not allow it.
    Prohibited,
}

/// Appends the frame of the error about `packet`, sent by `gateway`.
pub(crate) fn unreachable(
    frame: &mut Vec<u8>,
    macs: (Mac, Mac),
    gateway: IpAddr,
    packet: &Ip<'_>,
    reason: Unreachable,
) {
    let code = match (reason, gateway.is_ipv6()) {
        (Unreachable::Network, _) => 0,
        (Unreachable::Host, true) | (Unreachable::Port, false) => 3,
        (Unreachable::Port, true) => 4,
        (Unreachable::Prohibited, false) => 13,
        (Unreachable::Host, false) | (Unreachable::Prohibited, true) => 1,
    };
    let mut message = vec![if gateway.is_ipv6() { 1 } else { 3 }, code, 0, 0, 0, 0, 0, 0];
    message.extend(&packet.packet[..packet.packet.len().min(QUOTED_BYTES)]);
    write_message(frame, macs, gateway, packet.source, message);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::wire::ETHERNET_BYTES;

    #[test]
    fn a_reply_is_what_was_asked_with_a_right_checksum() {
        for (source, destination) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let (source, destination): (IpAddr, IpAddr) = (source.parse().unwrap(), destination.parse().unwrap());
            let v6 = source.is_ipv6();
            let message = Echo { identifier: 5, sequence: 9, data: b"abc" }.request(v6);
            let request = Echo::read_request(&message, v6).unwrap();
            let mut frame = Vec::new();
            request.write_reply(&mut frame, ([1; 6], [2; 6]), source, destination);
            let packet = &frame[ETHERNET_BYTES..];
            let ip = if v6 { Ip::read_v6(packet) } else { Ip::read_v4(packet) }.unwrap();
            assert_eq!(Echo::read_reply(ip.payload, v6), Some(request));
            let initial = if v6 { pseudo_header(source, destination, ICMPV6, ip.payload.len()) } else { 0 };
            assert_eq!(checksum(ip.payload, initial), 0);
        }
    }

    #[test]
    fn short_and_other_messages_are_no_requests() {
        let message = Echo { identifier: 5, sequence: 9, data: b"" }.request(false);
        assert!(Echo::read_request(&message[..7], false).is_none());
        assert!(Echo::read_request(&message, true).is_none());
        assert!(Echo::read_reply(&message, false).is_none());
    }
}
