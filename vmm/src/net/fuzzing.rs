//! What the fuzz targets need of the gateway: its readers, and its answers that need no socket.

use super::dns;
use super::fragments::Fragments;
use super::network::{MTU, Network, TO_GUEST};
use super::wire::{
    Arp, ETHERNET_BYTES, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Echo, Ethernet, Head, Ip, Udp, Unreachable,
    solicited_neighbour, unreachable,
};

/// Bytes of a packet from which the TCP path reads headers.
const HEADERS_BYTES: usize = 60;

pub(crate) fn dns_answer(query: &[u8], network: &Network) -> Option<Vec<u8>> {
    dns::local_answer(query, network)
}

pub(crate) fn dns_is_answer(message: &[u8], query: &[u8]) -> bool {
    dns::answers(message, query)
}

/// Reads a frame in every way there is. Asserts that the ways agree, and that written answers can be read.
pub(crate) fn read_frame(frame: &[u8]) {
    let Some(ethernet) = Ethernet::read(frame) else { return };
    if ethernet.kind == ETHERTYPE_ARP {
        if let Some(request) = Arp::read_request(ethernet.payload) {
            let mut reply = Vec::new();
            request.write_reply(&mut reply, TO_GUEST.0);
            assert_eq!(reply[..6], request.sender.0, "a reply goes to whoever asked");
        }
        return;
    }
    let packet = match ethernet.kind {
        ETHERTYPE_IPV4 => Ip::read_v4(ethernet.payload),
        ETHERTYPE_IPV6 => Ip::read_v6(ethernet.payload),
        _ => None,
    };
    let first = &ethernet.payload[..ethernet.payload.len().min(HEADERS_BYTES)];
    if let Some(head) = Head::read(ethernet.kind, first, ethernet.payload.len()) {
        agree(&head, packet.as_ref(), ethernet.payload.len());
    }
    if let Some(packet) = packet {
        read_packet(&packet);
    }
}

/// Asserts that the two ways to read a packet agree, if it is whole and has no extension headers.
fn agree(head: &Head, packet: Option<&Ip<'_>>, total: usize) {
    assert!(head.header_bytes + head.payload_bytes <= total);
    if let Some(packet) = packet.filter(|packet| packet.protocol == head.protocol && packet.fragment.is_none()) {
        assert_eq!((head.source, head.destination), (packet.source, packet.destination));
        assert_eq!(head.payload_bytes, packet.payload.len());
    }
}

fn read_packet(packet: &Ip<'_>) {
    let v6 = packet.source.is_ipv6();
    assert_eq!(v6, packet.destination.is_ipv6());
    assert!(packet.payload.len() <= packet.packet.len());
    solicited_neighbour(packet);
    if let Some(datagram) = Udp::read(packet.payload) {
        assert!(datagram.payload.len() + 8 <= packet.payload.len());
    }
    if let Some(echo) = Echo::read_request(packet.payload, v6) {
        assert_eq!(Echo::read_request(&echo.request(v6), v6), Some(echo), "an echo is written as it was read");
        let mut frame = Vec::new();
        echo.write_reply(&mut frame, TO_GUEST, packet.destination, packet.source);
        assert!(reread(&frame, v6).is_some_and(|reply| Echo::read_reply(reply.payload, v6) == Some(echo)));
    }
    let mut frame = Vec::new();
    unreachable(&mut frame, TO_GUEST, packet.destination, packet, Unreachable::Prohibited);
    // An error is never answered with an error, so nothing may have been written.
    assert!(frame.is_empty() || reread(&frame, v6).is_some(), "an error cannot be read");
    if let Some(fragment) = packet.fragment {
        let mut fragments = Fragments::default();
        let now = std::time::Instant::now();
        if let Some(whole) = fragments.add(packet, fragment, now) {
            assert_eq!(whole, packet.payload, "a part that is all there is");
        }
    }
}

fn reread(frame: &[u8], v6: bool) -> Option<Ip<'_>> {
    assert!(frame.len() <= ETHERNET_BYTES + usize::from(MTU));
    let packet = frame.get(ETHERNET_BYTES..)?;
    if v6 { Ip::read_v6(packet) } else { Ip::read_v4(packet) }
}
