//! What is on the wire: headers, read from untrusted bytes and written.
//!
//! Reading returns None for anything that is not valid and never looks beyond its bytes. Writing appends to a frame.

mod arp;
mod bytes;
mod checksum;
mod ethernet;
mod icmp;
mod ip;
mod neighbour;
mod split;
mod udp;

pub(crate) use self::arp::Arp;
pub(crate) use self::bytes::word;
pub(crate) use self::checksum::checksum;
#[cfg(test)]
pub(crate) use self::checksum::{partial_checksum, pseudo_header};
pub(crate) use self::ethernet::{
    ETHERNET_BYTES, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Mac, write_ethernet,
};
pub(crate) use self::icmp::{Echo, Unreachable, unreachable};
pub(crate) use self::ip::{Fragment, Head, ICMP, ICMPV6, Ip, TCP, UDP, write_ip};
pub(crate) use self::neighbour::{advertise_neighbour, solicited_neighbour};
pub(crate) use self::split::split;
pub(crate) use self::udp::{Udp, write_udp_header};
