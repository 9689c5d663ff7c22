//! One flow: its state, the two directions of its bytes, its timer.
//!
//! The states are those of RFC 9293 §3.3.2, divided differently: `Open` covers every state from ESTABLISHED to
//! LAST-ACK, which differ in the directions that have ended.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::identity::Pair;
use super::sequence::Sequence;
use super::socket::Socket;
use super::wire::Parsed;

/// First wait for an acknowledgment, doubled with each repetition. The link loses nothing, so this expires only if the
/// guest had no memory for a segment or was not run for so long.
const RETRANSMIT_FIRST: Duration = Duration::from_secs(1);
/// Longest wait between two repetitions or probes.
const MAX_WAIT: Duration = Duration::from_mins(1);
/// A guest that acknowledges nothing for this many repetitions (about ten minutes) is gone.
const MAX_RETRANSMISSIONS: u8 = 15;
/// SYNs, or answers to one, that may go unanswered (about two minutes).
const MAX_SYN_RETRANSMISSIONS: u8 = 6;
/// Silence before the first keep-alive probe, time between two, and probes that may go unanswered: as in Linux.
pub(super) const KEEP_ALIVE_AFTER: Duration = Duration::from_hours(2);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(75);
const MAX_KEEP_ALIVE_PROBES: u8 = 9;
/// Longest time a host's socket may take to connect. The system's own limit is shorter.
const MAX_CONNECT_TIME: Duration = Duration::from_mins(3);
/// How long a closed flow answers a repeated FIN. The link holds no old segments, so TIME-WAIT needs no longer.
const TIME_WAIT: Duration = Duration::from_secs(2);
/// Acknowledged bytes are taken out of the host's socket in portions of this many, or when nothing more is in flight.
/// Not later, because the system keeps their memory, which may keep the window for the host's peer closed.
const CONSUME_BYTES: usize = 128 << 10;
/// How long the acknowledgment of a request waits for an answer to carry it.
pub(super) const ACKNOWLEDGE_WITHIN: Duration = Duration::from_millis(1);
/// Longest segment that may be a request, in bytes.
const REQUEST_BYTES: usize = 1024;
/// Smallest segment size accepted from the guest's option; a smaller one would only cause work.
const MIN_MSS: u16 = 88;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The guest sent SYN and the host's socket is connecting; nothing was answered.
    Connecting,
    /// The gateway sent SYN to the guest.
    SynSent,
    /// SYN-ACK is sent or about to be.
    SynReceived,
    /// Bytes may go in each direction that has not ended.
    Open,
    /// Both directions have ended, the one to the guest first; the socket is closed.
    TimeWait,
}

/// Why a flow ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Closed in order on both sides.
    Finished,
    /// The guest reset it: the host's socket is reset.
    ByGuest,
    /// The host's connection broke, or the guest does not answer: both sides are reset.
    Broken,
}

/// Bytes from the host to the guest.
#[derive(Debug)]
pub(super) struct Outbound {
    /// Sequence number of the gateway's SYN.
    pub(super) initial: Sequence,
    /// First byte that is not acknowledged.
    pub(super) unacknowledged: Sequence,
    /// Next byte to send.
    pub(super) next: Sequence,
    /// One after the last byte ever sent.
    pub(super) highest: Sequence,
    /// The guest's window, in bytes from `unacknowledged`.
    pub(super) window: usize,
    /// The largest window the guest ever offered.
    pub(super) max_window: usize,
    /// The guest's segment from which `window` was taken.
    pub(super) window_sequence: Sequence,
    pub(super) window_acknowledged: Sequence,
    /// Shift of the guest's windows.
    pub(super) scale: u8,
    /// Largest payload of a segment on the guest's link, in bytes.
    pub(super) mss: usize,
    /// Sequence number of the gateway's FIN, once the host's stream is known to end.
    pub(super) end: Option<Sequence>,
    /// The gateway's FIN was sent before the guest's arrived.
    pub(super) ended_first: bool,
    pub(super) duplicates: u8,
    /// Duplicates before this was acknowledged belong to a loss that has been repaired.
    pub(super) recover: Sequence,
    /// Acknowledged bytes that are still in the host's socket.
    pub(super) unconsumed: usize,
}

impl Outbound {
    /// Bytes that may be sent now.
    pub(super) fn usable(&self) -> usize {
        self.window.saturating_sub(self.next.since(self.unacknowledged))
    }

    /// Whether anything is sent and not acknowledged yet.
    pub(super) fn in_flight(&self) -> bool {
        self.highest != self.unacknowledged
    }

    /// Whether everything, including the end, is sent and acknowledged.
    pub(super) fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.unacknowledged.is_after(end))
    }

    /// Starts again at the first byte that is not acknowledged.
    pub(super) fn go_back(&mut self) {
        self.next = self.unacknowledged;
        self.recover = self.highest;
        self.duplicates = 0;
    }
}

