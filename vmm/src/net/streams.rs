//! Where the guest's TCP flows go: to sockets of the host, or to the gateway's resolver.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::dns;
use super::network::{self, Network};
use super::tcp::{Destination, Destinations, FlowId, HostSocket, Peeked, Unreachable};
use super::wire;
use crate::devices::span::Span;

/// Most streams to the resolver at once.
const MAX_STREAMS: usize = 64;
/// Most queries of one stream under way; further ones wait in the stream.
const MAX_QUERIES: usize = 16;
/// Longest query with its length field, in bytes.
const MAX_RECEIVED_BYTES: usize = 65_537;

/// The streams to the resolver.
pub(super) struct Streams {
    network: Network,
    open: HashMap<u64, Shared>,
    /// Streams that the guest has written to or ended.
    touched: Arc<Mutex<Vec<u64>>>,
}

type Shared = Arc<Mutex<Stream>>;

/// A stream of the guest to the resolver.
#[derive(Debug, Default)]
struct Stream {
    received: Vec<u8>,
    answers: Vec<u8>,
    working: usize,
    /// The guest has finished writing.
    ended: bool,
    /// The guest's last write did not fit.
    full: bool,
    /// The flow is gone.
    closed: bool,
}

impl Streams {
    pub(super) fn new(network: Network) -> Self {
        Self { network, open: HashMap::new(), touched: Arc::default() }
    }

    fn resolver(&mut self, flow: FlowId) -> Destination {
        if self.open.len() >= MAX_STREAMS {
            return Destination::Refused;
        }
        let stream = Shared::default();
        self.open.insert(flow.token(), stream.clone());
        Destination::Gateway(Box::new(Socket { token: flow.token(), stream, touched: self.touched.clone() }))
    }

    /// The next query and its stream; None if no query waits.
    pub(super) fn next_query(&mut self) -> Option<(u64, Vec<u8>)> {
        loop {
            let token = lock(&self.touched).last().copied()?;
            let query = self.open.get(&token).and_then(|stream| lock(stream).next_query());
            if let Some(query) = query {
                return Some((token, query));
            }
            lock(&self.touched).retain(|touched| *touched != token);
            if self.open.get(&token).is_some_and(|stream| lock(stream).closed) {
                self.open.remove(&token);
            }
        }
    }

    /// Adds the answer to a stream. Returns its flow; None if it is gone.
    pub(super) fn answer(&mut self, token: u64, message: &[u8]) -> Option<FlowId> {
        let mut stream = lock(self.open.get(&token)?);
        stream.working = stream.working.saturating_sub(1);
        stream.answers.extend((message.len() as u16).to_be_bytes());
        stream.answers.extend(message);
        lock(&self.touched).push(token);
        FlowId::from_token(token)
    }

    /// Whether the writer of a flow waits for room that has become free.
    pub(super) fn has_room_again(&mut self, token: u64) -> bool {
        self.open.get(&token).is_some_and(|stream| {
            let mut stream = lock(stream);
            let again = stream.full && stream.received.len() < MAX_RECEIVED_BYTES;
            stream.full &= !again;
            again
        })
    }

    /// Forgets all streams.
    pub(super) fn clear(&mut self) {
        self.open.clear();
        lock(&self.touched).clear();
    }
}

impl Destinations for Streams {
    fn destination(&mut self, flow: FlowId, _guest: SocketAddr, wanted: SocketAddr) -> Destination {
        match self.network.destination(wanted.ip()) {
            network::Destination::Gateway if wanted.port() == dns::PORT => self.resolver(flow),
            network::Destination::Gateway | network::Destination::Dropped => Destination::Refused,
            network::Destination::Socket(target) => Destination::Host(SocketAddr::new(target, wanted.port())),
            network::Destination::Refused(reason) => Destination::Unreachable(match reason {
                wire::Unreachable::Network => Unreachable::Network,
                wire::Unreachable::Host | wire::Unreachable::Port => Unreachable::Host,
                wire::Unreachable::Prohibited => Unreachable::Prohibited,
            }),
        }
    }
}

/// The reason for a refused flow, as the reason for a refused packet.
pub(super) fn reason_of(reason: Unreachable) -> wire::Unreachable {
    match reason {
        Unreachable::Network => wire::Unreachable::Network,
        Unreachable::Host => wire::Unreachable::Host,
        Unreachable::Prohibited => wire::Unreachable::Prohibited,
    }
}

impl Stream {
    fn next_query(&mut self) -> Option<Vec<u8>> {
        if self.working >= MAX_QUERIES {
            return None;
        }
        let length = usize::from(wire::word(&self.received, 0)?);
        let query = self.received.get(2..2 + length)?.to_vec();
        self.received.drain(..2 + length);
        self.working += 1;
        Some(query)
    }
}

/// The gateway's end of a stream to the resolver.
struct Socket {
    token: u64,
    stream: Shared,
    touched: Arc<Mutex<Vec<u64>>>,
}

impl Socket {
    fn touch(&self) {
        lock(&self.touched).push(self.token);
    }
}

impl HostSocket for Socket {
    fn connected(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    fn peek(&mut self, offset: usize, room: Span<'_, '_>) -> io::Result<Peeked> {
        let stream = lock(&self.stream);
        match stream.answers.get(offset..) {
            Some(bytes) if !bytes.is_empty() => Ok(Peeked::Bytes(room.copy_from(bytes))),
            _ if stream.ended && stream.working == 0 && wire::word(&stream.received, 0).is_none() => Ok(Peeked::End),
            _ => Ok(Peeked::Empty),
        }
    }

    fn consume(&mut self, bytes: usize) -> io::Result<()> {
        let mut stream = lock(&self.stream);
        let bytes = bytes.min(stream.answers.len());
        stream.answers.drain(..bytes);
        Ok(())
    }

    fn write(&mut self, data: Span<'_, '_>) -> io::Result<usize> {
        let mut stream = lock(&self.stream);
        let room = MAX_RECEIVED_BYTES - stream.received.len().min(MAX_RECEIVED_BYTES);
        let data_bytes = data.len();
        let (begin, length) = (stream.received.len(), data_bytes.min(room));
        stream.received.resize(begin + length, 0);
        data.copy_to(&mut stream.received[begin..]);
        stream.full |= length < data_bytes;
        drop(stream);
        self.touch();
        Ok(length)
    }

    fn shutdown(&mut self) -> io::Result<()> {
        lock(&self.stream).ended = true;
        self.touch();
        Ok(())
    }

    fn reset(&mut self) {}
}

impl Drop for Socket {
    fn drop(&mut self) {
        lock(&self.stream).closed = true;
        self.touch();
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
