//! The gateway: the backend of the network device.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::dns::{self, Client, Resolver};
use super::flows::{Arrival, Flow, Flows, Kind, unreachable_by};
use super::fragments::Fragments;
use super::network::{Destination, GATEWAY_MAC, GUEST_MAC, MTU, Network};
use super::publications::connections::Connections;
use super::publications::datagrams::{Answer, Datagrams};
use super::publications::sessions::Ends;
use super::publications::{self, Publication, Publishers, Request, Requests};
use super::sockets::{EVENTS, Sockets};
use super::stats::{GatewayStatistics, count};
use super::steering::Steering;
use super::streams::{Streams, quoted_syn, reason_of};
use super::tcp::{self, FlowId, Notice, Offloads, OpenError, Pair, Readiness, Segment, Slice, Span, Splice};
use super::wire::{
    Arp, ETHERNET_BYTES, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Echo, Ethernet, Head, ICMP, ICMPV6, Ip, Mac,
    TCP, UDP, Udp, Unreachable, advertise_neighbour, checksum, solicited_neighbour, split, unreachable, word,
    write_ethernet, write_ip, write_udp_header,
};
use crate::devices::net::backend::{Accepts, Backend, Checksum, Offload, Segmentation, Transmit};

/// From us to the guest.
pub(super) const MACS: (Mac, Mac) = (GATEWAY_MAC, GUEST_MAC);
/// Flows of datagrams at once: a descriptor each.
const MAX_FLOWS: usize = 4096;
/// Answers that wait for receive buffers. Beyond it they are lost: the guest asks again.
const MAX_REPLIES: usize = 256;
/// Rounds of events taken in one call.
const EVENT_ROUNDS: usize = 8;
/// Headers of a frame that TCP is told from all else by: Ethernet, and the longest of IPv4.
const HEADERS_BYTES: usize = ETHERNET_BYTES + 60;
/// Longest packet of IPv6 that no router on its way may cut: larger ones are cut here (RFC 8200, section 5).
const MIN_MTU_V6: usize = 1280;
/// Most datagrams in one frame: what Linux takes (`UDP_MAX_SEGMENTS`).
const MAX_TRAIN: usize = 64;
const UDP_HEADER_BYTES: usize = 8;
/// Least room worth offering to TCP.
const TCP_ROOM_BYTES: usize = 128;

/// A frame made here.
#[derive(Debug, Default)]
pub(super) struct Frame {
    pub(super) bytes: Vec<u8>,
    pub(super) checksum: Option<Checksum>,
    /// It holds datagrams, and may take more of them.
    train: Option<Train>,
    /// The driver's pair of queues it goes by.
    pair: usize,
}

/// Datagrams of one sender for one receiver in one frame.
#[derive(Clone, Copy, Debug)]
struct Train {
    ends: (SocketAddr, SocketAddr),
    /// Payload bytes of the first. All but the last have as many, and that has no more.
    size: usize,
    count: usize,
}

impl Frame {
    /// One datagram, from the first of `ends` to the second.
    fn of_datagram(ends: (SocketAddr, SocketAddr), payload: &[u8]) -> Self {
        let mut frame = Self::default();
        frame.checksum = Some(write_udp_header(&mut frame.bytes, MACS, ends.0, ends.1, payload.len()));
        frame.bytes.extend(payload);
        frame.train = Some(Train { ends, size: payload.len(), count: 1 });
        frame
    }

    /// Adds a datagram behind those that are in the frame; false when it does not fit there.
    fn couple(&mut self, ends: (SocketAddr, SocketAddr), payload: &[u8]) -> bool {
        let (Some(train), Some(place)) = (&mut self.train, self.checksum) else { return false };
        let begin = usize::from(place.start) + UDP_HEADER_BYTES;
        let before = self.bytes.len() - begin;
        let fits = train.ends == ends
            && train.count < MAX_TRAIN
            && (1..=train.size).contains(&payload.len())
            && before == train.size * train.count
            && self.bytes.len() + payload.len() <= ETHERNET_BYTES + usize::from(MTU);
        if !fits {
            return false;
        }
        train.count += 1;
        self.bytes.extend(payload);
        true
    }

