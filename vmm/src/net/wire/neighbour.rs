//! Neighbour discovery of IPv6 (RFC 4861): who has an address, and what a router says of its link.

use std::net::{IpAddr, Ipv6Addr};

use super::icmp::write_message;
use super::{Ip, Mac};

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// All nodes of the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// From a router, asked for, to be believed (RFC 4861, section 4.4).
const FLAGS: u8 = 0xe0;
/// A router is good for this many seconds.
const LIFETIME: u16 = 9000;

/// What a guest wants to know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Solicitation {
    /// Who routes on this link.
    Router,
    /// The hardware address of this one.
    Neighbour(Ipv6Addr),
}

/// Reads a solicitation in a packet of `ICMPv6`; only from the link itself (RFC 4861, section 7.1.1).
pub(crate) fn solicitation(packet: &Ip<'_>) -> Option<Solicitation> {
    let message = packet.payload;
    if packet.hop_limit != 255 || *message.get(1)? != 0 {
        return None;
    }
    match *message.first()? {
        ROUTER_SOLICITATION => message.get(..8).map(|_| Solicitation::Router),
        NEIGHBOUR_SOLICITATION => {
            let target: [u8; 16] = message.get(8..24)?.try_into().ok()?;
            Some(Solicitation::Neighbour(target.into()))
        }
        _ => None,
    }
}

/// Appends the frame that says that `address` is at `macs.0`, to whoever asked.
pub(crate) fn advertise_neighbour(frame: &mut Vec<u8>, macs: (Mac, Mac), address: Ipv6Addr, asked_by: Ipv6Addr) {
    // One that only looks whether an address is free has none to answer to.
    let (to, flags) = if asked_by.is_unspecified() { (ALL_NODES, FLAGS & !0x40) } else { (asked_by, FLAGS) };
    let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    message.extend(address.octets());
    message.extend([2, 1]);
    message.extend(macs.0);
    write_message(frame, macs, IpAddr::V6(address), IpAddr::V6(to), message);
}

/// What a router says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouterAdvertisement {
    /// The router's address on the link.
    pub(crate) router: Ipv6Addr,
    /// The link's network, 64 bits of it.
    pub(crate) prefix: Ipv6Addr,
    /// The resolver's address.
    pub(crate) resolver: Ipv6Addr,
    pub(crate) mtu: u16,
}

impl RouterAdvertisement {
    /// Appends the frame, to all nodes of the link.
    pub(crate) fn write(&self, frame: &mut Vec<u8>, macs: (Mac, Mac)) {
        let mut message = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0];
        message.extend(LIFETIME.to_be_bytes());
        message.extend([0; 8]);
        // Our hardware address.
        message.extend([1, 1]);
        message.extend(macs.0);
        message.extend([5, 1, 0, 0, 0, 0]);
        message.extend(self.mtu.to_be_bytes());
        // On this link, and addresses may be made of it.
        message.extend([3, 4, 64, 0xc0]);
        message.extend(u32::MAX.to_be_bytes());
        message.extend(u32::MAX.to_be_bytes());
        message.extend([0; 4]);
        message.extend(self.prefix.octets());
        // Its resolver (RFC 8106).
        message.extend([25, 3, 0, 0]);
        message.extend(u32::from(LIFETIME).to_be_bytes());
        message.extend(self.resolver.octets());
        write_message(frame, macs, IpAddr::V6(self.router), IpAddr::V6(ALL_NODES), message);
    }
}
