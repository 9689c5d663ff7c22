//! One stream between a socket of the host and a port of the guest.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use nix::sys::epoll::EpollFlags;
use vm_memory::Bytes;

use super::credit::{Overrun, OwnCredit, PeerCredit};
use super::packet::{Closed, HOST_CID, Header, Operation, TYPE_STREAM};
use super::socket;
use crate::devices::span::Slice;

/// The ports of a stream, which identify it, as both CIDs are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ports {
    /// On the host's side.
    pub(super) host: u32,
    /// On the guest's side.
    pub(super) guest: u32,
}

/// The state of a stream. Its end is not a state: the muxer removes it from the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The host asked for the stream; the guest does not know it yet.
    Requested,
    /// The guest has been asked and has not replied.
    Asked,
    /// Data flows.
    Established,
}

/// What a stream has for the guest next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    /// A packet without payload.
    Control(Header),
    /// Payload, at most this many bytes.
    Data(usize),
}

/// What happens to a stream after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Continue,
    /// The host gave up before the guest answered.
    Abandoned,
    /// The guest will neither send nor receive any more. It is answered with a reset, and what it sent before is
    /// delivered.
    GuestDone,
    /// Nobody on the host is left. The guest is notified and will answer with a reset.
    HostDone,
}

/// Most receive buffers filled by one read from the host.
const MAX_BATCH: usize = 32;

/// A stream and its socket on the host.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) ports: Ports,
    pub(super) state: State,
    guest_cid: u64,
    socket: UnixStream,
    /// The socket may have data: true until a read would block. See [`host`](super::host) on edge triggering.
    readable: bool,
    /// The socket may take data: true until a write would block.
    writable: bool,
    /// Both directions of the socket are closed.
    hung_up: bool,
    /// The directions the guest has closed.
    guest_closed: Closed,
    /// The directions the host has closed.
    host_closed: Closed,
    /// The part of `host_closed` that the guest has been notified of.
    host_closed_told: Closed,
    response_due: bool,
    credit_update_due: bool,
    /// Whether more credit is asked for: once per stall, which the guest's next packet with credit ends.
    credit_request: CreditRequest,
    /// Bytes from the guest that the socket has not taken yet. Bounded by the credit given to the guest.
    buffer: VecDeque<u8>,
    own: OwnCredit,
    peer: PeerCredit,
    /// Receive buffers to collect for the next read. Grows while reads fill them all.
    pub(super) batch: usize,
    /// The stream is in the muxer's ring.
    pub(super) queued: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CreditRequest {
    No,
    Due,
    Sent,
}

impl Connection {
    /// A stream the host asks for, which the guest has yet to accept.
    pub(super) fn from_host(guest_cid: u64, ports: Ports, socket: UnixStream) -> Self {
        Self::new(guest_cid, ports, socket, State::Requested)
    }

    /// A stream the guest asked for with `request`. Its socket is connected.
    pub(super) fn from_guest(guest_cid: u64, ports: Ports, socket: UnixStream, request: &Header) -> Self {
        let mut connection = Self::new(guest_cid, ports, socket, State::Established);
        connection.response_due = true;
        connection.peer.update(request);
        connection
    }

    fn new(guest_cid: u64, ports: Ports, socket: UnixStream, state: State) -> Self {
        Self {
            ports,
            state,
            guest_cid,
            socket,
            readable: true,
            writable: true,
            hung_up: false,
            guest_closed: Closed::default(),
            host_closed: Closed::default(),
            host_closed_told: Closed::default(),
            response_due: false,
            credit_update_due: false,
            credit_request: CreditRequest::No,
            buffer: VecDeque::new(),
            own: OwnCredit::default(),
            peer: PeerCredit::default(),
            batch: 1,
            queued: false,
        }
    }

