//! The splice as the gateway uses it: segments in, packets out, events and time; and what keeps it bounded.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use siphasher::sip::SipHasher13;

use super::connector::Connector;
use super::dormant::Common;
use super::flow::{ACKNOWLEDGE_WITHIN, Budget, End, Flow, State};
use super::host::{Destination, Destinations, Failure, Readiness};
use super::identity::{FlowId, Pair};
use super::receive::Answer;
use super::report::{Notice, OpenError, Statistics};
use super::sequence::Sequence;
use super::settings::Settings;
use super::socket::Socket;
use super::table::{Class, Table};
use super::transmit::{MIN_ROOM, Offloads, Packet};
use super::wire::{ACK, FIN, Headers, Parsed, RST, SYN, Segment};
use crate::devices::span::{Slice, Span};

/// Most resets that belong to no flow and wait for receive buffers. Further ones are dropped, and the guest asks again.
const MAX_RESETS: usize = 1024;
/// Most notices that wait to be fetched. The guest's next SYN causes another.
const MAX_NOTICES: usize = 256;
/// Smallest MTU, the minimum of IPv6 (RFC 8200 §5).
const MIN_MTU: u16 = 1280;
/// Largest window, in bytes: a shift of 7.
const MAX_WINDOW_BYTES: usize = 8 << 20;

