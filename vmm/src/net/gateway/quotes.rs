//! Packets of the guest, rebuilt for ICMP errors: an error quotes the packet it is about, of which only the ends are
//! known by then. Each begins with an Ethernet header.

use std::net::SocketAddr;

use crate::net::flows::{Flow, Kind};
use crate::net::network::FROM_GUEST;
use crate::net::wire::{Echo, ICMP, ICMPV6, TCP, write_ip, write_udp_header};

/// A datagram or an echo request of `flow`, without payload.
pub(super) fn of_flow(flow: Flow) -> Vec<u8> {
    let (guest, remote) = (flow.guest, flow.remote);
    let mut quoted = Vec::new();
    match flow.kind {
        Kind::Udp => drop(write_udp_header(&mut quoted, FROM_GUEST, guest, remote, 0)),
        Kind::Ping => {
            let v6 = guest.is_ipv6();
            let message = Echo { identifier: guest.port(), sequence: 0, data: &[] }.request(v6);
            let protocol = if v6 { ICMPV6 } else { ICMP };
            write_ip(&mut quoted, FROM_GUEST, guest.ip(), remote.ip(), protocol, message.len());
            quoted.extend(message);
        }
    }
    quoted
}

/// The SYN with which the guest tried to connect.
pub(super) fn of_syn(guest: SocketAddr, remote: SocketAddr, sequence: u32) -> Vec<u8> {
    let mut quoted = Vec::new();
    write_ip(&mut quoted, FROM_GUEST, guest.ip(), remote.ip(), TCP, 20);
    quoted.extend(guest.port().to_be_bytes());
    quoted.extend(remote.port().to_be_bytes());
    quoted.extend(sequence.to_be_bytes());
    // No acknowledgment, five words of header, SYN.
    quoted.extend([0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]);
    quoted
}
