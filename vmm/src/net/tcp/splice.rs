//! The splice as the gateway uses it: segments in, packets out, events, time; and what keeps it bounded.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use siphasher::sip::SipHasher13;
use thiserror::Error;

use super::dormant::Common;
use super::flow::{ACKNOWLEDGE_WITHIN, Budget, End, Flow, FlowId, Pair, State};
use super::host::{Connector, Destination, Destinations, Failure, Readiness, Socket, Unreachable};
use super::receive::Answer;
use super::sequence::Sequence;
use super::span::{Slice, Span};
use super::table::{Class, Table};
use super::transmit::{MIN_ROOM, Offloads, Packet};
use super::wire::{ACK, FIN, Headers, Parsed, RST, SYN, Segment};

/// Resets that belong to no flow and wait for receive buffers. Beyond it they are forgotten: the guest asks again.
const MAX_RESETS: usize = 1024;
/// Notices that wait to be fetched; the guest's next SYN makes another.
const MAX_NOTICES: usize = 256;
/// Smallest link: what IPv6 asks for (RFC 8200 §5).
const MIN_MTU: u16 = 1280;
/// Largest window: a shift count of 7.
const MAX_WINDOW_BYTES: usize = 8 << 20;

/// Limits of a splice.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Largest IP packet on the guest's link, in bytes; 1280 at least. Large segments are many times that.
    pub mtu: u16,
    /// Window offered to the guest per flow, in bytes; between 64 KiB and 8 MiB.
    pub window: usize,
    /// Most flows; about 100 bytes each at rest and half a KiB otherwise, without what is buffered.
    pub max_flows: usize,
    /// Most flows of these that are still connecting.
    pub max_half_open: usize,
    /// Most bytes that all flows together hold for hosts that do not take them.
    pub max_buffered: usize,
    /// Most flows that stay awake at rest: those that take turns with their hosts rest between any two packets.
    pub max_awake: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mtu: 1500,
            window: 512 << 10,
            max_flows: 16384,
            max_half_open: 2048,
            max_buffered: 64 << 20,
            max_awake: 16,
        }
    }
}

/// What the guest must be told by other means than TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// There is no way to `remote`: an ICMP destination unreachable message, quoting the SYN by its ports and sequence number.
    Unreachable {
        /// Who asked.
        guest: SocketAddr,
        /// For what; also the sender of the message, or the gateway is.
        remote: SocketAddr,
        /// Sequence number of the guest's SYN.
        sequence: u32,
        /// Which code.
        reason: Unreachable,
    },
}

/// Why no flow to the guest was opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The guest has a connection between these two addresses and ports.
    #[error("a flow from {from} to {to} exists")]
    Exists {
        /// The address and port the guest would see.
        from: SocketAddr,
        /// The guest's.
        to: SocketAddr,
    },
    /// One address is IPv4, the other IPv6.
    #[error("{from} cannot talk to {to}")]
    Family {
        /// The address and port the guest would see.
        from: SocketAddr,
        /// The guest's.
        to: SocketAddr,
    },
    /// The host's socket could not be made ready.
    #[error("the accepted connection cannot be used: {0}")]
    Socket(#[from] io::Error),
}

/// Totals since the splice was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Flows asked for by the guest.
    pub asked: u64,
    /// Flows into the guest.
    pub offered: u64,
    /// Attempts that did not come to a connection.
    pub failed: u64,
    /// Flows ended by a reset of either side, or because the guest was gone.
    pub broken: u64,
    /// Flows that went because there were too many.
    pub evicted: u64,
    /// Segments of the guest that were not TCP.
    pub malformed: u64,
    /// Segments of the guest.
    pub received: u64,
    /// Packets to the guest.
    pub sent: u64,
}

/// A segment that belongs to no flow.
#[derive(Clone, Copy, Debug)]
struct Reset {
    pair: Pair,
    sequence: Sequence,
    acknowledged: Option<Sequence>,
}

/// All TCP flows of one guest.
pub struct Splice {
    table: Table,
    budget: Budget,
    offloads: Offloads,
    max_flows: usize,
    max_half_open: usize,
    connector: Box<dyn Connector>,
    hasher: SipHasher13,
    started: Instant,
    /// Flows that may have output, served in turn.
    ring: VecDeque<FlowId>,
    /// Flows with an acknowledgment that waits, and since when: the oldest first. Those whose acknowledgment went meanwhile are left in it.
    owing: VecDeque<(Instant, FlowId)>,
    resets: VecDeque<Reset>,
    notices: VecDeque<Notice>,
    statistics: Statistics,
}