/// A reset that belongs to no flow.
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
    /// Flows with a delayed acknowledgment and its time, the oldest first. It may hold flows that have acknowledged in
    /// the meantime.
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

    /// Sets what the driver accepts. Without this call, every packet is one segment with a complete checksum.
    pub fn set_offloads(&mut self, offloads: Offloads) {
        self.offloads = offloads;
    }

    /// Removes every flow and resets its host's socket, because the driver reset the device.
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

    /// Number of flows.
    pub fn flows(&self) -> usize {
        self.table.len()
    }

    /// Bytes buffered for hosts that do not take them.
    pub fn buffered(&self) -> usize {
        self.budget.buffered
    }

    /// Number of slots in the table, of entries in the ring and of deadlines: what could grow without bounds.
    #[cfg(test)]
    pub(super) fn footprint(&self) -> (usize, usize, usize) {
        let (slots, deadlines) = self.table.footprint();
        (slots, self.ring.len(), deadlines)
    }

    /// Number of dormant flows.
    #[cfg(test)]
    pub(super) fn dormant(&self) -> usize {
        self.table.dormant()
    }

    /// Whether the flow exists and is not dormant.
    #[cfg(test)]
    pub(super) fn is_awake(&self, flow: FlowId) -> bool {
        self.table.is_awake(flow)
    }

    /// Totals.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    // From the guest.

    /// Handles a TCP segment from the guest.
    pub fn receive(&mut self, now: Instant, segment: &Segment<'_, '_>, destinations: &mut dyn Destinations) {
        self.statistics.received += 1;
        let Some(parsed) = Parsed::new(segment).filter(|parsed| are_sound(&parsed.pair)) else {
            self.statistics.malformed += 1;
            return;
        };
        if let Some(id) = self.table.find(&parsed.pair)
            && !self.reopen(id, &parsed)
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

    /// Removes a flow in TIME-WAIT if the guest opens a new connection between its ends (RFC 9293 §3.6.1). Returns
    /// whether it was removed.
    fn reopen(&mut self, id: FlowId, segment: &Parsed<'_, '_>) -> bool {
        // Only a flow that is awake can be in that state.
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

    /// Checks whether the host's socket has finished connecting.
    fn check_connecting(&mut self, now: Instant, id: FlowId) {
        let Some(flow) = self.table.get(id) else { return };
        let Some(socket) = &mut flow.socket else { return };
        match socket.connected() {
            Ok(false) => {}
            Ok(true) => {
                flow.state = State::SynReceived;
                flow.syn_due = true;
                // Readiness may have been reported while it was connecting.
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
            // The guest repeats its SYN; by then a descriptor is free.
            Failure::Exhausted => self.evict_one(&[Class::Open, Class::HalfOpen]),
        }
    }

    // From the host.

    /// Handles `readiness` of the socket of `flow`. Ignored if the flow is gone.
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

    /// Opens a flow into the guest, from `from` as the guest shall see it to the guest's `to`, for a connection the
    /// host accepted. `socket` prepares the connection, whose events must carry the flow's token, as
    /// [`TcpSocket::adopt`](super::TcpSocket::adopt) does. If the guest refuses or does not answer, the connection is
    /// reset.
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
            // The old connection was closed long enough ago for the host to reuse the port.
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

    /// Whether a flow between the two ends exists.
    pub fn has_flow(&self, pair: &Pair) -> bool {
        self.table.find(pair).is_some()
    }

    /// Whether a flow between the two ends rules out another. One in TIME-WAIT does not.
    pub fn is_taken(&self, pair: &Pair) -> bool {
        let found = self.table.find(pair).and_then(|id| self.table.state(id));
        found.is_some_and(|state| state != State::TimeWait)
    }

    /// Whether the flow still exists.
    pub fn lives(&self, flow: FlowId) -> bool {
        self.table.has(flow)
    }

    /// Breaks a flow, so that both ends see a reset. Ignored if the flow is gone.
    pub fn abort(&mut self, flow: FlowId) {
        self.end(flow, End::Broken);
    }

    // To the guest.

    /// Whether [`transmit`](Self::transmit) may have a packet. It may turn out to have none.
    pub fn has_output(&self) -> bool {
        !self.resets.is_empty() || !self.ring.is_empty()
    }

    /// The flow whose packet [`transmit`](Self::transmit) writes next, if it turns out to have one.
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

    /// Writes the next packet to `room`, from its IP header on. None if there is no packet, or if `room` has fewer than
    /// 68 bytes. In its turn each flow sends one packet, as large as the room, its window and the host's bytes allow.
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

    /// The next notice for the guest, to be sent by ICMP.
    pub fn next_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    // Time.

    /// When [`timers`](Self::timers) may have work next.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        let owed = self.next_owing().map(|(since, _)| since + ACKNOWLEDGE_WITHIN);
        [self.table.next_deadline(), owed].into_iter().flatten().min()
    }

    /// The flow whose acknowledgment has waited longest.
    fn next_owing(&mut self) -> Option<(Instant, FlowId)> {
        while let Some(&(since, id)) = self.owing.front() {
            if self.table.awake(id).is_some_and(|flow| flow.ack_owed == Some(since)) {
                return Some((since, id));
            }
            self.owing.pop_front();
        }
        None
    }

    /// Handles all deadlines that have passed.
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

    /// Follows anything that happened to a flow: removes it, or updates its timer, its class and its place in the ring.
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
            // Entries of flows that have ended stay in the ring until their turn.
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

    /// Evicts flows until one more fits.
    fn make_room(&mut self) {
        // The oldest attempts are those without an answer.
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

    /// Evicts the flow that was idle longest, of the first of `classes` that has any.
    fn evict_one(&mut self, classes: &[Class]) {
        if let Some(id) = classes.iter().find_map(|class| self.table.oldest(*class)) {
            self.evict(id);
        }
    }

    fn evict(&mut self, id: FlowId) {
        self.statistics.evicted += 1;
        let end = match self.table.state(id) {
            // The guest has received nothing, and repeats its SYN if it still wants the connection.
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

/// Whether the ends of a flow can be those of a connection: no broadcast, no multicast (RFC 9293 §3.9.2.3).
fn are_sound(pair: &Pair) -> bool {
    let sound = |end: &SocketAddr| {
        let broadcast = matches!(end.ip(), IpAddr::V4(address) if address.is_broadcast());
        end.port() != 0 && !end.ip().is_multicast() && !end.ip().is_unspecified() && !broadcast
    };
    pair.guest.is_ipv4() == pair.remote.is_ipv4() && sound(&pair.guest) && sound(&pair.remote)
}