    /// Handles an epoll event of the socket. Returns the bytes it sent to the host.
    pub(super) fn host_event(&mut self, events: EpollFlags) -> u64 {
        let broken = events.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
        self.hung_up |= events.contains(EpollFlags::EPOLLHUP);
        self.readable |= broken || events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP);
        self.writable |= broken || events.contains(EpollFlags::EPOLLOUT);
        self.flush()
    }

    /// Takes the state of the guest's receive buffer, which every packet carries.
    pub(super) fn update_peer_credit(&mut self, header: &Header) {
        self.peer.update(header);
        if self.peer.available() > 0 {
            self.credit_request = CreditRequest::No;
        }
    }

    /// The guest accepted: reports its port to the host, after which data may flow.
    pub(super) fn establish(&mut self) -> io::Result<()> {
        let line = format!("OK {}\n", self.ports.host);
        // Nothing was written to this socket before, so the line fits unless the host shrank the socket's buffer.
        if socket::send_bytes(&self.socket, line.as_bytes())? != line.len() {
            return Err(ErrorKind::WriteZero.into());
        }
        self.state = State::Established;
        Ok(())
    }

    /// Takes `payload` from the guest and sends to the socket what it takes now. Returns the bytes sent.
    pub(super) fn receive(&mut self, payload: &[Slice<'_>], length: u32) -> Result<u64, Overrun> {
        self.own.receive(length)?;
        let length = length as usize;
        let mut sent = 0;
        if self.buffer.is_empty() {
            sent = self.send_directly(payload, length);
        }
        if self.host_closed.contains(Closed::RECEIVE) {
            // Nobody will read it; an OP_SHUTDOWN tells the guest.
            self.own.forward((length - sent) as u32);
        } else if sent < length {
            self.keep(payload, sent);
        }
        self.note_credit();
        Ok(sent as u64)
    }

    /// Bytes kept for the host.
    pub(super) fn kept(&self) -> usize {
        self.buffer.len()
    }

    fn send_directly(&mut self, payload: &[Slice<'_>], length: usize) -> usize {
        let mut sent = 0;
        let mut rest;
        let mut pieces = payload;
        while self.writable && sent < length && !self.host_closed.contains(Closed::RECEIVE) {
            match socket::send(&self.socket, pieces) {
                Ok(bytes) => {
                    sent += bytes;
                    self.own.forward(bytes as u32);
                    if sent < length {
                        rest = after(payload, sent);
                        pieces = &rest;
                    }
                }
                Err(error) => self.write_failed(&error),
            }
        }
        sent
    }

    fn keep(&mut self, payload: &[Slice<'_>], skip: usize) {
        for piece in after(payload, skip) {
            let start = self.buffer.len();
            self.buffer.resize(start + piece.len(), 0);
            let (front, back) = self.buffer.as_mut_slices();
            // The new bytes may lie across the end of the ring.
            let in_front = front.len().saturating_sub(start).min(piece.len());
            let front_start = start.min(front.len());
            let back_start = start.saturating_sub(front.len());
            // The pieces were checked when the chain was read, so neither read can leave them.
            let _ = piece.read(&mut front[front_start..front_start + in_front], 0);
            if in_front < piece.len() {
                let _ = piece.read(&mut back[back_start..back_start + piece.len() - in_front], in_front);
            }
        }
    }

    /// Sends kept bytes to the socket as far as it takes them, then passes on the guest's half-close. Returns the bytes
    /// sent.
    pub(super) fn flush(&mut self) -> u64 {
        let mut sent = 0;
        while self.writable && !self.buffer.is_empty() {
            match socket::send_bytes(&self.socket, self.buffer.as_slices().0) {
                Ok(bytes) => {
                    self.buffer.drain(..bytes);
                    self.own.forward(bytes as u32);
                    sent += bytes as u64;
                }
                Err(error) => self.write_failed(&error),
            }
        }
        if self.buffer.is_empty() {
            // A stream that was slow once need not keep its memory.
            self.buffer = VecDeque::new();
            self.pass_on_half_close();
        }
        self.note_credit();
        sent
    }

    fn write_failed(&mut self, error: &io::Error) {
        if error.kind() == ErrorKind::WouldBlock {
            self.writable = false;
            return;
        }
        // Any other error means that the reader on the host has gone.
        self.host_closed |= Closed::RECEIVE;
        self.own.forward(self.buffer.len() as u32);
        self.buffer.clear();
    }

    fn pass_on_half_close(&mut self) {
        if self.guest_closed.contains(Closed::SEND) && !self.host_closed.contains(Closed::RECEIVE) {
            // Nothing more will be written; this also ends the stream once the host has finished sending.
            self.host_closed |= Closed::RECEIVE;
            self.host_closed_told |= Closed::RECEIVE;
            // An error means that the other end has gone, which epoll reports as well.
            let _ = self.socket.shutdown(Shutdown::Write);
        }
    }

    fn note_credit(&mut self) {
        self.credit_update_due |= self.own.update_due() && !self.guest_closed.contains(Closed::SEND);
    }

    /// The guest closed one direction or both.
    pub(super) fn guest_shutdown(&mut self, closed: Closed) {
        self.guest_closed |= closed;
        if self.guest_closed.contains(Closed::RECEIVE) {
            // Writers on the host see EPIPE. An error means that they have gone, which epoll reports as well.
            let _ = self.socket.shutdown(Shutdown::Read);
        }
        if self.buffer.is_empty() {
            self.pass_on_half_close();
        }
    }

    /// Whether the guest may still send on this stream.
    pub(super) fn guest_may_send(&self) -> bool {
        self.state == State::Established && !self.guest_closed.contains(Closed::SEND)
    }

    pub(super) fn answer_credit_request(&mut self) {
        self.credit_update_due = true;
    }

    fn may_read(&self) -> bool {
        self.readable
            && self.state == State::Established
            && !self.host_closed.contains(Closed::SEND)
            && !self.guest_closed.contains(Closed::RECEIVE)
    }

    fn close_to_tell(&self) -> bool {
        self.host_closed != self.host_closed_told
    }

    /// Updates the credit request. Returns whether the stream has something for the guest.
    pub(super) fn wants_to_send(&mut self) -> bool {
        let may_read = self.may_read();
        let stalled = may_read && self.peer.available() == 0;
        if stalled && self.credit_request == CreditRequest::No {
            self.credit_request = CreditRequest::Due;
        }
        match self.state {
            State::Requested => true,
            State::Asked => false,
            State::Established => {
                self.response_due
                    || self.close_to_tell()
                    || self.credit_update_due
                    || self.credit_request == CreditRequest::Due
                    || (may_read && !stalled)
            }
        }
    }

    /// What to send to the guest next. A control packet counts as sent.
    pub(super) fn next(&mut self) -> Next {
        match self.state {
            State::Requested => {
                self.state = State::Asked;
                return Next::Control(self.header(Operation::Request));
            }
            State::Asked => return Next::Nothing,
            State::Established => {}
        }
        if self.response_due {
            self.response_due = false;
            return Next::Control(self.header(Operation::Response));
        }
        // Before data: if the host has closed its sending side, there is no data any more.
        if self.close_to_tell() {
            self.host_closed_told = self.host_closed;
            return Next::Control(self.shutdown_header(self.host_closed));
        }
        let credit = self.peer.available();
        if self.may_read() && credit > 0 {
            return Next::Data(credit as usize);
        }
        if self.credit_update_due {
            return Next::Control(self.header(Operation::CreditUpdate));
        }
        if self.credit_request == CreditRequest::Due {
            self.credit_request = CreditRequest::Sent;
            return Next::Control(self.header(Operation::CreditRequest));
        }
        Next::Nothing
    }

    /// Reads up to `limit` bytes from the host into guest memory. None if there is nothing now, or nothing any more.
    pub(super) fn read(&mut self, pieces: &[Slice<'_>], limit: usize) -> Option<usize> {
        match socket::receive(&self.socket, pieces, limit) {
            Ok(0) => self.host_closed |= Closed::SEND,
            Ok(bytes) => {
                self.peer.spend(bytes as u32);
                // Many buffers per system call while the host sends much, one while it sends little.
                self.batch = if bytes == limit { (self.batch * 2).min(MAX_BATCH) } else { 1 };
                return Some(bytes);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                self.batch = 1;
            }
            // The other end has gone without reading everything; there is nothing more to read.
            Err(_) => {
                self.host_closed |= Closed::SEND;
                self.hung_up = true;
            }
        }
        None
    }

    /// What happens to the stream now.
    pub(super) fn verdict(&self) -> Verdict {
        if self.state != State::Established {
            return if self.hung_up { Verdict::Abandoned } else { Verdict::Continue };
        }
        if self.guest_closed.contains(Closed::BOTH) {
            return Verdict::GuestDone;
        }
        let host_sends_no_more = self.host_closed.contains(Closed::SEND) || self.guest_closed.contains(Closed::RECEIVE);
        let host_reads_no_more = self.hung_up || self.host_closed.contains(Closed::RECEIVE);
        // The guest must get its response first, or it would take the end for a refusal.
        if host_sends_no_more && host_reads_no_more && !self.response_due {
            return Verdict::HostDone;
        }
        Verdict::Continue
    }

    /// A header for a packet of this stream without payload.
    pub(super) fn header(&mut self, operation: Operation) -> Header {
        self.data_header(operation, 0)
    }

    /// A header for a packet with `length` bytes of payload.
    pub(super) fn data_header(&mut self, operation: Operation, length: u32) -> Header {
        let mut header = Header {
            src_cid: HOST_CID,
            dst_cid: self.guest_cid,
            src_port: self.ports.host,
            dst_port: self.ports.guest,
            len: length,
            kind: TYPE_STREAM,
            op: operation.to_wire(),
            ..Header::default()
        };
        self.own.announce(&mut header);
        self.credit_update_due = false;
        header
    }

    /// A header that notifies the guest of what the host has closed.
    pub(super) fn shutdown_header(&mut self, closed: Closed) -> Header {
        Header { flags: closed.to_wire(), ..self.header(Operation::Shutdown) }
    }

    /// Ends the stream on the guest's side. Returns what is left for the host, if anything.
    pub(super) fn into_remains(self) -> Option<Remains> {
        let worth_it = !self.buffer.is_empty() && !self.hung_up;
        worth_it.then_some(Remains { socket: self.socket, buffer: self.buffer })
    }
}

/// Bytes of an ended stream that its reader on the host has yet to take.
#[derive(Debug)]
pub(super) struct Remains {
    socket: UnixStream,
    buffer: VecDeque<u8>,
}

impl Remains {
    /// Writes what the socket takes now, and returns the number of bytes. An empty or broken rest is
    /// [`finished`](Self::finished).
    pub(super) fn flush(&mut self) -> u64 {
        let mut sent = 0;
        while !self.buffer.is_empty() {
            match socket::send_bytes(&self.socket, self.buffer.as_slices().0) {
                Ok(bytes) => {
                    self.buffer.drain(..bytes);
                    sent += bytes as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.buffer.clear(),
            }
        }
        sent
    }

    /// Bytes kept for the host.
    pub(super) fn kept(&self) -> usize {
        self.buffer.len()
    }

    pub(super) fn finished(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// `pieces` without their first `skip` bytes.
fn after<'m>(pieces: &[Slice<'m>], mut skip: usize) -> Vec<Slice<'m>> {
    let mut rest = Vec::with_capacity(pieces.len());
    for piece in pieces {
        if skip >= piece.len() {
            skip -= piece.len();
        } else if let Ok(part) = piece.offset(skip) {
            rest.push(part);
            skip = 0;
        }
    }
    rest
}
