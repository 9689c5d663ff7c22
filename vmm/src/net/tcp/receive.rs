//! What a segment of the guest, or an event of the host's socket, does to a flow (RFC 9293 §3.10.7, RFC 5961).

use std::time::Instant;

use super::flow::{Budget, End, Flow, State};
use super::host::Readiness;
use super::sequence::Sequence;
use super::socket::Socket;
use super::wire::{ACK, FIN, Parsed, RST, SYN};
use crate::devices::span::{Slice, Span};

/// This many duplicate acknowledgments mean that the guest dropped a segment (RFC 5681 §3.2).
const DUPLICATES: u8 = 3;

/// What a segment calls for, besides what the flow itself will send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Nothing,
    /// A reset with this sequence number.
    Reset(Sequence),
}

impl Flow {
    /// Handles a segment of this flow from the guest.
    pub(super) fn segment(
        &mut self,
        now: Instant,
        segment: &Parsed<'_, '_>,
        budget: &mut Budget,
    ) -> Result<Answer, End> {
        self.hear(now);
        match self.state {
            State::Connecting => self.segment_while_connecting(segment, budget),
            State::SynSent => self.segment_after_our_syn(now, segment, budget),
            State::SynReceived | State::Open | State::TimeWait => self.segment_in_order(now, segment, budget),
        }
    }

    fn segment_while_connecting(&mut self, segment: &Parsed<'_, '_>, budget: &Budget) -> Result<Answer, End> {
        if segment.has(RST) {
            return if segment.sequence == self.inbound.next { Err(End::ByGuest) } else { Ok(Answer::Nothing) };
        }
        // Nothing was answered yet, so another attempt of the guest from the same port may take over the flow.
        if segment.has(SYN) && !segment.has(ACK) {
            self.note_syn(segment, budget);
        }
        Ok(Answer::Nothing)
    }

    fn segment_after_our_syn(
        &mut self,
        now: Instant,
        segment: &Parsed<'_, '_>,
        budget: &Budget,
    ) -> Result<Answer, End> {
        let ours = self.outbound.initial + 1;
        let acknowledges = segment.has(ACK) && segment.acknowledged == ours && self.outbound.highest == ours;
        if segment.has(ACK) && !acknowledges {
            let reset = Answer::Reset(segment.acknowledged);
            return Ok(if segment.has(RST) { Answer::Nothing } else { reset });
        }
        if segment.has(RST) {
            return if acknowledges { Err(End::ByGuest) } else { Ok(Answer::Nothing) };
        }
        if segment.has(SYN) {
            self.note_syn(segment, budget);
            if acknowledges {
                self.open(now, segment.acknowledged);
            } else {
                // Both sides opened at once: the SYN is repeated with an acknowledgment.
                self.state = State::SynReceived;
                self.syn_due = true;
                self.outbound.next = self.outbound.initial;
            }
        }
        Ok(Answer::Nothing)
    }

    fn open(&mut self, now: Instant, acknowledged: Sequence) {
        self.state = State::Open;
        self.syn_due = false;
        self.ack_due = true;
        self.outbound.unacknowledged = acknowledged;
        self.outbound.next = acknowledged;
        self.outbound.highest = acknowledged;
        self.outbound.recover = acknowledged;
        self.schedule(now);
    }

    fn segment_in_order(&mut self, now: Instant, segment: &Parsed<'_, '_>, budget: &mut Budget) -> Result<Answer, End> {
        let ours = self.outbound.initial + 1;
        let repeats_syn = segment.has(SYN) && segment.sequence + 1 == self.inbound.next;
        if self.state == State::SynReceived && repeats_syn && !segment.has(RST) {
            if segment.has(ACK) && segment.acknowledged == ours && self.outbound.highest == ours {
                self.open(now, segment.acknowledged);
            } else if !segment.has(ACK) {
                self.syn_due = true;
            }
            return Ok(Answer::Nothing);
        }
        if !self.is_acceptable(segment) {
            self.ack_due |= !segment.has(RST);
            return Ok(Answer::Nothing);
        }
        if segment.has(RST) {
            // The guest's half is over in these cases, and what it wrote is still to be delivered.
            if self.state == State::TimeWait || self.guest_is_done() {
                return Ok(Answer::Nothing);
            }
            if segment.sequence == self.inbound.next {
                return Err(End::ByGuest);
            }
            self.ack_due = true;
            return Ok(Answer::Nothing);
        }
        if segment.has(SYN) {
            self.ack_due = true;
            return Ok(Answer::Nothing);
        }
        if !segment.has(ACK) || self.state == State::TimeWait {
            return Ok(Answer::Nothing);
        }
        if self.state == State::SynReceived {
            if segment.acknowledged != ours || self.outbound.highest != ours {
                return Ok(Answer::Reset(segment.acknowledged));
            }
            self.open(now, segment.acknowledged);
            self.ack_due = false;
            self.take_window(segment);
        } else if !self.acknowledge(now, segment) {
            return Ok(Answer::Nothing);
        }
        self.take_bytes(now, segment, budget)?;
        // Last: the host waits for the guest's bytes, and nobody waits for this.
        self.consume(budget)?;
        self.settle()?;
        Ok(Answer::Nothing)
    }