    /// Nothing more is added: the headers are those of all that is in the frame.
    fn finish(&mut self) -> Offload {
        let plain = Offload { checksum: self.checksum, ..Offload::default() };
        let (Some(train), Some(place)) = (&self.train, self.checksum) else { return plain };
        if train.count == 1 {
            return plain;
        }
        let begin = usize::from(place.start) + UDP_HEADER_BYTES;
        let mut header = Vec::with_capacity(begin);
        write_udp_header(&mut header, MACS, train.ends.0, train.ends.1, self.bytes.len() - begin);
        self.bytes[..begin].copy_from_slice(&header);
        Offload { segmentation: Segmentation::Udp, segment_bytes: train.size as u16, ..plain }
    }
}

/// The gateway of one guest.
pub struct Gateway {
    network: Network,
    accepts: Accepts,
    sockets: Sockets,
    flows: Flows,
    splice: Splice,
    streams: Streams,
    requests: Arc<Requests>,
    published: Datagrams,
    connections: Connections,
    /// Published ports have the next turn among datagrams.
    published_next: bool,
    /// Number of the next packet that is cut.
    identification: u32,
    /// TCP has the next turn, before datagrams.
    tcp_next: bool,
    resolver: Resolver,
    fragments: Fragments,
    replies: VecDeque<Frame>,
    steering: Steering,
    statistics: Arc<GatewayStatistics>,
    /// The host lets this user have no ping sockets: said once.
    pings_forbidden: bool,
    scratch: Vec<u8>,
}

impl Gateway {
    /// The gateway of `machine` in `network`, that resolves names as `resolv_conf` says.
    pub fn new(machine: &str, network: Network, resolv_conf: &Path) -> io::Result<Self> {
        let sockets = Sockets::new()?;
        let connector = Box::new(tcp::Sockets::new(sockets.epoll()));
        let mut key = [0; 16];
        fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
        let settings = tcp::Settings { mtu: MTU, ..tcp::Settings::default() };
        let requests = Arc::new(Requests::new(sockets.waker()));
        Ok(Self {
            accepts: Accepts::default(),
            sockets,
            splice: Splice::new(Instant::now(), &settings, key, connector),
            streams: Streams::new(network),
            requests,
            published: Datagrams::default(),
            connections: Connections::default(),
            published_next: false,
            identification: 0,
            tcp_next: false,
            flows: Flows::new(MAX_FLOWS),
            resolver: Resolver::new(machine, &network, resolv_conf),
            fragments: Fragments::default(),
            replies: VecDeque::new(),
            steering: Steering::default(),
            statistics: Arc::default(),
            pings_forbidden: false,
            scratch: Vec::new(),
            network,
        })
    }

    /// The gateway's counters, for any thread.
    pub fn statistics(&self) -> Arc<GatewayStatistics> {
        Arc::clone(&self.statistics)
    }

    /// Those who publish ports of the guest, on any thread.
    pub fn publishers(&self) -> Publishers {
        Publishers::new(Arc::clone(&self.requests))
    }

