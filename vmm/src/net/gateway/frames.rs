//! Frames of the guest: who may send them, and who takes them.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::backend::Gateway;
use crate::devices::net::backend::{Offload, Segmentation};
use crate::net::dns;
use crate::net::flows::{Flow, Kind};
use crate::net::network::{Destination, GATEWAY_MAC, GUEST_MAC, TO_GUEST};
use crate::net::publications::sessions::Ends;
use crate::net::stats::count;
use crate::net::wire::{
    Arp, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Echo, Ethernet, ICMP, ICMPV6, Ip, UDP, Udp, Unreachable,
    advertise_neighbour, solicited_neighbour,
};

impl Gateway {
    /// Takes a frame that is not a whole packet of TCP.
    pub(super) fn take(&mut self, frame: &[u8], offload: &Offload, now: Instant) {
        let Some(ethernet) = Ethernet::read(frame) else { return count(&self.statistics.malformed) };
        if ethernet.source != GUEST_MAC {
            return count(&self.statistics.spoofed);
        }
        let to_us = ethernet.destination == GATEWAY_MAC || ethernet.destination[0] & 1 == 1;
        if !to_us {
            return;
        }
        let packet = match ethernet.kind {
            ETHERTYPE_ARP => return self.answer_arp(ethernet.payload),
            ETHERTYPE_IPV4 => Ip::read_v4(ethernet.payload),
            ETHERTYPE_IPV6 => Ip::read_v6(ethernet.payload),
            _ => return,
        };
        let Some(packet) = packet else { return count(&self.statistics.malformed) };
        if packet.protocol == ICMPV6 && self.answer_neighbour(&packet) {
            return;
        }
        if self.may_send(&packet) {
            self.take_packet(packet, offload, now);
        }
    }

    /// Whether the guest may send from the source of `packet`. If not, counts the packet, unless it is meant for the
    /// link.
    fn may_send(&self, packet: &Ip<'_>) -> bool {
        let published = || packet.protocol == UDP && self.datagrams.published.has_container(packet.source);
        if self.network.may_send_from(packet.source) || published() {
            return true;
        }
        // A guest may speak to its link before it has an address, and from its address of that link.
        let own = packet.source.is_unspecified()
            || matches!(packet.source, IpAddr::V6(source) if source.is_unicast_link_local());
        if !own {
            count(&self.statistics.spoofed);
        }
        false
    }

    fn take_packet(&mut self, packet: Ip<'_>, offload: &Offload, now: Instant) {
        // Declared first: the packet may borrow it below.
        let whole;
        let mut packet = packet;
        if let Some(fragment) = packet.fragment {
            let joined = self.fragments.add(&packet, fragment, now);
            self.statistics.fragment_bytes_held.store(self.fragments.bytes() as u64, Ordering::Relaxed);
            let Some(payload) = joined else { return };
            whole = payload;
            (packet.payload, packet.fragment) = (&whole, None);
        }
        match packet.protocol {
            UDP => self.take_datagram(&packet, offload, now),
            ICMP | ICMPV6 => self.take_ping(&packet, now),
            _ => match self.network.destination(packet.destination) {
                Destination::Dropped => {}
                Destination::Refused(reason) => self.replies.refuse(&packet, reason),
                // No other protocol is carried.
                Destination::Gateway | Destination::Socket(_) => self.replies.refuse(&packet, Unreachable::Prohibited),
            },
        }
    }

    fn answer_arp(&mut self, packet: &[u8]) {
        let Some(request) = Arp::read_request(packet) else { return };
        let ours = [self.network.v4.gateway, self.network.v4.host].contains(&request.target);
        if !ours || request.sender.0 != GUEST_MAC {
            return;
        }
        self.replies.reply(|frame| {
            request.write_reply(frame, GATEWAY_MAC);
            None
        });
    }

    /// Answers a neighbour solicitation; false for other messages.
    fn answer_neighbour(&mut self, packet: &Ip<'_>) -> bool {
        let IpAddr::V6(source) = packet.source else { return false };
        let Some(target) = solicited_neighbour(packet) else { return false };
        if [self.network.v6.gateway, self.network.v6.host].contains(&target) {
            self.replies.reply(|frame| {
                advertise_neighbour(frame, TO_GUEST, target, source);
                None
            });
        }
        true
    }

    fn take_datagram(&mut self, packet: &Ip<'_>, offload: &Offload, now: Instant) {
        let Some(datagram) = Udp::read(packet.payload) else { return count(&self.statistics.malformed) };
        let guest = SocketAddr::new(packet.source, datagram.source);
        let remote = SocketAddr::new(packet.destination, datagram.destination);
        self.replies.steering.sent(guest, remote);
        // The frame holds several datagrams of one size, or one.
        let size = match offload.segmentation {
            Segmentation::Udp => usize::from(offload.segment_bytes).max(1),
            _ => datagram.payload.len().max(1),
        };
        if self.datagrams.answer_client(Ends { container: guest, seen: remote }, datagram.payload, size, now) {
            return;
        }
        if !self.network.may_send_from(packet.source) {
            return count(&self.statistics.spoofed);
        }
        let target = match self.network.destination(packet.destination) {
            Destination::Socket(target) => target,
            Destination::Gateway if datagram.destination == dns::PORT => {
                self.names.ask((guest, remote), datagram.payload, &mut self.sockets, now);
                return self.exchange_names(now);
            }
            Destination::Gateway => return self.replies.refuse(packet, Unreachable::Port),
            Destination::Refused(reason) => return self.replies.refuse(packet, reason),
            Destination::Dropped => return,
        };
        let flow = Flow { kind: Kind::Udp, guest, remote };
        if datagram.payload.is_empty() {
            return self.send(flow, target, &[], packet, now);
        }
        for part in datagram.payload.chunks(size) {
            self.send(flow, target, part, packet, now);
        }
    }

    fn take_ping(&mut self, packet: &Ip<'_>, now: Instant) {
        let v6 = packet.source.is_ipv6();
        let Some(echo) = Echo::read_request(packet.payload, v6) else { return };
        let target = match self.network.destination(packet.destination) {
            // The host itself is as sure to answer as its gateway.
            Destination::Socket(target) if target.is_loopback() => {
                return self.answer_ping(&echo, packet.destination, packet.source);
            }
            Destination::Gateway => return self.answer_ping(&echo, packet.destination, packet.source),
            Destination::Socket(target) => target,
            Destination::Refused(reason) => return self.replies.refuse(packet, reason),
            Destination::Dropped => return,
        };
        count(&self.statistics.pings);
        let flow = Flow {
            kind: Kind::Ping,
            guest: SocketAddr::new(packet.source, echo.identifier),
            remote: SocketAddr::new(packet.destination, 0),
        };
        self.send(flow, target, &echo.request(v6), packet, now);
    }

    fn answer_ping(&mut self, echo: &Echo<'_>, from: IpAddr, to: IpAddr) {
        count(&self.statistics.pings);
        self.replies.reply(|frame| {
            echo.write_reply(frame, TO_GUEST, from, to);
            None
        });
    }

    /// Sends a datagram of `packet` to `target`, or reports to the guest why not.
    fn send(&mut self, flow: Flow, target: IpAddr, datagram: &[u8], packet: &Ip<'_>, now: Instant) {
        if let Some(reason) = self.datagrams.send(flow, target, datagram, &mut self.sockets, now) {
            self.replies.refuse(packet, reason);
        }
    }
}