    /// Whether any part of the segment is in the window (RFC 9293 §3.10.7.4). A segment that begins at the next
    /// expected byte is accepted even with a closed window, for its acknowledgment.
    fn is_acceptable(&self, segment: &Parsed<'_, '_>) -> bool {
        let (next, edge) = (self.inbound.next, self.inbound.edge);
        let first = segment.sequence;
        if first == next {
            return true;
        }
        match segment.length() {
            0 => first.is_after(next) && !first.is_after(edge),
            length => first.is_before(edge) && (first + length).is_after(next),
        }
    }

    /// Handles the acknowledgment of a segment. False if the segment is to be dropped.
    fn acknowledge(&mut self, now: Instant, segment: &Parsed<'_, '_>) -> bool {
        let acknowledged = segment.acknowledged;
        let outbound = &mut self.outbound;
        let oldest = outbound.unacknowledged - outbound.max_window;
        if acknowledged.is_after(outbound.highest) || acknowledged.is_before(oldest) {
            self.ack_due = true;
            return false;
        }
        let window_before = outbound.window;
        if acknowledged.is_after(outbound.unacknowledged) {
            let end = outbound.end.is_some_and(|end| acknowledged.is_after(end));
            outbound.unconsumed += acknowledged.since(outbound.unacknowledged) - usize::from(end);
            outbound.unacknowledged = acknowledged;
            outbound.next = outbound.next.max(acknowledged);
            outbound.duplicates = 0;
            self.restart_timer(now);
            self.take_window(segment);
        } else {
            self.take_window(segment);
            let outbound = &mut self.outbound;
            let duplicate = acknowledged == outbound.unacknowledged
                && segment.length() == 0
                && outbound.in_flight()
                && outbound.window == window_before;
            if duplicate {
                outbound.duplicates = outbound.duplicates.saturating_add(1);
                if outbound.duplicates == DUPLICATES && !acknowledged.is_before(outbound.recover) {
                    outbound.go_back();
                    self.readable = true;
                }
            }
        }
        true
    }

    fn take_window(&mut self, segment: &Parsed<'_, '_>) {
        let outbound = &mut self.outbound;
        let older = segment.sequence.is_before(outbound.window_sequence)
            || (segment.sequence == outbound.window_sequence
                && segment.acknowledged.is_before(outbound.window_acknowledged));
        if !older {
            outbound.window = usize::from(segment.window) << outbound.scale;
            outbound.max_window = outbound.max_window.max(outbound.window);
            outbound.window_sequence = segment.sequence;
            outbound.window_acknowledged = segment.acknowledged;
        }
    }

    /// Takes the bytes and the FIN that are next in order. The link preserves order, so a segment that comes early
    /// follows one that was dropped, and is dropped too; the acknowledgment shows the guest where to resume.
    fn take_bytes(&mut self, now: Instant, segment: &Parsed<'_, '_>, budget: &mut Budget) -> Result<(), End> {
        if segment.length() == 0 {
            return Ok(());
        }
        if !self.inbound.ended && segment.sequence.is_after(self.inbound.next) {
            // The acknowledgment that is due already covers the last byte in order.
            self.repeats_due = (self.repeats_due + 1).min(DUPLICATES);
            return Ok(());
        }
        if self.inbound.ended {
            self.ack_due = true;
            return Ok(());
        }
        self.repeats_due = 0;
        let known = self.inbound.next.since(segment.sequence);
        let window = self.inbound.edge.since(self.inbound.next);
        let bytes = segment.payload.after(known).first(window);
        if bytes.is_empty() || known > 0 || segment.has(FIN) {
            self.ack_due = true;
        } else {
            self.owe_acknowledgment(now, bytes.len());
        }
        if !bytes.is_empty() {
            let taken = self.take(bytes, budget)?;
            self.inbound.next = self.inbound.next + taken;
        }
        if segment.has(FIN) && segment.sequence + segment.payload.len() == self.inbound.next {
            self.inbound.next = self.inbound.next + 1;
            self.inbound.edge = self.inbound.edge.max(self.inbound.next);
            self.inbound.ended = true;
            self.pass_end_on(budget)?;
        }
        Ok(())
    }

