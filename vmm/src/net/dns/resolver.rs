//! The resolver: answers local names itself and passes other queries on to the host's resolvers.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use super::message::{HEADER_BYTES, NOT_IMPLEMENTED, Query, SERVER_FAILURE, answer, question, read_query};
use super::names::Names;
use super::resolvers::Resolvers;
use super::upstream::Upstream;
use crate::net::network::Network;
use crate::net::sockets::{SocketId, Sockets};
use crate::net::wire::word;

/// How long a resolver has to answer before the next one is asked.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Attempts for one query, unless the host has more resolvers. A guest repeats its query after five seconds and must
/// have an answer by then.
pub(super) const MAX_ATTEMPTS: usize = 3;
/// Most queries under way; a further one makes the oldest fail.
pub(super) const MAX_PENDING: usize = 512;
/// Longest message, in bytes.
const MAX_MESSAGE_BYTES: usize = 65_535;
/// The response code of a refusal (RFC 1035, section 4.1.1).
pub(super) const REFUSED: u8 = 5;

/// Who asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Client {
    /// A datagram from the first address, the guest's, to the second, the gateway's.
    Datagram(SocketAddr, SocketAddr),
    /// The stream with this number.
    Stream(u64),
}

/// A query that a resolver of the host is to answer.
#[derive(Debug)]
pub(super) struct Pending {
    client: Client,
    query: Vec<u8>,
    /// First byte after its question.
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
    pub(super) resolvers: Resolvers,
    pub(super) pending: HashMap<SocketId, Pending>,
    pub(super) deadlines: BTreeSet<(Instant, SocketId)>,
    answers: VecDeque<(Client, Vec<u8>)>,
    buffer: Vec<u8>,
    /// Queries that were answered with a failure.
    pub(crate) failed: u64,
}

/// A query that is passed to the next resolver.
struct Asking {
    client: Client,
    query: Vec<u8>,
    end: usize,
    resolvers: Vec<SocketAddr>,
    attempt: usize,
}

impl Resolver {
    /// The resolver of `machine`. It asks the resolvers that `resolv_conf` names.
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

    /// Takes a query of a client.
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

    /// Asks the resolver whose turn it is; one that cannot be asked is skipped.
    fn pass_on(&mut self, mut asking: Asking, sockets: &mut Sockets, now: Instant) {
        while asking.attempt < MAX_ATTEMPTS.max(asking.resolvers.len()) && !asking.resolvers.is_empty() {
            let resolver = asking.resolvers[asking.attempt % asking.resolvers.len()];
            let asked = Upstream::by_datagram(resolver, &asking.query)
                .and_then(|upstream| Ok((upstream.watch(sockets)?, upstream)));
            match asked {
                Ok((id, upstream)) => return self.insert(id, asking, upstream, now),
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

    /// Passes a query to the next resolver.
    fn try_next(&mut self, pending: Pending, sockets: &mut Sockets, now: Instant) {
        let Pending { client, query, end, resolvers, attempt, .. } = pending;
        self.pass_on(Asking { client, query, end, resolvers, attempt: attempt + 1 }, sockets, now);
    }

    /// Handles an event of the socket `id`. False if the socket belongs to no query.
    pub(crate) fn readable(&mut self, id: SocketId, sockets: &mut Sockets, now: Instant) -> bool {
        let Some(pending) = self.pending.get_mut(&id) else { return false };
        let taken = loop {
            match pending.upstream.take(&mut self.buffer) {
                Ok(None) => return true,
                // An answer to something else, or a late one to an earlier query.
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
        if truncated && by_stream && !pending.upstream.is_stream() {
            let Pending { client, query, end, resolvers, attempt, .. } = pending;
            let resolver = resolvers[attempt % resolvers.len()];
            let begun =
                Upstream::by_stream(resolver, &query).and_then(|upstream| Ok((upstream.watch(sockets)?, upstream)));
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

    /// Passes queries on whose resolvers have not answered in time; returns when the next one's time is up.
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

    /// Drops all queries and answers.
    pub(crate) fn clear(&mut self) {
        self.pending.clear();
        self.deadlines.clear();
        self.answers.clear();
    }
}

/// The answer that involves no resolver of the host: to a local name, or a refusal.
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
