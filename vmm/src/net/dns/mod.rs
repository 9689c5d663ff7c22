//! The resolver on the gateway's address: local names are answered here, all others by the host's resolvers.
//!
//! A query is passed on as it came and an answer as it came back, so that everything between the guest and the host's resolver works
//! that the two agree on (EDNS, DNSSEC). Each query has a socket of its own, with a port the system has chosen, connected to the resolver
//! it went to. A guest that asks by TCP gets answers that do not fit a datagram by TCP of ours.

pub(crate) mod message;
mod names;
mod resolvers;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

use self::message::{HEADER_BYTES, NOT_IMPLEMENTED, Query, SERVER_FAILURE, answer, question, read_query};
use self::names::Names;
use self::resolvers::Resolvers;
pub(crate) use self::resolvers::search_domains;
use super::network::Network;
use super::sockets::{SocketId, Sockets};
use super::wire::word;

/// Port of the service.
pub(crate) const PORT: u16 = 53;
/// How long a resolver may think before the next is asked.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Attempts for one query. A guest asks again itself after five seconds, and must have an answer before.
const MAX_ATTEMPTS: usize = 3;
/// Queries under way; for one more the oldest fails.
const MAX_PENDING: usize = 512;
/// Longest message.
const MAX_MESSAGE_BYTES: usize = 65_535;
/// The code a resolver refuses with.
const REFUSED: u8 = 5;

/// Who asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Client {
    /// By a datagram: the guest's address, and the gateway's it was sent to.
    Datagram(SocketAddr, SocketAddr),
    /// By a stream of this number.
    Stream(u64),
}

#[derive(Debug)]
enum Upstream {
    Datagram(UdpSocket),
    Stream { socket: TcpStream, unsent: Vec<u8>, received: Vec<u8> },
}

/// A query that a resolver of the host works on.
#[derive(Debug)]
struct Pending {
    client: Client,
    query: Vec<u8>,
    /// End of its question.
    end: usize,
    resolvers: Vec<SocketAddr>,
    attempt: usize,
    upstream: Upstream,
    deadline: Instant,
}

/// The resolver.
#[derive(Debug)]
pub(crate) struct Resolver {
    names: Names,
    resolvers: Resolvers,
    pending: HashMap<SocketId, Pending>,
    deadlines: BTreeSet<(Instant, SocketId)>,
    answers: VecDeque<(Client, Vec<u8>)>,
    buffer: Vec<u8>,
    /// Queries that failed here.
    pub(crate) failed: u64,
}

/// A query on its way to a resolver.
struct Asking {
    client: Client,
    query: Vec<u8>,
    end: usize,
    resolvers: Vec<SocketAddr>,
    attempt: usize,
}

impl Resolver {
    /// The resolver of `machine`, that asks those `resolv_conf` names.
    pub(crate) fn new(machine: &str, network: &Network, resolv_conf: &Path) -> Self {
        Self {
            names: Names::new(machine, network),
            resolvers: Resolvers::of(resolv_conf),
            pending: HashMap::new(),
            deadlines: BTreeSet::new(),
            answers: VecDeque::new(),
            buffer: vec![0; MAX_MESSAGE_BYTES],
            failed: 0,
        }
    }

    /// Takes a query.
    pub(crate) fn ask(&mut self, client: Client, query: &[u8], sockets: &mut Sockets, now: Instant) {
        let question = match read_query(query) {
            Query::Ignore => return,
            Query::Refuse(code) => {
                self.answers.push_back((client, refusal(query, code)));
                return;
            }
            Query::Ask(question) => question,
        };
        if let Some(local) = self.names.answer(query, &question) {
            self.answers.push_back((client, local));
            return;
        }
        let resolvers = self.resolvers.now().to_vec();
        self.pass_on(Asking { client, query: query.to_vec(), end: question.end, resolvers, attempt: 0 }, sockets, now);
    }