    /// Passes bytes to the host's socket, and to the buffer what the socket does not take. Returns how many bytes were
    /// taken.
    fn take(&mut self, bytes: Span<'_, '_>, budget: &mut Budget) -> Result<usize, End> {
        let Some(socket) = &mut self.socket else { return Ok(bytes.len()) };
        if self.host_failed {
            return Ok(bytes.len());
        }
        let written = if self.inbound.pending.is_empty() {
            match socket.write(bytes) {
                Ok(written) => written.min(bytes.len()),
                Err(_) => return self.fail_host(budget).map(|()| bytes.len()),
            }
        } else {
            0
        };
        let room = budget.max_buffered.saturating_sub(budget.buffered);
        let rest = bytes.after(written).first(room);
        if !rest.is_empty() {
            let pending = &mut self.inbound.pending;
            let before = pending.len();
            // Reserves no more than the budget counts.
            pending.reserve_exact(rest.len());
            pending.resize(before + rest.len(), 0);
            pending.make_contiguous();
            rest.copy_to(&mut pending.as_mut_slices().0[before..]);
            budget.buffered += rest.len();
        }
        Ok(written + rest.len())
    }

    /// Passes the guest's FIN on, once all its bytes were passed on.
    fn pass_end_on(&mut self, budget: &mut Budget) -> Result<(), End> {
        if !self.inbound.ended || self.inbound.passed_on || !self.inbound.pending.is_empty() {
            return Ok(());
        }
        self.inbound.passed_on = true;
        if let Some(socket) = &mut self.socket
            && !self.host_failed
            && socket.shutdown().is_err()
        {
            return self.fail_host(budget);
        }
        Ok(())
    }

    /// Passes pending bytes to the host's socket.
    fn flush(&mut self, budget: &mut Budget) -> Result<(), End> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        if self.inbound.pending.is_empty() {
            return Ok(());
        }
        while !self.inbound.pending.is_empty() {
            let (front, _) = self.inbound.pending.as_mut_slices();
            let length = front.len();
            let slices = [Slice::from(front)];
            match socket.write(Span::new(&slices)) {
                Ok(written) => {
                    let written = written.min(length);
                    self.inbound.pending.drain(..written);
                    budget.buffered = budget.buffered.saturating_sub(written);
                    if written < length {
                        break;
                    }
                }
                Err(_) => return self.fail_host(budget),
            }
        }
        if self.inbound.pending.is_empty() {
            self.inbound.pending.shrink_to_fit();
        }
        self.pass_end_on(budget)?;
        // A window that was all but closed opens without waiting for a probe (RFC 9293 §3.8.6.2.2).
        let offered = self.inbound.edge.since(self.inbound.next);
        let free = budget.capacity().saturating_sub(self.inbound.pending.len());
        if !self.inbound.ended && free >= offered + budget.capacity() / 2 {
            self.ack_due = true;
        }
        Ok(())
    }

    /// Handles an event of the host's socket. While it is connecting, the caller sees errors by `connected`.
    pub(super) fn host_ready(&mut self, readiness: Readiness, budget: &mut Budget) -> Result<(), End> {
        self.readable |= readiness.readable;
        self.host_ended |= readiness.ended;
        if readiness.failed && !self.host_failed {
            self.fail_host(budget)?;
        }
        if readiness.writable && !self.host_failed {
            self.flush(budget)?;
        }
        self.settle()
    }

    /// Takes the socket of a flow that is to be reset.
    pub(super) fn take_socket(&mut self) -> Option<Socket> {
        self.socket.take()
    }
}