impl Splice {
    /// A splice without flows. `key` is random and makes initial sequence numbers hard to guess (RFC 6528).
    pub fn new(now: Instant, settings: &Settings, key: [u8; 16], connector: Box<dyn Connector>) -> Self {
        let window = settings.window.clamp(64 << 10, MAX_WINDOW_BYTES);
        let scale = (0..=7).find(|scale| u16::try_from(window >> scale).is_ok()).unwrap_or(7);
        Self {
            table: Table::new(Common { started: now, scale }, settings.max_awake),
            budget: Budget {
                window,
                buffered: 0,
                max_buffered: settings.max_buffered,
                scale,
                mss: settings.mtu.max(MIN_MTU) - 40,
            },
            offloads: Offloads::default(),
            max_flows: settings.max_flows.max(1),
            max_half_open: settings.max_half_open.max(1),
            connector,
            hasher: SipHasher13::new_with_key(&key),
            started: now,
            ring: VecDeque::new(),
            owing: VecDeque::new(),
            resets: VecDeque::new(),
            notices: VecDeque::new(),
            statistics: Statistics::default(),
        }
    }

    /// What the driver takes. Without this call, every packet is one segment with a complete checksum.
    pub fn set_offloads(&mut self, offloads: Offloads) {
        self.offloads = offloads;
    }

    /// The driver reset the device: every flow is gone, its host's socket reset.
    pub fn reset(&mut self) {
        for id in self.table.ids() {
            if let Some(mut flow) = self.table.remove(id) {
                flow.drop_pending(&mut self.budget);
                if let Some(mut socket) = flow.take_socket() {
                    socket.reset();
                }
            }
        }
        self.ring.clear();
        self.owing.clear();
        self.resets.clear();
        self.notices.clear();
        self.offloads = Offloads::default();
    }

    /// How many flows there are.
    pub fn flows(&self) -> usize {
        self.table.len()
    }

    /// Bytes held for hosts that do not take them.
    pub fn buffered(&self) -> usize {
        self.budget.buffered
    }

    /// Slots of the table, names in the ring, deadlines: what could grow behind one's back.
    #[cfg(test)]
    pub(super) fn footprint(&self) -> (usize, usize, usize) {
        let (slots, deadlines) = self.table.footprint();
        (slots, self.ring.len(), deadlines)
    }

    /// How many flows are dormant.
    #[cfg(test)]
    pub(super) fn dormant(&self) -> usize {
        self.table.dormant()
    }

    /// Whether the flow is there and not dormant.
    #[cfg(test)]
    pub(super) fn is_awake(&self, flow: FlowId) -> bool {
        self.table.is_awake(flow)
    }

    /// Totals.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    // From the guest.

    /// A TCP segment came from the guest.
    pub fn receive(&mut self, now: Instant, segment: &Segment<'_, '_>, destinations: &mut dyn Destinations) {
        self.statistics.received += 1;
        let Some(parsed) = Parsed::new(segment).filter(|parsed| are_sound(&parsed.pair)) else {
            self.statistics.malformed += 1;
            return;
        };
        if let Some(id) = self.table.find(&parsed.pair)
            && !self.is_reopened(id, &parsed)
        {
            self.table.touch(id);
            let Some(flow) = self.table.get(id) else { return };
            let owed = flow.ack_owed;
            match flow.segment(now, &parsed, &mut self.budget) {
                Ok(answer) => {
                    if owed.is_none() && flow.ack_owed.is_some() {
                        self.owing.push_back((now, id));
                    }
                    if let Answer::Reset(sequence) = answer {
                        self.push_reset(Reset { pair: parsed.pair, sequence, acknowledged: None });
                    }
                    self.conclude(now, id, Ok(()));
                }
                Err(end) => self.conclude(now, id, Err(end)),
            }
            return;
        }
        match parsed.flags & (SYN | ACK | RST | FIN) {
            flags if flags & RST != 0 => {}
            SYN => self.begin(now, &parsed, destinations),
            // RFC 9293 §3.10.7.1.
            _ => self.push_reset(if parsed.has(ACK) {
                Reset { pair: parsed.pair, sequence: parsed.acknowledged, acknowledged: None }
            } else {
                let after = parsed.sequence + parsed.length();
                Reset { pair: parsed.pair, sequence: Sequence(0), acknowledged: Some(after) }
            }),
        }
    }