    /// Asks the resolver whose turn it is, and those after it that cannot be asked.
    fn pass_on(&mut self, mut asking: Asking, sockets: &mut Sockets, now: Instant) {
        while asking.attempt < MAX_ATTEMPTS.max(asking.resolvers.len()) && !asking.resolvers.is_empty() {
            let resolver = asking.resolvers[asking.attempt % asking.resolvers.len()];
            match ask_by_datagram(resolver, &asking.query) {
                Ok(socket) => match sockets.watch(&socket) {
                    Ok(id) => return self.insert(id, asking, Upstream::Datagram(socket), now),
                    Err(error) => tracing::debug!(%error, "a query's socket cannot be watched"),
                },
                Err(error) => tracing::debug!(%resolver, %error, "a resolver of the host cannot be asked"),
            }
            asking.attempt += 1;
        }
        self.fail(asking.client, &asking.query, asking.end);
    }

    fn insert(&mut self, id: SocketId, asking: Asking, upstream: Upstream, now: Instant) {
        if self.pending.len() >= MAX_PENDING
            && let Some(&(_, oldest)) = self.deadlines.first()
            && let Some(pending) = self.remove(oldest)
        {
            self.fail(pending.client, &pending.query, pending.end);
        }
        let deadline = now + PATIENCE;
        self.deadlines.insert((deadline, id));
        let Asking { client, query, end, resolvers, attempt } = asking;
        self.pending.insert(id, Pending { client, query, end, resolvers, attempt, upstream, deadline });
    }

    fn remove(&mut self, id: SocketId) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        self.deadlines.remove(&(pending.deadline, id));
        Some(pending)
    }

    fn fail(&mut self, client: Client, query: &[u8], end: usize) {
        self.failed += 1;
        self.answers.push_back((client, answer(query, end, SERVER_FAILURE, &[], None)));
    }

    /// Goes on with the next resolver.
    fn try_next(&mut self, pending: Pending, sockets: &mut Sockets, now: Instant) {
        let Pending { client, query, end, resolvers, attempt, .. } = pending;
        self.pass_on(Asking { client, query, end, resolvers, attempt: attempt + 1 }, sockets, now);
    }

    /// The socket `id` has something to report. False when it is none of these.
    pub(crate) fn readable(&mut self, id: SocketId, sockets: &mut Sockets, now: Instant) -> bool {
        let Some(pending) = self.pending.get_mut(&id) else { return false };
        let taken = loop {
            match pending.upstream.take(&mut self.buffer) {
                Ok(None) => return true,
                // Somebody else's, or a late one of before.
                Ok(Some(message)) if !answers(message, &pending.query) => {}
                other => break other.map(|message| message.map(<[u8]>::to_vec)),
            }
        };
        let Some(pending) = self.remove(id) else { return true };
        match taken {
            Ok(Some(message)) => self.answered(pending, message, sockets, now),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%error, "a resolver of the host does not answer");
                self.try_next(pending, sockets, now);
            }
        }
        true
    }

    fn answered(&mut self, pending: Pending, message: Vec<u8>, sockets: &mut Sockets, now: Instant) {
        let code = message[3] & 15;
        let more = pending.attempt + 1 < pending.resolvers.len();
        if more && [SERVER_FAILURE, NOT_IMPLEMENTED, REFUSED].contains(&code) {
            return self.try_next(pending, sockets, now);
        }
        let truncated = message[2] & 2 != 0;
        let by_stream = matches!(pending.client, Client::Stream(_));
        if truncated && by_stream && matches!(pending.upstream, Upstream::Datagram(_)) {
            let Pending { client, query, end, resolvers, attempt, .. } = pending;
            let resolver = resolvers[attempt % resolvers.len()];
            let begun = ask_by_stream(resolver, &query)
                .and_then(|upstream| Ok((sockets.watch_stream(upstream.as_stream()?)?, upstream)));
            return match begun {
                Ok((id, upstream)) => {
                    self.insert(id, Asking { client, query, end, resolvers, attempt }, upstream, now);
                }
                Err(error) => {
                    tracing::debug!(%resolver, %error, "a resolver of the host cannot be asked by TCP");
                    self.fail(client, &query, end);
                }
            };
        }
        self.answers.push_back((pending.client, message));
    }

    /// The next answer for a client.
    pub(crate) fn next_answer(&mut self) -> Option<(Client, Vec<u8>)> {
        self.answers.pop_front()
    }

    /// Goes on with queries whose resolvers have not answered in time; returns when the next one's time is over.
    pub(crate) fn expire(&mut self, sockets: &mut Sockets, now: Instant) -> Option<Instant> {
        while let Some(&(deadline, id)) = self.deadlines.first() {
            if deadline > now {
                return Some(deadline);
            }
            if let Some(pending) = self.remove(id) {
                self.try_next(pending, sockets, now);
            }
        }
        None
    }

    /// Forgets everything that was asked.
    pub(crate) fn clear(&mut self) {
        self.pending.clear();
        self.deadlines.clear();
        self.answers.clear();
    }
}