    /// Takes a frame if it is a whole packet of TCP, without copying its payload.
    fn take_tcp(&mut self, frame: Span<'_, '_>, offload: &Offload, now: Instant) -> bool {
        let mut headers = [0; HEADERS_BYTES];
        let copied = frame.copy_to(&mut headers);
        let Some(ethernet) = Ethernet::read(&headers[..copied]) else { return false };
        let packet_bytes = frame.len() - ETHERNET_BYTES;
        let Some(head) = Head::read(ethernet.kind, ethernet.payload, packet_bytes) else { return false };
        if head.protocol != TCP || ethernet.source != GUEST_MAC || ethernet.destination != GATEWAY_MAC {
            return false;
        }
        let ends = ends_of(&head, &headers);
        // For a client of a published port the source is the container's own address.
        let published = || ends.is_some_and(|ends| self.splice.has_flow(&ends));
        if !self.network.may_send_from(head.source) && !published() {
            return false;
        }
        if let Some(Pair { guest, remote }) = ends {
            self.steering.sent(guest, remote);
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

    /// Takes any other frame.
    fn take(&mut self, frame: &[u8], offload: &Offload, now: Instant) {
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
        let Some(mut packet) = packet else { return count(&self.statistics.malformed) };
        if packet.protocol == ICMPV6 && self.answer_neighbour(&packet) {
            return;
        }
        let published = || packet.protocol == UDP && self.published.has_container(packet.source);
        if !self.network.may_send_from(packet.source) && !published() {
            // A guest may speak to its link before it has an address, and from its address of that link.
            let own = packet.source.is_unspecified()
                || matches!(packet.source, IpAddr::V6(source) if source.is_unicast_link_local());
            if !own {
                count(&self.statistics.spoofed);
            }
            return;
        }
        let whole;
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
            _ => {
                if let Some(reason) = self.refusal(packet.destination) {
                    self.refuse(&packet, reason);
                }
            }
        }
    }

    /// Why a packet goes nowhere that is neither of UDP, TCP nor ICMP; None when nothing is said.
    fn refusal(&self, destination: IpAddr) -> Option<Unreachable> {
        match self.network.destination(destination) {
            Destination::Dropped => None,
            Destination::Refused(reason) => Some(reason),
            Destination::Gateway | Destination::Socket(_) => Some(Unreachable::Prohibited),
        }
    }

    fn answer_arp(&mut self, packet: &[u8]) {
        let Some(request) = Arp::read_request(packet) else { return };
        let ours = [self.network.v4.gateway, self.network.v4.host].contains(&request.target);
        if !ours || request.sender.0 != GUEST_MAC {
            return;
        }
        self.reply(|frame| {
            request.write_reply(frame, GATEWAY_MAC);
            None
        });
    }

    /// Answers a neighbour solicitation; false for other messages.
    fn answer_neighbour(&mut self, packet: &Ip<'_>) -> bool {
        let IpAddr::V6(source) = packet.source else { return false };
        let Some(target) = solicited_neighbour(packet) else { return false };
        if [self.network.v6.gateway, self.network.v6.host].contains(&target) {
            self.reply(|frame| {
                advertise_neighbour(frame, MACS, target, source);
                None
            });
        }
        true
    }

    fn take_datagram(&mut self, packet: &Ip<'_>, offload: &Offload, now: Instant) {
        let Some(datagram) = Udp::read(packet.payload) else { return count(&self.statistics.malformed) };
        let guest = SocketAddr::new(packet.source, datagram.source);
        let remote = SocketAddr::new(packet.destination, datagram.destination);
        self.steering.sent(guest, remote);
        // Several of one size in one frame, or one.
        let size = match offload.segmentation {
            Segmentation::Udp => usize::from(offload.segment_bytes).max(1),
            _ => datagram.payload.len().max(1),
        };
        if self.answer_client(Ends { container: guest, seen: remote }, datagram.payload, size, now) {
            return;
        }
        if !self.network.may_send_from(packet.source) {
            return count(&self.statistics.spoofed);
        }
        let target = match self.network.destination(packet.destination) {
            Destination::Socket(target) => target,
            Destination::Gateway => match datagram.destination {
                dns::PORT => {
                    count(&self.statistics.dns_queries);
                    self.resolver.ask(Client::Datagram(guest, remote), datagram.payload, &mut self.sockets, now);
                    return self.give_answers(now);
                }
                _ => return self.refuse(packet, Unreachable::Port),
            },
            Destination::Refused(reason) => return self.refuse(packet, reason),
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

    /// Sends what answers a client of a published port; false when it answers none.
    fn answer_client(&mut self, ends: Ends, payload: &[u8], size: usize, now: Instant) -> bool {
        let mut rest = payload;
        loop {
            let (datagram, after) = rest.split_at(size.min(rest.len()));
            match self.published.answer(ends, datagram, now) {
                Answer::Sent => {}
                Answer::NoSession => return false,
                Answer::Lost(error) => {
                    tracing::debug!(container = %ends.container, client = %ends.seen, %error, "an answer is lost");
                    count(&self.statistics.udp_lost);
                }
            }
            if after.is_empty() {
                return true;
            }
            rest = after;
        }
    }

    fn take_ping(&mut self, packet: &Ip<'_>, now: Instant) {
        let v6 = packet.source.is_ipv6();
        let Some(echo) = Echo::read_request(packet.payload, v6) else { return };
        let target = match self.network.destination(packet.destination) {
            // The host itself answers as surely as its gateway does.
            Destination::Socket(target) if target.is_loopback() => {
                return self.answer_ping(&echo, packet.destination, packet.source);
            }
            Destination::Gateway => return self.answer_ping(&echo, packet.destination, packet.source),
            Destination::Socket(target) => target,
            Destination::Refused(reason) => return self.refuse(packet, reason),
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
        self.reply(|frame| {
            echo.write_reply(frame, MACS, from, to);
            None
        });
    }

    fn send(&mut self, flow: Flow, target: IpAddr, datagram: &[u8], packet: &Ip<'_>, now: Instant) {
        match self.flows.send(flow, target, datagram, &mut self.sockets, now) {
            Ok(new) => {
                if new && flow.kind == Kind::Udp {
                    count(&self.statistics.udp_flows);
                }
            }
            Err(error) => {
                let forbidden = flow.kind == Kind::Ping && error.raw_os_error() == Some(libc::EACCES);
                if forbidden && !self.pings_forbidden {
                    self.pings_forbidden = true;
                    tracing::warn!(
                        "the guest cannot ping beyond this computer: this system allows it to no group of this user; as root, \
                         sysctl net.ipv4.ping_group_range=\"0 2147483647\" allows it to all"
                    );
                }
                match unreachable_by(&error) {
                    Some(reason) => self.refuse(packet, reason),
                    None => {
                        tracing::debug!(remote = %flow.remote, %error, "a datagram of the guest is lost");
                        count(&self.statistics.udp_lost);
                    }
                }
            }
        }
    }

    /// Tells the guest that `packet` goes nowhere.
    fn refuse(&mut self, packet: &Ip<'_>, reason: Unreachable) {
        count(&self.statistics.refused);
        let gateway = self.network.gateway_beside(packet.source);
        self.reply(|frame| {
            unreachable(frame, MACS, gateway, packet, reason);
            None
        });
    }

    /// The same of a datagram that was sent on `flow`.
    fn refuse_flow(&mut self, flow: Flow, reason: Unreachable) {
        let (guest, remote) = (flow.guest, flow.remote);
        let mut quoted = Vec::new();
        let macs = (GUEST_MAC, GATEWAY_MAC);
        match flow.kind {
            Kind::Udp => drop(write_udp_header(&mut quoted, macs, guest, remote, 0)),
            Kind::Ping => {
                let v6 = guest.is_ipv6();
                let message = Echo { identifier: guest.port(), sequence: 0, data: &[] }.request(v6);
                let protocol = if v6 { ICMPV6 } else { ICMP };
                write_ip(&mut quoted, macs, guest.ip(), remote.ip(), protocol, message.len());
                quoted.extend(message);
            }
        }
        let packet = quoted.get(ETHERNET_BYTES..).unwrap_or_default();
        let read = if guest.is_ipv4() { Ip::read_v4(packet) } else { Ip::read_v6(packet) };
        if let Some(packet) = read {
            self.refuse(&packet, reason);
        }
    }

    /// Asks the resolver what guests have asked by TCP.
    fn ask_for_streams(&mut self, now: Instant) {
        while let Some((token, query)) = self.streams.next_query() {
            count(&self.statistics.dns_queries);
            self.resolver.ask(Client::Stream(token), &query, &mut self.sockets, now);
            if self.streams.has_room_again(token)
                && let Some(flow) = FlowId::from_token(token)
            {
                self.splice.host_event(now, flow, Readiness { writable: true, ..Readiness::default() });
            }
        }
    }

    /// Passes on what the resolver has.
    fn give_answers(&mut self, now: Instant) {
        self.ask_for_streams(now);
        while let Some((client, message)) = self.resolver.next_answer() {
            match client {
                Client::Datagram(guest, gateway) => self.reply(|frame| {
                    let checksum = write_udp_header(frame, MACS, gateway, guest, message.len());
                    frame.extend(&message);
                    Some(checksum)
                }),
                Client::Stream(token) => {
                    if let Some(flow) = self.streams.answer(token, &message) {
                        let readiness = Readiness { readable: true, ended: true, ..Readiness::default() };
                        self.splice.host_event(now, flow, readiness);
                    }
                    self.ask_for_streams(now);
                }
            }
        }
        self.statistics.dns_failed.store(self.resolver.failed, Ordering::Relaxed);
    }

    /// Tells the guest by ICMP what became of its connections.
    fn give_notices(&mut self) {
        while let Some(Notice::Unreachable { guest, remote, sequence, reason }) = self.splice.next_notice() {
            let quoted = quoted_syn(guest, remote, sequence, (GUEST_MAC, GATEWAY_MAC));
            let packet = quoted.get(ETHERNET_BYTES..).unwrap_or_default();
            let read = if guest.is_ipv4() { Ip::read_v4(packet) } else { Ip::read_v6(packet) };
            if let Some(packet) = read {
                self.refuse(&packet, reason_of(reason));
            }
        }
    }

    /// Has TCP write its next packet to `room`.
    fn transmit_tcp(&mut self, room: Span<'_, '_>, now: Instant) -> Transmit {
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

    /// Whether datagrams may have come for the guest.
    fn has_datagrams(&self) -> bool {
        self.flows.has_arrivals() || self.published.has_arrivals()
    }

    /// Whether the next frame is a packet of TCP; otherwise it is the first of `replies`, if there is one.
    fn is_turn_of_tcp(&mut self, now: Instant) -> bool {
        if !self.replies.is_empty() {
            return false;
        }
        self.tcp_next = self.splice.has_output() && (self.tcp_next || !self.has_datagrams());
        if !self.tcp_next {
            self.tcp_next = true;
            self.next_datagram(now);
            return false;
        }
        true
    }

    /// Queues a frame for the guest.
    fn reply(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Option<Checksum>) {
        if self.replies.len() >= MAX_REPLIES {
            return count(&self.statistics.replies_dropped);
        }
        let mut frame = Frame { pair: self.steering.current(), ..Frame::default() };
        frame.checksum = write(&mut frame.bytes);
        self.replies.push_back(frame);
    }

    /// Does what those who publish have asked for.
    fn take_requests(&mut self, now: Instant) {
        while let Some(request) = self.requests.next() {
            match request {
                Request::Datagrams { publication, socket, to } => {
                    if let Err(error) = self.published.publish(publication, socket, to, &mut self.sockets) {
                        tracing::warn!(%to, %error, "datagrams are not carried to a published port");
                    }
                }
                Request::Connection { publication, socket, to } => {
                    if let Err(error) = self.open_connection(publication, socket, to, now) {
                        tracing::debug!(%to, %error, "a connection is not carried to a published port");
                    }
                }
                Request::End(ended, done) => {
                    self.end_publications(|publication| *publication == ended);
                    // Nobody waits any more: what was asked for is done all the same.
                    let _ = done.send(());
                }
                Request::EndAll(publisher) => {
                    self.end_publications(|publication| publication.is_of(publisher));
                }
            }
        }
    }

    /// Opens a flow into the guest from the address of the client behind `socket`.
    fn open_connection(
        &mut self,
        publication: Publication,
        socket: OwnedFd,
        to: SocketAddr,
        now: Instant,
    ) -> Result<(), OpenError> {
        let socket = std::net::TcpStream::from(socket);
        let first = publications::seen(socket.peer_addr()?, to, &self.network);
        let mut names = std::iter::once(first).chain(publications::others(first, to, &self.network));
        let free = |from: &SocketAddr| !self.splice.is_taken(&Pair { guest: to, remote: *from });
        let from = names.find(free).ok_or(OpenError::Exists { from: first, to })?;
        let epoll = self.sockets.epoll();
        let adopt = |flow| tcp::TcpSocket::adopt(socket.into(), &epoll, flow);
        let flow = self.splice.open(now, from, to, adopt)?;
        let splice = &self.splice;
        self.connections.add(publication, flow, |flow| splice.lives(flow));
        Ok(())
    }

    fn end_publications(&mut self, ended: impl Fn(&Publication) -> bool) {
        self.published.end(&ended);
        for flow in self.connections.end(&ended) {
            self.splice.abort(flow);
        }
    }

    /// Makes frames of what came next for a published port.
    fn next_published(&mut self, now: Instant) {
        let Some((ends, datagram)) = self.published.next(&self.network, now) else { return };
        let between = (ends.seen, ends.container);
        if couple_last(&mut self.replies, self.accepts, between, datagram) {
            return;
        }
        let pair = self.steering.pair(ends.container, ends.seen);
        let mut frame = Frame { pair, ..Frame::of_datagram(between, datagram) };
        let max_packet = if ends.container.is_ipv4() { usize::from(MTU) } else { MIN_MTU_V6 };
        if frame.bytes.len() <= ETHERNET_BYTES + max_packet {
            return self.replies.push_back(frame);
        }
        complete_checksum(&mut frame);
        self.identification = self.identification.wrapping_add(1);
        let parts = split(&frame.bytes, max_packet, self.identification);
        self.replies.extend(parts.into_iter().map(|bytes| Frame { bytes, pair, ..Frame::default() }));
    }

    /// Makes a frame of what came next for the guest, of its own flows and of published ports in turn.
    fn next_datagram(&mut self, now: Instant) {
        self.published_next = self.published.has_arrivals() && (self.published_next || !self.flows.has_arrivals());
        if self.published_next {
            self.published_next = false;
            return self.next_published(now);
        }
        self.published_next = true;
        self.next_arrival(now);
    }

    /// Makes a frame of what came next on a flow.
    fn next_arrival(&mut self, now: Instant) {
        match self.flows.next(now) {
            None => {}
            Some(Arrival::Unreachable(flow, reason)) => self.refuse_flow(flow, reason),
            Some(Arrival::Datagram(flow, datagram)) => {
                let between = (flow.remote, flow.guest);
                let frame = match flow.kind {
                    Kind::Udp => {
                        if couple_last(&mut self.replies, self.accepts, between, datagram) {
                            return;
                        }
                        Frame {
                            pair: self.steering.pair(flow.guest, flow.remote),
                            ..Frame::of_datagram(between, datagram)
                        }
                    }
                    Kind::Ping => {
                        let Some(mut echo) = Echo::read_reply(datagram, flow.guest.is_ipv6()) else { return };
                        echo.identifier = flow.guest.port();
                        let mut frame = Frame::default();
                        echo.write_reply(&mut frame.bytes, MACS, flow.remote.ip(), flow.guest.ip());
                        frame
                    }
                };
                if frame.bytes.len() > ETHERNET_BYTES + usize::from(MTU) {
                    return count(&self.statistics.udp_lost);
                }
                self.replies.push_back(frame);
            }
        }
    }
}

/// The two ends of the flow of a segment that the guest sent, whose Ethernet frame begins with `headers`.
fn ends_of(head: &Head, headers: &[u8]) -> Option<Pair> {
    let ports = headers.get(ETHERNET_BYTES + head.header_bytes..)?;
    let (source, destination) = (word(ports, 0)?, word(ports, 2)?);
    Some(Pair { guest: SocketAddr::new(head.source, source), remote: SocketAddr::new(head.destination, destination) })
}

/// Adds a datagram to the frame that was made last, for a driver that takes several in one; false when it wants a frame of its own.
fn couple_last(
    replies: &mut VecDeque<Frame>,
    accepts: Accepts,
    ends: (SocketAddr, SocketAddr),
    payload: &[u8],
) -> bool {
    accepts.udp && replies.back_mut().is_some_and(|frame| frame.couple(ends, payload))
}

/// Writes the checksum that was left out, for a driver that wants it.
fn complete_checksum(frame: &mut Frame) {
    let Some(place) = frame.checksum.take() else { return };
    let (start, offset) = (usize::from(place.start), usize::from(place.offset));
    let Some(covered) = frame.bytes.get(start..) else { return };
    // What is in its place now is the sum of the pseudo header, and counts. A zero would mean that there is none, in UDP; its complement is
    // the same number.
    let sum = match checksum(covered, 0) {
        0 => u16::MAX,
        sum => sum,
    };
    if let Some(bytes) = frame.bytes.get_mut(start + offset..start + offset + 2) {
        bytes.copy_from_slice(&sum.to_be_bytes());
    }
}

impl Backend for Gateway {
    fn event_fd(&self) -> BorrowedFd<'_> {
        self.sockets.event_fd()
    }

    fn host_events(&mut self, now: Instant) -> io::Result<()> {
        let mut ready = Vec::new();
        for _ in 0..EVENT_ROUNDS {
            ready.clear();
            self.sockets.ready(&mut ready)?;
            for &(id, events) in &ready {
                if let Some(flow) = FlowId::from_token(id) {
                    self.splice.host_event(now, flow, Readiness::from_epoll(events));
                } else if !self.flows.readable(id) && !self.published.readable(id) {
                    self.resolver.readable(id, &mut self.sockets, now);
                }
            }
            if ready.len() < EVENTS {
                break;
            }
        }
        self.take_requests(now);
        self.give_answers(now);
        self.give_notices();
        Ok(())
    }

    fn receive(&mut self, frame: Span<'_, '_>, offload: &Offload, now: Instant) {
        if self.take_tcp(frame, offload, now) {
            self.give_answers(now);
            return self.give_notices();
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(frame.len(), 0);
        let length = frame.copy_to(&mut scratch);
        self.take(&scratch[..length], offload, now);
        self.scratch = scratch;
    }

    fn has_frames(&self) -> bool {
        !self.replies.is_empty() || self.splice.has_output() || self.has_datagrams()
    }

    fn set_pair(&mut self, number: usize) {
        self.steering.set_current(number);
    }

    fn next_pair(&mut self, now: Instant) -> usize {
        if self.is_turn_of_tcp(now) {
            return self.splice.next_flow().map_or(0, |Pair { guest, remote }| self.steering.pair(guest, remote));
        }
        self.replies.front().map_or(0, |frame| frame.pair)
    }

    fn transmit(&mut self, room: Span<'_, '_>, now: Instant) -> Transmit {
        if self.is_turn_of_tcp(now) {
            self.tcp_next = false;
            if room.len() < TCP_ROOM_BYTES {
                return Transmit::NeedsRoom;
            }
            return self.transmit_tcp(room, now);
        }
        // As many of one sender as are there go in one frame.
        for _ in 1..MAX_TRAIN {
            let coupling = self.accepts.udp && self.replies.len() == 1 && self.has_datagrams();
            if !coupling || self.replies.front().is_none_or(|frame| frame.train.is_none()) {
                break;
            }
            self.next_datagram(now);
        }
        let Some(frame) = self.replies.front_mut() else { return Transmit::Nothing };
        if frame.bytes.len() > room.len() {
            return Transmit::NeedsRoom;
        }
        if !self.accepts.checksum {
            complete_checksum(frame);
        }
        let offload = frame.finish();
        let length = room.copy_from(&frame.bytes);
        self.replies.pop_front();
        Transmit::Frame(length, offload)
    }

    fn settle(&mut self, now: Instant, deadline: Option<Instant>) {
        let before = (self.replies.len(), self.splice.has_output());
        if self.splice.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.splice.timers(now);
        }
        let deadlines = [
            deadline,
            self.flows.expire(now),
            self.published.expire(now),
            self.resolver.expire(&mut self.sockets, now),
            self.splice.next_deadline(),
        ];
        self.give_answers(now);
        self.give_notices();
        if self.replies.len() > before.0 || (self.splice.has_output() && !before.1) {
            self.sockets.call_again();
        }
        self.statistics.tcp(self.splice.flows(), self.splice.buffered(), &self.splice.statistics());
        self.statistics.udp_flows_open.store(self.flows.len() as u64, Ordering::Relaxed);
        self.statistics.udp_flows_evicted.store(self.flows.evicted, Ordering::Relaxed);
        let (sessions, evicted) = self.published.sessions();
        self.statistics.published_sessions_open.store(sessions as u64, Ordering::Relaxed);
        self.statistics.published_sessions_evicted.store(evicted, Ordering::Relaxed);
        self.sockets.wake_at(deadlines.into_iter().flatten().min(), now);
    }

    fn call_again(&mut self) {
        self.sockets.call_again();
    }

    fn accepts(&mut self, accepts: Accepts) {
        self.accepts = accepts;
        self.splice.set_offloads(Offloads { checksum: accepts.checksum, tso4: accepts.tcp4, tso6: accepts.tcp6 });
    }

    fn reset(&mut self) {
        self.accepts = Accepts::default();
        self.flows.clear();
        self.published.forget_sessions();
        self.connections.clear();
        self.splice.reset();
        self.streams.clear();
        self.resolver.clear();
        self.fragments.clear();
        self.statistics.fragment_bytes_held.store(0, Ordering::Relaxed);
        self.replies.clear();
        self.steering = Steering::default();
    }
}

/// The domains in which the guest is to look for short names: the host's.
pub fn search_domains(resolv_conf: &Path) -> Vec<String> {
    dns::search_domains(&fs::read_to_string(resolv_conf).unwrap_or_default())
}

#[cfg(test)]
#[path = "gateway_tests.rs"]
mod tests;