/// Bytes from the guest to the host.
#[derive(Debug)]
pub(super) struct Inbound {
    /// Next byte expected.
    pub(super) next: Sequence,
    /// One after the last byte the guest may send. Never decreases.
    pub(super) edge: Sequence,
    /// Shift of the windows offered to the guest; None if the guest did not offer scaling.
    pub(super) scale: Option<u8>,
    /// The guest's FIN has arrived, after all its bytes.
    pub(super) ended: bool,
    /// The FIN was passed on to the host.
    pub(super) passed_on: bool,
    /// Acknowledged bytes that the host's socket has not taken yet.
    pub(super) pending: VecDeque<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    Connect,
    Syn,
    Retransmit,
    /// The guest's window is closed.
    Persist,
    KeepAlive,
    TimeWait,
}

/// What all flows have in common.
#[derive(Debug)]
pub(super) struct Budget {
    /// Largest window offered to the guest, in bytes.
    pub(super) window: usize,
    /// Bytes pending in all flows, and their limit.
    pub(super) buffered: usize,
    pub(super) max_buffered: usize,
    /// Shift of the windows offered to guests.
    pub(super) scale: u8,
    /// Largest payload of a segment over IPv4; 20 less over IPv6.
    pub(super) mss: u16,
}

impl Budget {
    /// The window of a flow with nothing pending. It is smaller while much is pending in all flows together.
    pub(super) fn capacity(&self) -> usize {
        if self.buffered > self.max_buffered / 2 { self.window.min(64 << 10) } else { self.window }
    }

    pub(super) fn mss_for(&self, pair: &Pair) -> u16 {
        if pair.guest.is_ipv4() { self.mss } else { self.mss - 20 }
    }
}

/// One flow.
pub(super) struct Flow {
    pub(super) pair: Pair,
    pub(super) state: State,
    /// Present from the time the flow connects until both directions have ended.
    pub(super) socket: Option<Socket>,
    pub(super) outbound: Outbound,
    pub(super) inbound: Inbound,
    /// The host's socket may have bytes, or an end to report.
    pub(super) readable: bool,
    /// The host's stream has ended: a short read does not mean that nothing is left.
    pub(super) host_ended: bool,
    /// The host's connection broke; bytes it has received can still be read.
    pub(super) host_failed: bool,
    pub(super) syn_due: bool,
    pub(super) ack_due: bool,
    /// Since when an acknowledgment waits for bytes to carry it.
    pub(super) ack_owed: Option<Instant>,
    /// Bytes arrived from the guest after the last that were sent to it.
    pub(super) asked: bool,
    /// The guest's last request was answered while its acknowledgment waited, or by the first bytes after it.
    pub(super) conversing: bool,
    /// Repetitions of the last acknowledgment that are due, one for each segment that came early. Three make the guest
    /// retransmit at once.
    pub(super) repeats_due: u8,
    pub(super) probe_due: bool,
    /// The flow is in the ring of flows that may have output.
    pub(super) queued: bool,
    timer: Timer,
    pub(super) deadline: Instant,
    /// Expirations of this timer in a row.
    retries: u8,
    /// Probes since the guest was last heard.
    unanswered: u8,
    pub(super) heard: Instant,
}

impl Flow {
    /// A flow that does not know the guest's sequence numbers yet. Its state determines its timer.
    pub(super) fn new(now: Instant, pair: Pair, state: State, initial: Sequence) -> Self {
        let timer = match state {
            State::Connecting => Timer::Connect,
            State::SynSent | State::SynReceived => Timer::Syn,
            State::Open => Timer::KeepAlive,
            State::TimeWait => Timer::TimeWait,
        };
        Self {
            pair,
            state,
            socket: None,
            outbound: Outbound {
                initial,
                unacknowledged: initial,
                next: initial,
                highest: initial,
                window: 0,
                max_window: 0,
                window_sequence: Sequence(0),
                window_acknowledged: Sequence(0),
                scale: 0,
                mss: usize::from(MIN_MSS),
                end: None,
                ended_first: false,
                duplicates: 0,
                recover: initial,
                unconsumed: 0,
            },
            inbound: Inbound {
                next: Sequence(0),
                edge: Sequence(0),
                scale: None,
                ended: false,
                passed_on: false,
                pending: VecDeque::new(),
            },
            readable: false,
            host_ended: false,
            host_failed: false,
            syn_due: state == State::SynSent,
            ack_due: false,
            ack_owed: None,
            asked: false,
            conversing: false,
            repeats_due: 0,
            probe_due: false,
            queued: false,
            timer,
            deadline: now + Self::first_wait(timer),
            retries: 0,
            unanswered: 0,
            heard: now,
        }
    }

