//! Neighbour discovery of IPv6 (RFC 4861): which hardware address has an address.

use std::net::{IpAddr, Ipv6Addr};

use super::ethernet::Mac;
use super::icmp::write_message;
use super::ip::Ip;

const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// All nodes of the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The sender is a router, was solicited, and overrides cached addresses (RFC 4861, section 4.4).
const FLAGS: u8 = 0xe0;

/// The address whose hardware address a packet of `ICMPv6` asks for. None for any other message, and for one that did
/// not come from this link: its hop limit would be below 255 (RFC 4861, section 7.1.1).
pub(crate) fn solicited_neighbour(packet: &Ip<'_>) -> Option<Ipv6Addr> {
    let message = packet.payload;
    if packet.hop_limit != 255 || message.get(..2)? != [NEIGHBOUR_SOLICITATION, 0] {
        return None;
    }
    let target: [u8; 16] = message.get(8..24)?.try_into().ok()?;
    Some(target.into())
}

/// Appends the frame that tells `asked_by` that `address` is at `macs.0`.
pub(crate) fn advertise_neighbour(frame: &mut Vec<u8>, macs: (Mac, Mac), address: Ipv6Addr, asked_by: Ipv6Addr) {
    // A node that only checks whether an address is free has no address to send the answer to.
    let (to, flags) = if asked_by.is_unspecified() { (ALL_NODES, FLAGS & !0x40) } else { (asked_by, FLAGS) };
    let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    message.extend(address.octets());
    message.extend([2, 1]);
    message.extend(macs.0);
    write_message(frame, macs, IpAddr::V6(address), IpAddr::V6(to), message);
}