    /// The guest opens a connection between ends that are in TIME-WAIT: the old one is forgotten (RFC 9293 §3.6.1).
    fn is_reopened(&mut self, id: FlowId, segment: &Parsed<'_, '_>) -> bool {
        // Only one that is awake can be in that state.
        let Some(flow) = self.table.awake(id) else { return false };
        let again = flow.state == State::TimeWait
            && segment.flags & (SYN | ACK | RST | FIN) == SYN
            && segment.sequence.is_after(flow.inbound.next);
        if again {
            self.table.remove(id);
        }
        again
    }

    fn begin(&mut self, now: Instant, syn: &Parsed<'_, '_>, destinations: &mut dyn Destinations) {
        self.statistics.asked += 1;
        self.make_room();
        let mut flow = Flow::new(now, syn.pair, State::Connecting, self.initial_sequence(now, &syn.pair));
        flow.note_syn(syn, &self.budget);
        let id = self.table.insert(flow);
        let made = match destinations.destination(id, syn.pair.guest, syn.pair.remote) {
            Destination::Host(to) => self.connector.connect(id, to).map_err(|error| Failure::from(&error)),
            Destination::Gateway(socket) => Ok(Socket::Other(socket)),
            Destination::Refused => Err(Failure::Refused),
            Destination::Unreachable(reason) => Err(Failure::Unreachable(reason)),
        };
        match made {
            Ok(socket) => {
                if let Some(flow) = self.table.get(id) {
                    flow.socket = Some(socket);
                }
                self.check_connecting(now, id);
            }
            Err(failure) => self.fail_connecting(id, failure),
        }
    }

    fn initial_sequence(&self, now: Instant, pair: &Pair) -> Sequence {
        let mut hasher = self.hasher;
        pair.hash(&mut hasher);
        let clock = now.saturating_duration_since(self.started).as_micros() / 4;
        Sequence((hasher.finish() as u32).wrapping_add(clock as u32))
    }

    /// Whether the host's socket of a flow that connects has come to an end of it.
    fn check_connecting(&mut self, now: Instant, id: FlowId) {
        let Some(flow) = self.table.get(id) else { return };
        let Some(socket) = &mut flow.socket else { return };
        match socket.connected() {
            Ok(false) => {}
            Ok(true) => {
                flow.state = State::SynReceived;
                flow.syn_due = true;
                // Readiness may have come and gone while it connected.
                flow.readable = true;
                self.conclude(now, id, Ok(()));
            }
            Err(error) => self.fail_connecting(id, Failure::from(&error)),
        }
    }

    fn fail_connecting(&mut self, id: FlowId, failure: Failure) {
        let Some(flow) = self.table.remove(id) else { return };
        self.statistics.failed += 1;
        let syn = flow.inbound.next - 1;
        match failure {
            Failure::Refused => {
                self.push_reset(Reset {
                    pair: flow.pair,
                    sequence: Sequence(0),
                    acknowledged: Some(flow.inbound.next),
                });
            }
            Failure::Unreachable(reason) => {
                if self.notices.len() < MAX_NOTICES {
                    let Pair { guest, remote } = flow.pair;
                    self.notices.push_back(Notice::Unreachable { guest, remote, sequence: syn.0, reason });
                }
            }
            // The guest repeats its SYN; by then there is a descriptor again.
            Failure::Exhausted => self.evict_one(&[Class::Open, Class::HalfOpen]),
        }
    }

    // From the host.

    /// The socket of `flow` reported `readiness`. News of flows that are gone are passed over.
    pub fn host_event(&mut self, now: Instant, flow: FlowId, readiness: Readiness) {
        let Some(found) = self.table.get(flow) else { return };
        if found.state == State::Connecting {
            found.readable |= readiness.readable;
            found.host_ended |= readiness.ended;
            if readiness.writable || readiness.failed {
                self.check_connecting(now, flow);
            }
            return;
        }
        let outcome = found.host_ready(readiness, &mut self.budget);
        self.table.touch(flow);
        self.conclude(now, flow, outcome);
    }