    /// Takes the guest's sequence number and options from its SYN.
    pub(super) fn note_syn(&mut self, syn: &Parsed<'_, '_>, budget: &Budget) {
        self.inbound.next = syn.sequence + 1;
        self.inbound.edge = self.inbound.next;
        self.inbound.scale = syn.scale.map(|_| budget.scale);
        self.outbound.scale = syn.scale.unwrap_or(0);
        self.outbound.window = usize::from(syn.window);
        self.outbound.max_window = self.outbound.window;
        self.outbound.window_sequence = syn.sequence;
        self.outbound.window_acknowledged = syn.acknowledged;
        let default = if self.pair.guest.is_ipv4() { 536 } else { 1220 };
        let mss = syn.mss.unwrap_or(default).clamp(MIN_MSS, budget.mss_for(&self.pair).max(MIN_MSS));
        self.outbound.mss = usize::from(mss);
    }

    /// Whether there is something for the guest, even if its window does not allow it.
    pub(super) fn wants_to_send(&self) -> bool {
        self.state == State::Open
            && match self.outbound.end {
                Some(end) => !self.outbound.next.is_after(end),
                None => self.readable,
            }
    }

    /// How many bytes, or the FIN, may be sent now. Zero if the guest's window is closed, or so small that it is better
    /// to wait for an acknowledgment (RFC 9293 §3.8.6.2.1).
    pub(super) fn sendable(&self) -> usize {
        let outbound = &self.outbound;
        let usable = outbound.usable();
        let silly = usable < outbound.mss && usable < outbound.max_window / 2 && outbound.in_flight();
        let reach = match &self.socket {
            Some(socket) => socket.reach().saturating_sub(self.peek_offset()),
            None => 0,
        };
        if silly { 0 } else { usable.min(reach) }
    }

    /// The offset of the next byte to send in the host's socket.
    pub(super) fn peek_offset(&self) -> usize {
        self.outbound.unconsumed + self.outbound.next.since(self.outbound.unacknowledged)
    }

    /// Whether `output` may return a packet.
    pub(super) fn has_output(&self) -> bool {
        self.syn_due
            || self.ack_due
            || self.repeats_due > 0
            || self.probe_due
            || (self.wants_to_send() && self.sendable() > 0)
    }

    /// Whether nothing will happen before a segment, an event of the host or the keep-alive, so that the flow may
    /// sleep.
    pub(super) fn is_at_rest(&self) -> bool {
        let outbound = &self.outbound;
        let inbound = &self.inbound;
        let nothing_sent = !outbound.in_flight() && outbound.next == outbound.unacknowledged;
        let nothing_kept = outbound.unconsumed == 0 && inbound.pending.is_empty();
        let nothing_due = !self.syn_due && !self.ack_due && self.repeats_due == 0 && !self.probe_due && !self.queued;
        let both_open = outbound.end.is_none() && !inbound.ended && !self.host_ended && !self.host_failed;
        self.state == State::Open
            && self.socket.is_some()
            && nothing_sent
            && nothing_kept
            && nothing_due
            && both_open
            && !self.readable
            && self.ack_owed.is_none()
            && self.timer == Timer::KeepAlive
            && self.unanswered == 0
    }

    /// Handles a broken connection to the host. Bytes that the host still has for the guest go first, unless its stream
    /// had ended.
    pub(super) fn fail_host(&mut self, budget: &mut Budget) -> Result<(), End> {
        self.drop_pending(budget);
        if self.state != State::Open || self.outbound.end.is_some() {
            return Err(End::Broken);
        }
        self.host_failed = true;
        self.host_ended = true;
        self.readable = true;
        Ok(())
    }

    pub(super) fn drop_pending(&mut self, budget: &mut Budget) {
        budget.buffered = budget.buffered.saturating_sub(self.inbound.pending.len());
        self.inbound.pending = VecDeque::new();
    }

    /// Takes acknowledged bytes out of the host's socket, if that is worth a system call.
    pub(super) fn consume(&mut self, budget: &mut Budget) -> Result<(), End> {
        let bytes = self.outbound.unconsumed;
        if bytes == 0 || (bytes < CONSUME_BYTES && self.outbound.in_flight()) {
            return Ok(());
        }
        if let Some(socket) = &mut self.socket
            && socket.consume(bytes).is_err()
        {
            return self.fail_host(budget);
        }
        self.outbound.unconsumed = 0;
        Ok(())
    }

    /// Closes the flow once both directions have ended.
    pub(super) fn settle(&mut self) -> Result<(), End> {
        if self.state != State::Open || !self.inbound.passed_on || !self.outbound.is_done() {
            return Ok(());
        }
        if !self.outbound.ended_first {
            return Err(End::Finished);
        }
        self.state = State::TimeWait;
        self.socket = None;
        Ok(())
    }

