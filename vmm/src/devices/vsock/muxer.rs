//! The muxer: the table of streams between host and guest, and the order in which they are served.
//!
//! Everything happens on the device's one thread. Streams with something for the guest wait in a ring and are served
//! in turn, one read each. Packets that belong to no stream any more (resets, last shutdowns) wait in a queue of their
//! own and go first. That queue is bounded: while it is long, the device takes no more packets from the guest.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::buffers::Buffers;
use super::connection::{Connection, Next, Ports, Remains, State, Verdict};
use super::host::{AGAIN, Handshake, Host, LISTENER, SocketId};
use super::packet::{Closed, HOST_CID, Header, MAX_PAYLOAD_BYTES, Operation, TYPE_STREAM};
use super::socket;
use super::stats::{VsockStatistics, add, count};
use crate::devices::chain::Malformed;
use crate::devices::span::Slice;

/// Most streams, handshakes and remains together. Each may hold up to 256 KiB of the guest's data.
const MAX_STREAMS: usize = 4096;
/// While this many answers wait for receive buffers, the device takes no more packets from the guest.
const MAX_ANSWERS: usize = 1024;
/// Entries of ended streams that may stay in the ring among those of live ones.
const RING_SLACK: usize = 32;
/// First port of a stream from the host. Programs listen on lower ports.
const FIRST_HOST_PORT: u32 = 1 << 30;
/// Most connections accepted in one call.
const ACCEPT_BATCH: usize = 64;
/// Events taken from epoll at once, and rounds of that in one call.
const EVENTS: usize = 128;
const EVENT_ROUNDS: usize = 8;

/// What a pair of ports stands for.
#[derive(Clone, Copy, Debug)]
enum Flow {
    Live(SocketId),
    /// The host has gone and the guest was notified; it owes a reset. Its late packets are not answered.
    Closing,
}

/// What a vsock device holds for its guest.
#[derive(Clone, Copy, Debug)]
pub struct VsockHeld {
    /// Streams, ended ones the guest still owes a reset, and handshakes.
    pub streams: usize,
    /// Packets without payload that wait for receive buffers.
    pub answers: usize,
    /// Entries in the queue of streams that have something for the guest.
    pub turns: usize,
    /// Bytes kept for the reader of one stream, at most.
    pub kept_most: usize,
}

/// The streams of one guest.
#[derive(Debug)]
pub(super) struct Muxer {
    guest_cid: u64,
    path: PathBuf,
    host: Host,
    flows: HashMap<Ports, Flow>,
    connections: HashMap<SocketId, Connection>,
    remains: HashMap<SocketId, Remains>,
    ring: VecDeque<SocketId>,
    answers: VecDeque<Header>,
    next_port: u32,
    /// [`MAX_STREAMS`], except in tests.
    pub(super) max_streams: usize,
    statistics: Arc<VsockStatistics>,
}

impl Muxer {
    /// Listens at `path` for the guest with the given CID.
    pub(super) fn new(guest_cid: u64, path: &Path) -> io::Result<Self> {
        Ok(Self {
            guest_cid,
            path: path.to_owned(),
            host: Host::listen(path)?,
            flows: HashMap::new(),
            connections: HashMap::new(),
            remains: HashMap::new(),
            ring: VecDeque::new(),
            answers: VecDeque::new(),
            next_port: FIRST_HOST_PORT,
            max_streams: MAX_STREAMS,
            statistics: Arc::default(),
        })
    }

    /// The port of the next stream from the host, if it is free.
    pub(super) fn next_port(&self) -> u32 {
        self.next_port
    }

    /// Streams from the host get ports from `port` on.
    pub(super) fn set_next_port(&mut self, port: u32) {
        self.next_port = port.max(FIRST_HOST_PORT);
    }

    pub(super) fn statistics(&self) -> &Arc<VsockStatistics> {
        &self.statistics
    }