impl Upstream {
    /// The next message, if there is one.
    fn take<'b>(&mut self, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        match self {
            Self::Datagram(socket) => match retried(|| socket.recv(buffer)) {
                Ok(length) => Ok(Some(&buffer[..length])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(error),
            },
            Self::Stream { socket, unsent, received } => {
                if let Some(error) = socket.take_error()? {
                    return Err(error);
                }
                while !unsent.is_empty() {
                    match retried(|| socket.write(unsent)) {
                        Ok(length) => drop(unsent.drain(..length)),
                        Err(error)
                            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) =>
                        {
                            return Ok(None);
                        }
                        Err(error) => return Err(error),
                    }
                }
                loop {
                    match retried(|| socket.read(buffer)) {
                        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                        Ok(length) => received.extend(&buffer[..length]),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                        Err(error) => return Err(error),
                    }
                    // One message and no more was asked for.
                    if let Some(length) = word(received, 0).map(usize::from)
                        && let Some(message) = received.get(2..2 + length)
                    {
                        buffer[..length].copy_from_slice(message);
                        return Ok(Some(&buffer[..length]));
                    }
                }
            }
        }
    }

    fn as_stream(&self) -> io::Result<&TcpStream> {
        match self {
            Self::Stream { socket, .. } => Ok(socket),
            Self::Datagram(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

fn retried<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// The answer that needs no other resolver: to a name of ours, or a refusal.
pub(crate) fn local_answer(query: &[u8], network: &Network) -> Option<Vec<u8>> {
    match read_query(query) {
        Query::Ignore => None,
        Query::Refuse(code) => Some(refusal(query, code)),
        Query::Ask(question) => Names::new("default", network).answer(query, &question),
    }
}

fn refusal(query: &[u8], code: u8) -> Vec<u8> {
    let end = question(query).map_or(HEADER_BYTES, |question| question.end);
    answer(query, end, code, &[], None)
}

/// Whether `message` is an answer to `query`.
pub(crate) fn answers(message: &[u8], query: &[u8]) -> bool {
    let is_answer = message.len() >= HEADER_BYTES && message[2] & 0x80 != 0 && message.get(..2) == query.get(..2);
    // Some resolvers leave the question out of an answer that is an error.
    is_answer && (word(message, 4) == Some(0) || question(message) == question(query))
}

fn ask_by_datagram(resolver: SocketAddr, query: &[u8]) -> io::Result<UdpSocket> {
    let any: SocketAddr =
        if resolver.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(resolver)?;
    socket.send(query)?;
    Ok(socket)
}

fn ask_by_stream(resolver: SocketAddr, query: &[u8]) -> io::Result<Upstream> {
    let family = if resolver.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(resolver)) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let mut unsent = (query.len() as u16).to_be_bytes().to_vec();
    unsent.extend(query);
    Ok(Upstream::Stream { socket: socket.into(), unsent, received: Vec::new() })
}

#[cfg(test)]
mod tests;