    /// Records that bytes of the guest were taken. They are acknowledged at once, unless they look like a request whose
    /// answer will carry the acknowledgment.
    ///
    /// This is the delayed acknowledgment of RFC 9293 §3.8.6.3, but only after the guest and the host have taken turns.
    /// A guest that has more to send and waits for the acknowledgment (Nagle's algorithm) therefore waits once at most.
    pub(super) fn owe_acknowledgment(&mut self, now: Instant, bytes: usize) {
        self.asked = true;
        if self.conversing && !self.ack_due && self.ack_owed.is_none() && bytes <= REQUEST_BYTES {
            self.ack_owed = Some(now);
        } else {
            self.ack_due = true;
        }
    }

    /// Makes the acknowledgment that has waited long enough due.
    pub(super) fn pay_acknowledgment(&mut self) {
        self.ack_due = true;
        self.conversing = false;
    }

    /// Whether the guest will neither send nor receive any more; only the host's socket has bytes left to take.
    pub(super) fn guest_is_done(&self) -> bool {
        self.inbound.ended && self.outbound.is_done()
    }

    // The timer. Only one runs at a time.

    fn first_wait(timer: Timer) -> Duration {
        match timer {
            Timer::Connect => MAX_CONNECT_TIME,
            Timer::Syn | Timer::Retransmit | Timer::Persist => RETRANSMIT_FIRST,
            Timer::KeepAlive => KEEP_ALIVE_AFTER,
            Timer::TimeWait => TIME_WAIT,
        }
    }

    fn wanted_timer(&self) -> Timer {
        match self.state {
            State::Connecting => Timer::Connect,
            State::SynSent | State::SynReceived => Timer::Syn,
            State::TimeWait => Timer::TimeWait,
            State::Open if self.outbound.in_flight() => Timer::Retransmit,
            State::Open if self.wants_to_send() && self.sendable() == 0 => Timer::Persist,
            State::Open => Timer::KeepAlive,
        }
    }

    /// Starts the timer that the flow's state requires, unless it is running.
    pub(super) fn schedule(&mut self, now: Instant) {
        let wanted = self.wanted_timer();
        if wanted != self.timer {
            self.timer = wanted;
            self.restart_timer(now);
        }
    }

    /// Restarts the timer, because the guest made progress.
    pub(super) fn restart_timer(&mut self, now: Instant) {
        self.retries = 0;
        self.deadline = now + Self::first_wait(self.timer);
    }

    /// Records that the guest was heard.
    pub(super) fn hear(&mut self, now: Instant) {
        self.heard = now;
        self.unanswered = 0;
    }

    /// Handles the expiry of the timer.
    pub(super) fn fire(&mut self, now: Instant) -> Result<(), End> {
        self.retries = self.retries.saturating_add(1);
        let backoff = MAX_WAIT.min(RETRANSMIT_FIRST * 2_u32.pow(u32::from(self.retries.min(6))));
        match self.timer {
            Timer::Connect => return Err(End::Broken),
            Timer::TimeWait => return Err(End::Finished),
            Timer::Syn => {
                if self.retries > MAX_SYN_RETRANSMISSIONS {
                    return Err(End::Broken);
                }
                self.syn_due = true;
                self.deadline = now + backoff;
            }
            Timer::Retransmit => {
                self.outbound.go_back();
                self.readable = true;
                if self.sendable() > 0 {
                    if self.retries > MAX_RETRANSMISSIONS {
                        return Err(End::Broken);
                    }
                } else {
                    // The guest's window is closed: it is probed instead, as long as it answers.
                    self.retries -= 1;
                    self.probe(MAX_RETRANSMISSIONS)?;
                }
                self.deadline = now + backoff;
            }
            Timer::Persist => {
                self.probe(MAX_RETRANSMISSIONS)?;
                self.deadline = now + backoff;
            }
            Timer::KeepAlive => {
                let due = self.heard + KEEP_ALIVE_AFTER;
                if due > now {
                    self.deadline = due;
                } else if self.guest_is_done() {
                    // The guest has forgotten the flow. The host's own keep-alive watches the rest.
                    self.deadline = now + KEEP_ALIVE_AFTER;
                } else {
                    self.probe(MAX_KEEP_ALIVE_PROBES)?;
                    self.deadline = now + KEEP_ALIVE_EVERY;
                }
            }
        }
        Ok(())
    }

    fn probe(&mut self, max_unanswered: u8) -> Result<(), End> {
        if self.unanswered >= max_unanswered {
            return Err(End::Broken);
        }
        self.unanswered += 1;
        self.probe_due = true;
        Ok(())
    }
}
