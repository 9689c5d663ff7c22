//! TCP: the guest's segments to the splice, and its packets to the guest.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use super::quotes;
use super::replies::Replies;
use crate::devices::net::backend::{Accepts, Checksum, Offload, Segmentation, Transmit};
use crate::devices::span::{Slice, Span};
use crate::net::network::{FROM_GUEST, GATEWAY_MAC, GUEST_MAC, MTU, Network};
use crate::net::publications::names;
use crate::net::sockets::Sockets;
use crate::net::stats::GatewayStatistics;
use crate::net::steering::Steering;
use crate::net::streams::{Streams, reason_of};
use crate::net::tcp::{self, FlowId, Notice, Offloads, OpenError, Pair, Segment, Settings, Splice, TcpSocket};
use crate::net::wire::{ETHERNET_BYTES, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Head, TCP, word, write_ethernet};

/// Headers by which a segment is recognized: Ethernet, and the longest of IPv4.
const HEADERS_BYTES: usize = ETHERNET_BYTES + 60;
/// Least room worth offering to the splice, in bytes.
const MIN_ROOM_BYTES: usize = 128;

/// The splice, and the streams to the resolver.
pub(super) struct Tcp {
    network: Network,
    pub(super) splice: Splice,
    pub(super) streams: Streams,
}

impl Tcp {
    /// Nothing yet, with `key` as the splice's random key.
    pub(super) fn new(network: Network, key: [u8; 16], sockets: &Sockets) -> Self {
        let connector = Box::new(tcp::Sockets::new(sockets.epoll()));
        let settings = Settings { mtu: MTU, ..Settings::default() };
        let splice = Splice::new(Instant::now(), &settings, key, connector);
        Self { network, splice, streams: Streams::new(network) }
    }

    /// Takes a frame of the guest if it is a whole packet of TCP, without copying its payload.
    pub(super) fn take(
        &mut self,
        frame: Span<'_, '_>,
        offload: &Offload,
        steering: &mut Steering,
        now: Instant,
    ) -> bool {
        let mut headers = [0; HEADERS_BYTES];
        let copied = frame.copy_to(&mut headers);
        let Some(ethernet) = Ethernet::read(&headers[..copied]) else { return false };
        let packet_bytes = frame.len() - ETHERNET_BYTES;
        let Some(head) = Head::read(ethernet.kind, ethernet.payload, packet_bytes) else { return false };
        if head.protocol != TCP || (ethernet.source, ethernet.destination) != FROM_GUEST {
            return false;
        }
        let ends = ends_of(&head, &headers);
        // What answers a client of a published port comes from the container's own address.
        let published = || ends.is_some_and(|ends| self.splice.has_flow(&ends));
        if !self.network.may_send_from(head.source) && !published() {
            return false;
        }
        if let Some(Pair { guest, remote }) = ends {
            steering.sent(guest, remote);
        }
        let segment = Segment {
            source: head.source,
            destination: head.destination,
            bytes: frame.after(ETHERNET_BYTES + head.header_bytes).first(head.payload_bytes),
            checksum: match offload.checksum {
                Some(_) => tcp::Checksum::Partial,
                None => tcp::Checksum::Complete,
            },
        };
        self.splice.receive(now, &segment, &mut self.streams);
        true
    }

    /// Opens a flow into the guest, from the address of the client behind `socket` to the guest's `to`.
    pub(super) fn open(
        &mut self,
        socket: OwnedFd,
        to: SocketAddr,
        sockets: &Sockets,
        now: Instant,
    ) -> Result<FlowId, OpenError> {
        let socket = std::net::TcpStream::from(socket);
        let first = names::seen(socket.peer_addr()?, to, &self.network);
        let mut ends = std::iter::once(first).chain(names::others(first, to, &self.network));
        let free = |from: &SocketAddr| !self.splice.is_taken(&Pair { guest: to, remote: *from });
        let from = ends.find(free).ok_or(OpenError::Exists { from: first, to })?;
        let epoll = sockets.epoll();
        self.splice.open(now, from, to, |flow| TcpSocket::adopt(socket.into(), &epoll, flow))
    }

    /// The pair of queues for the next packet.
    pub(super) fn next_pair(&mut self, steering: &Steering) -> usize {
        self.splice.next_flow().map_or(0, |Pair { guest, remote }| steering.pair(guest, remote))
    }

    /// Writes the next packet to `room`.
    pub(super) fn transmit(&mut self, room: Span<'_, '_>, now: Instant) -> Transmit {
        if room.len() < MIN_ROOM_BYTES {
            return Transmit::NeedsRoom;
        }
        let pieces: Vec<Slice<'_>> = room.after(ETHERNET_BYTES).pieces().collect();
        let Some(packet) = self.splice.transmit(now, &pieces) else { return Transmit::Nothing };
        let mut header = Vec::with_capacity(ETHERNET_BYTES);
        let kind = if packet.destination.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
        write_ethernet(&mut header, GUEST_MAC, GATEWAY_MAC, kind);
        room.copy_from(&header);
        let (segmentation, segment_bytes) = match packet.segmentation {
            None => (Segmentation::None, 0),
            Some(tcp::Segmentation::V4(bytes)) => (Segmentation::Tcp4, bytes),
            Some(tcp::Segmentation::V6(bytes)) => (Segmentation::Tcp6, bytes),
        };
        let checksum =
            packet.checksum.map(|place| Checksum { start: place.start + ETHERNET_BYTES as u16, offset: place.offset });
        Transmit::Frame(ETHERNET_BYTES + packet.length, Offload { checksum, segmentation, segment_bytes })
    }

    /// Reports to the guest by ICMP which of its connections cannot be made.
    pub(super) fn give_notices(&mut self, replies: &mut Replies) {
        while let Some(Notice::Unreachable { guest, remote, sequence, reason }) = self.splice.next_notice() {
            replies.refuse_quoted(&quotes::of_syn(guest, remote, sequence), reason_of(reason));
        }
    }

    /// Does what is due.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.splice.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.splice.timers(now);
        }
    }

    pub(super) fn set_accepts(&mut self, accepts: Accepts) {
        self.splice.set_offloads(Offloads { checksum: accepts.checksum, tso4: accepts.tcp4, tso6: accepts.tcp6 });
    }

    pub(super) fn report(&self, statistics: &GatewayStatistics) {
        statistics.tcp(self.splice.flows(), self.splice.buffered(), &self.splice.statistics());
    }

    /// Ends all flows.
    pub(super) fn reset(&mut self) {
        self.splice.reset();
        self.streams.clear();
    }
}

/// The two ends of the flow of a segment that the guest sent, whose frame begins with `headers`.
fn ends_of(head: &Head, headers: &[u8]) -> Option<Pair> {
    let ports = headers.get(ETHERNET_BYTES + head.header_bytes..)?;
    let (source, destination) = (word(ports, 0)?, word(ports, 2)?);
    Some(Pair { guest: SocketAddr::new(head.source, source), remote: SocketAddr::new(head.destination, destination) })
}