    /// Opens a flow into the guest, from `from` as the guest shall see it to the guest's `to`, for a connection the host accepted.
    /// `socket` makes the socket ready, its events named by the flow; [`TcpSocket::adopt`](super::TcpSocket::adopt) does.
    /// When the guest refuses or does not answer, the connection is reset.
    pub fn open(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        socket: impl FnOnce(FlowId) -> io::Result<Socket>,
    ) -> Result<FlowId, OpenError> {
        if from.is_ipv4() != to.is_ipv4() {
            return Err(OpenError::Family { from, to });
        }
        let pair = Pair { guest: to, remote: from };
        match self.table.find(&pair) {
            // Ours was closed long enough ago for the host to give the port out again.
            Some(id) if self.table.state(id) == Some(State::TimeWait) => {
                self.table.remove(id);
            }
            Some(_) => return Err(OpenError::Exists { from, to }),
            None => {}
        }
        self.make_room();
        let socket = socket(self.table.next_id())?;
        self.statistics.offered += 1;
        let mut flow = Flow::new(now, pair, State::SynSent, self.initial_sequence(now, &pair));
        flow.socket = Some(socket);
        flow.readable = true;
        let id = self.table.insert(flow);
        self.conclude(now, id, Ok(()));
        Ok(id)
    }

    /// Whether there is a flow between the two.
    pub fn has_flow(&self, pair: &Pair) -> bool {
        self.table.find(pair).is_some()
    }

    /// Whether a flow between the two stands in the way of another: one that only waits for repetitions does not.
    pub fn is_taken(&self, pair: &Pair) -> bool {
        let found = self.table.find(pair).and_then(|id| self.table.state(id));
        found.is_some_and(|state| state != State::TimeWait)
    }

    /// Whether the flow is there yet.
    pub fn lives(&self, flow: FlowId) -> bool {
        self.table.has(flow)
    }

    /// Breaks a flow: both ends see a reset. One that is gone: nothing.
    pub fn abort(&mut self, flow: FlowId) {
        self.end(flow, End::Broken);
    }

    // To the guest.

    /// Whether [`transmit`](Self::transmit) may have a packet. It may turn out that it has none.
    pub fn has_output(&self) -> bool {
        !self.resets.is_empty() || !self.ring.is_empty()
    }

    /// The flow whose packet [`transmit`](Self::transmit) writes next, unless it turns out to have none.
    pub fn next_flow(&mut self) -> Option<Pair> {
        if let Some(reset) = self.resets.front() {
            return Some(reset.pair);
        }
        while let Some(&id) = self.ring.front() {
            if let Some(flow) = self.table.awake(id) {
                return Some(flow.pair);
            }
            self.ring.pop_front();
        }
        None
    }

    /// Writes the next packet to `room`, from its IP header on; nothing if there is none or `room` has less than 68 bytes.
    /// Each flow has one packet in its turn, as large as the room, its window and what the host sent allow.
    pub fn transmit(&mut self, now: Instant, room: &[Slice<'_>]) -> Option<Packet> {
        let room = Span::new(room);
        if room.len() < MIN_ROOM {
            return None;
        }
        let packet = self.next_packet(now, room)?;
        self.statistics.sent += 1;
        Some(packet)
    }

    fn next_packet(&mut self, now: Instant, room: Span<'_, '_>) -> Option<Packet> {
        loop {
            if let Some(reset) = self.resets.pop_front() {
                let Reset { pair, sequence, acknowledged } = reset;
                let headers = Headers { pair, sequence, acknowledged, flags: RST, window: 0, mss: None, scale: None };
                return Some(headers.write(room, 0, usize::MAX, self.offloads));
            }
            let id = self.ring.pop_front()?;
            let Some(flow) = self.table.awake(id) else { continue };
            flow.queued = false;
            match flow.output(room, &self.budget, self.offloads) {
                Ok(packet) => {
                    self.conclude(now, id, Ok(()));
                    if packet.is_some() {
                        return packet;
                    }
                }
                Err(end) => self.conclude(now, id, Err(end)),
            }
        }
    }

    /// What the guest is to be told by ICMP, one call each.
    pub fn next_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    // Time.

    /// When [`timers`](Self::timers) has work next; it may turn out to be none.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        let owed = self.next_owing().map(|(since, _)| since + ACKNOWLEDGE_WITHIN);
        [self.table.next_deadline(), owed].into_iter().flatten().min()
    }

    /// The flow whose acknowledgment waits longest.
    fn next_owing(&mut self) -> Option<(Instant, FlowId)> {
        while let Some(&(since, id)) = self.owing.front() {
            if self.table.awake(id).is_some_and(|flow| flow.ack_owed == Some(since)) {
                return Some((since, id));
            }
            self.owing.pop_front();
        }
        None
    }