    pub(super) fn event_fd(&self) -> BorrowedFd<'_> {
        self.host.event_fd()
    }

    /// Makes [`event_fd`](Self::event_fd) readable, so that the device is called again soon.
    pub(super) fn call_again(&self) {
        self.host.call_again();
    }

    /// Closes every stream. Programs on the host see the end of theirs.
    pub(super) fn reset(&mut self) {
        self.flows.clear();
        self.connections.clear();
        self.remains.clear();
        self.ring.clear();
        self.answers.clear();
        self.host.close_handshakes();
        self.room_was_made();
    }

    /// What the device holds for the guest; for fuzzing.
    pub(super) fn held(&self) -> VsockHeld {
        let kept = self.connections.values().map(Connection::kept).chain(self.remains.values().map(Remains::kept));
        VsockHeld {
            streams: self.streams(),
            answers: self.answers.len(),
            turns: self.ring.len(),
            kept_most: kept.max().unwrap_or(0),
        }
    }

    // The host's side.

    /// Handles the events of the host's sockets.
    pub(super) fn host_events(&mut self) -> io::Result<()> {
        let mut space = [EpollEvent::empty(); EVENTS];
        for _ in 0..EVENT_ROUNDS {
            let events = self.host.events(&mut space)?;
            let all = events.len() < EVENTS;
            for event in events {
                match event.data() {
                    LISTENER => self.accept(),
                    AGAIN => self.host.called_again(),
                    id => self.socket_event(id, event.events()),
                }
            }
            if all {
                break;
            }
        }
        Ok(())
    }

    /// Accepts connections again, if a lack of descriptors or room stopped that.
    pub(super) fn resume_accepting(&mut self) {
        if self.streams() < self.max_streams {
            self.host.resume();
        }
    }

    fn streams(&self) -> usize {
        self.flows.len() + self.remains.len() + self.host.handshakes()
    }

    /// Whether another stream may begin, if necessary instead of one whose reset the guest owes.
    fn has_room(&self) -> bool {
        self.streams() < self.max_streams || self.flows.len() > self.connections.len()
    }

    /// Gives up on one owed reset if there are too many streams. To be called after a stream has begun.
    fn make_room(&mut self) {
        if self.streams() <= self.max_streams {
            return;
        }
        let closing = self.flows.iter().find(|(_, flow)| matches!(flow, Flow::Closing)).map(|(ports, _)| *ports);
        if let Some(ports) = closing {
            self.flows.remove(&ports);
            count(&self.statistics.resets_sent);
            self.answers.push_back(Header {
                src_cid: HOST_CID,
                dst_cid: self.guest_cid,
                src_port: ports.host,
                dst_port: ports.guest,
                kind: TYPE_STREAM,
                op: Operation::Reset.to_wire(),
                ..Header::default()
            });
            self.count_open();
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPT_BATCH {
            if !self.has_room() {
                self.host.pause();
                return;
            }
            let Some((id, crowded_out)) = self.host.accept() else { return };
            if crowded_out {
                count(&self.statistics.handshakes_failed);
            }
            self.make_room();
            // The first line has often arrived already.
            self.handshake(id, false);
        }
    }

    fn socket_event(&mut self, id: SocketId, events: EpollFlags) {
        if let Some(connection) = self.connections.get_mut(&id) {
            let sent = connection.host_event(events);
            add(&self.statistics.bytes_to_host, sent);
            self.settle(id);
        } else if let Some(remains) = self.remains.get_mut(&id) {
            add(&self.statistics.bytes_to_host, remains.flush());
            if remains.finished() {
                self.remains.remove(&id);
                self.room_was_made();
            }
        } else {
            let ended = events.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
            self.handshake(id, ended);
        }
    }

    fn handshake(&mut self, id: SocketId, ended: bool) {
        match self.host.handshake(id, ended) {
            Some(Handshake::Connect(port, socket)) => {
                let ports = Ports { host: self.free_port(port), guest: port };
                count(&self.statistics.connections_from_host);
                self.insert(id, Connection::from_host(self.guest_cid, ports, socket));
            }
            Some(Handshake::Failed) => {
                count(&self.statistics.handshakes_failed);
                self.room_was_made();
            }
            // Nothing new, or an event of a socket that an earlier event of the same batch has closed.
            Some(Handshake::Waiting) | None => {}
        }
    }

    /// A host port that no stream to the guest's port `guest` uses. One exists: ports outnumber streams by far.
    fn free_port(&mut self, guest: u32) -> u32 {
        loop {
            let host = self.next_port;
            self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_HOST_PORT);
            if !self.flows.contains_key(&Ports { host, guest }) {
                return host;
            }
        }
    }

    // The guest's packets.

    /// Whether the answers to another packet would fit.
    pub(super) fn takes_packets(&self) -> bool {
        self.answers.len() < MAX_ANSWERS
    }

    /// Handles a packet from the guest.
    pub(super) fn receive(&mut self, header: &Header, payload: &[Slice<'_>]) {
        count(&self.statistics.packets_to_host);
        if header.src_cid != self.guest_cid {
            tracing::debug!(src_cid = header.src_cid, "dropped a vsock packet that is not from the guest's CID");
            count(&self.statistics.packets_dropped);
            return;
        }
        let operation = Operation::from_wire(header.op);
        if header.dst_cid != HOST_CID || header.kind != TYPE_STREAM {
            self.answer_with_reset(header);
            return;
        }
        let ports = Ports { host: header.dst_port, guest: header.src_port };
        match (self.flows.get(&ports), operation) {
            (Some(&Flow::Live(id)), _) => self.receive_on(id, header, operation, payload),
            (None, Some(Operation::Request)) => self.connect(ports, header),
            (None, _) => self.answer_with_reset(header),
            // A new stream on the ports of one that ended: the guest has forgotten the old one.
            (Some(Flow::Closing), Some(Operation::Request)) => {
                self.flows.remove(&ports);
                self.connect(ports, header);
            }
            (Some(Flow::Closing), Some(Operation::Reset)) => {
                count(&self.statistics.resets_received);
                self.flows.remove(&ports);
                self.room_was_made();
            }
            (Some(Flow::Closing), Some(Operation::Shutdown))
                if Closed::from_wire(header.flags).contains(Closed::BOTH) =>
            {
                self.flows.remove(&ports);
                self.answer_with_reset(header);
                self.room_was_made();
            }
            (Some(Flow::Closing), _) => {}
        }
    }

    fn receive_on(&mut self, id: SocketId, header: &Header, operation: Option<Operation>, payload: &[Slice<'_>]) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.update_peer_credit(header);
        let legal = match (connection.state, operation) {
            (_, Some(Operation::Reset)) => {
                count(&self.statistics.resets_received);
                if connection.state != State::Established {
                    count(&self.statistics.connections_refused);
                }
                self.remove(id, false);
                return;
            }
            (State::Asked, Some(Operation::Response)) => connection.establish().is_ok(),
            (State::Established, Some(Operation::ReadWrite)) if connection.guest_may_send() => {
                match connection.receive(payload, header.len) {
                    Ok(sent) => {
                        add(&self.statistics.bytes_to_host, sent);
                        true
                    }
                    Err(_overrun) => {
                        let ports = connection.ports;
                        tracing::warn!(?ports, "the guest sent beyond its credit; the stream is reset");
                        count(&self.statistics.credit_overruns);
                        false
                    }
                }
            }
            (State::Established, Some(Operation::Shutdown)) => {
                connection.guest_shutdown(Closed::from_wire(header.flags));
                true
            }
            (State::Established, Some(Operation::CreditUpdate)) => true,
            (State::Established, Some(Operation::CreditRequest)) => {
                connection.answer_credit_request();
                true
            }
            // An operation that this state does not allow, or that the specification does not define.
            _ => false,
        };
        if legal {
            self.settle(id);
        } else {
            self.remove(id, true);
        }
    }

    /// The guest asks for a stream to a port of the host.
    fn connect(&mut self, ports: Ports, request: &Header) {
        let mut path = OsString::from(&self.path);
        path.push(format!("_{}", ports.host));
        if !self.has_room() {
            tracing::warn!(port = ports.host, "refused a stream from the guest: {} are open", self.max_streams);
            count(&self.statistics.connections_refused);
            self.answer_with_reset(request);
            return;
        }
        let connected = socket::connect(Path::new(&path)).and_then(|socket| Ok((self.host.watch(&socket)?, socket)));
        match connected {
            Ok((id, socket)) => {
                count(&self.statistics.connections_from_guest);
                self.insert(id, Connection::from_guest(self.guest_cid, ports, socket, request));
                self.make_room();
            }
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "refused a stream from the guest");
                count(&self.statistics.connections_refused);
                self.answer_with_reset(request);
            }
        }
    }

    /// Answers a packet that has no stream; a reset is not answered (virtio 1.3 §5.10.6.5).
    fn answer_with_reset(&mut self, header: &Header) {
        if header.op == Operation::Reset.to_wire() {
            // The usual end: both sides closed at once, and this answers our shutdown.
            count(&self.statistics.resets_received);
        } else {
            count(&self.statistics.resets_sent);
            self.answers.push_back(header.answer_reset());
        }
    }

    // The table.

    fn insert(&mut self, id: SocketId, connection: Connection) {
        self.flows.insert(connection.ports, Flow::Live(id));
        self.connections.insert(id, connection);
        self.count_open();
        self.settle(id);
    }

    /// Ends or queues a stream as its state demands, after anything that changed it.
    fn settle(&mut self, id: SocketId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match connection.verdict() {
            Verdict::Continue => {
                if connection.wants_to_send() && !connection.queued {
                    connection.queued = true;
                    self.ring.push_back(id);
                }
            }
            Verdict::Abandoned => {
                let guest_knows = connection.state == State::Asked;
                self.remove(id, guest_knows);
            }
            Verdict::GuestDone => self.remove(id, true),
            Verdict::HostDone => {
                let farewell = connection.shutdown_header(Closed::BOTH);
                let ports = connection.ports;
                self.remove(id, false);
                self.flows.insert(ports, Flow::Closing);
                self.answers.push_back(farewell);
                self.count_open();
            }
        }
    }

    /// Takes a stream out of the table, with a reset for the guest if `reset`. What the guest has sent is still
    /// delivered.
    fn remove(&mut self, id: SocketId, reset: bool) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        self.flows.remove(&connection.ports);
        if self.ring.len() > 2 * self.connections.len() + RING_SLACK {
            // A guest without receive buffers could otherwise add entries of ended streams without end.
            self.ring.retain(|id| self.connections.contains_key(id));
        }
        if reset {
            count(&self.statistics.resets_sent);
            let header = connection.header(Operation::Reset);
            self.answers.push_back(header);
        }
        if let Some(remains) = connection.into_remains() {
            self.remains.insert(id, remains);
        }
        self.count_open();
        self.room_was_made();
    }

    fn count_open(&self) {
        let closing = self.flows.len().saturating_sub(self.connections.len());
        self.statistics.connections_open.store(self.connections.len() as u64, Ordering::Relaxed);
        self.statistics.connections_closing.store(closing as u64, Ordering::Relaxed);
    }

    fn room_was_made(&mut self) {
        self.count_open();
        self.resume_accepting();
    }

    // Packets for the guest.

    /// Whether a packet waits for receive buffers.
    pub(super) fn has_packets(&self) -> bool {
        !self.answers.is_empty() || !self.ring.is_empty()
    }

    /// How many receive buffers the next [`fill`](Self::fill) can use.
    pub(super) fn wanted_buffers(&self) -> usize {
        if !self.answers.is_empty() {
            return 1;
        }
        self.ring.front().and_then(|id| self.connections.get(id)).map_or(1, |connection| connection.batch)
    }

    /// Fills buffers, from the first on, with the next packets, and returns how many it used. Zero: no packet was
    /// there.
    pub(super) fn fill(&mut self, buffers: &mut Buffers<'_>) -> Result<usize, Malformed> {
        if let Some(header) = self.answers.pop_front() {
            return Ok(self.complete(buffers, &header));
        }
        while let Some(id) = self.ring.pop_front() {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.queued = false;
            let used = match connection.next() {
                Next::Nothing => 0,
                Next::Control(header) => self.complete(buffers, &header),
                Next::Data(credit) => self.fill_with_data(id, credit, buffers)?,
            };
            self.settle(id);
            if used > 0 {
                return Ok(used);
            }
        }
        Ok(0)
    }

    fn complete(&mut self, buffers: &mut Buffers<'_>, header: &Header) -> usize {
        buffers.complete(0, header);
        count(&self.statistics.packets_to_guest);
        1
    }

    fn fill_with_data(&mut self, id: SocketId, credit: usize, buffers: &mut Buffers<'_>) -> Result<usize, Malformed> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(0) };
        let room: usize = (0..buffers.len()).map(|index| buffers.room(index)).sum();
        if room == 0 {
            return Err(Malformed("a receive buffer with no room for data".into()));
        }
        let Some(read) = connection.read(buffers.payload(), credit.min(room)) else { return Ok(0) };
        let (mut left, mut used) = (read, 0);
        while left > 0 {
            let length = left.min(buffers.room(used)).min(MAX_PAYLOAD_BYTES);
            let header = connection.data_header(Operation::ReadWrite, length as u32);
            buffers.complete(used, &header);
            left -= length;
            used += 1;
        }
        add(&self.statistics.packets_to_guest, used as u64);
        add(&self.statistics.bytes_to_guest, read as u64);
        Ok(used)
    }
}