    /// Does what is due.
    pub fn timers(&mut self, now: Instant) {
        while let Some((since, id)) = self.next_owing() {
            if since + ACKNOWLEDGE_WITHIN > now {
                break;
            }
            self.owing.pop_front();
            if let Some(flow) = self.table.awake(id) {
                flow.pay_acknowledgment();
            }
            self.conclude(now, id, Ok(()));
        }
        while let Some(id) = self.table.due(now) {
            let Some(flow) = self.table.get(id) else { continue };
            let outcome = flow.fire(now);
            self.conclude(now, id, outcome);
        }
    }

    // The table.

    /// After anything that happened to a flow: it ends, or its timer, its class and its place in the ring are put right.
    fn conclude(&mut self, now: Instant, id: FlowId, outcome: Result<(), End>) {
        if let Err(end) = outcome {
            self.end(id, end);
            return;
        }
        let Some(flow) = self.table.awake(id) else { return };
        flow.schedule(now);
        let queue = !flow.queued && flow.has_output();
        flow.queued |= queue;
        if queue {
            self.ring.push_back(id);
            // Names of flows that ended since are left in the ring until their turn.
            if self.ring.len() > 2 * self.max_flows {
                let table = &self.table;
                self.ring.retain(|id| table.has(*id));
            }
        }
        self.table.update(id);
    }

    fn end(&mut self, id: FlowId, end: End) {
        let Some(mut flow) = self.table.remove(id) else { return };
        flow.drop_pending(&mut self.budget);
        if end == End::Finished {
            return;
        }
        match flow.state {
            State::Connecting | State::SynSent | State::SynReceived => self.statistics.failed += 1,
            State::Open | State::TimeWait => self.statistics.broken += 1,
        }
        if let Some(mut socket) = flow.take_socket() {
            socket.reset();
        }
        if end == End::Broken {
            let (sequence, acknowledged) = match flow.state {
                State::Connecting => (Sequence(0), Some(flow.inbound.next)),
                State::SynSent => (flow.outbound.highest, None),
                _ => (flow.outbound.highest, Some(flow.inbound.next)),
            };
            self.push_reset(Reset { pair: flow.pair, sequence, acknowledged });
        }
    }

    /// Sees to it that one more flow fits.
    fn make_room(&mut self) {
        // The oldest attempts are those that get no answer.
        while self.table.len_of(Class::HalfOpen) >= self.max_half_open {
            let Some(id) = self.table.oldest(Class::HalfOpen) else { break };
            self.evict(id);
        }
        while self.table.len() >= self.max_flows {
            let before = self.table.len();
            self.evict_one(&[Class::TimeWait, Class::Open, Class::HalfOpen]);
            if self.table.len() == before {
                break;
            }
        }
    }

    /// Gives up the flow that was idle longest, for its descriptor. False when there is none.
    pub fn spare_descriptor(&mut self) -> bool {
        let before = self.table.len();
        self.evict_one(&[Class::TimeWait, Class::Open, Class::HalfOpen]);
        self.table.len() < before
    }

    /// Gives up the flow that was idle longest, of the first of `classes` that has any.
    fn evict_one(&mut self, classes: &[Class]) {
        if let Some(id) = classes.iter().find_map(|class| self.table.oldest(*class)) {
            self.evict(id);
        }
    }

    fn evict(&mut self, id: FlowId) {
        self.statistics.evicted += 1;
        let end = match self.table.state(id) {
            // The guest has been told nothing, and repeats its SYN if it still wants to.
            Some(State::Connecting) => End::ByGuest,
            Some(State::TimeWait) => End::Finished,
            _ => End::Broken,
        };
        self.end(id, end);
    }

    fn push_reset(&mut self, reset: Reset) {
        if self.resets.len() < MAX_RESETS {
            self.resets.push_back(reset);
        }
    }
}

/// Whether the ends of a flow can be those of a connection (RFC 9293 §3.9.2.3: no broadcast, no multicast).
fn are_sound(pair: &Pair) -> bool {
    let sound = |end: &SocketAddr| {
        let broadcast = matches!(end.ip(), IpAddr::V4(address) if address.is_broadcast());
        end.port() != 0 && !end.ip().is_multicast() && !end.ip().is_unspecified() && !broadcast
    };
    pair.guest.is_ipv4() == pair.remote.is_ipv4() && sound(&pair.guest) && sound(&pair.remote)
}
