//! Sessions of published UDP ports: which client of the host a pair of addresses in the guest stands for.
//!
//! The table is bounded; a new session evicts the one that was idle longest.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::net::deadlines::Deadlines;
use crate::net::sockets::SocketId;

/// A session ends after this long without a datagram either way (RFC 4787, section 4.3).
const IDLE: Duration = Duration::from_mins(2);

/// A session as the guest sees it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Ends {
    /// The published address and port.
    pub(crate) container: SocketAddr,
    /// The client's address and port, as the container sees them.
    pub(crate) seen: SocketAddr,
}

/// A session as the host sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Peer {
    /// The published port's socket.
    pub(crate) socket: SocketId,
    /// The client.
    pub(crate) client: SocketAddr,
    /// The host's address it wrote to, if the socket is bound to several.
    pub(crate) local: Option<IpAddr>,
}

#[derive(Debug)]
struct Session {
    peer: Peer,
    deadline: Instant,
}

/// The table of sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    open: HashMap<Ends, Session>,
    by_client: HashMap<(SocketId, SocketAddr, Option<IpAddr>), Ends>,
    deadlines: Deadlines<Ends>,
    max: usize,
    /// Sessions that were evicted.
    pub(crate) evicted: u64,
}

impl Sessions {
    /// A table of at most `max` sessions.
    pub(crate) fn new(max: usize) -> Self {
        Self { open: HashMap::new(), by_client: HashMap::new(), deadlines: Deadlines::default(), max, evicted: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// The session of `peer`, which counts as used now.
    pub(crate) fn of_client(&mut self, peer: &Peer, now: Instant) -> Option<Ends> {
        let ends = *self.by_client.get(&(peer.socket, peer.client, peer.local))?;
        self.touch(ends, now);
        Some(ends)
    }

    /// The client behind `ends`, whose session counts as used now.
    pub(crate) fn of_guest(&mut self, ends: Ends, now: Instant) -> Option<Peer> {
        let peer = self.open.get(&ends)?.peer;
        self.touch(ends, now);
        Some(peer)
    }

    /// Begins a session of `peer` with `container`. The guest sees the client as the first of `names` that is free
    /// there; None if none is.
    pub(crate) fn begin(
        &mut self,
        peer: Peer,
        container: SocketAddr,
        names: impl Iterator<Item = SocketAddr>,
        now: Instant,
    ) -> Option<Ends> {
        let mut free = names.map(|seen| Ends { container, seen }).filter(|ends| !self.open.contains_key(ends));
        let ends = free.next()?;
        while self.open.len() >= self.max {
            let oldest = self.deadlines.first()?;
            self.end(oldest);
            self.evicted += 1;
        }
        let deadline = now + IDLE;
        self.open.insert(ends, Session { peer, deadline });
        self.by_client.insert((peer.socket, peer.client, peer.local), ends);
        self.deadlines.insert(deadline, ends);
        Some(ends)
    }

    fn touch(&mut self, ends: Ends, now: Instant) {
        let Some(session) = self.open.get_mut(&ends) else { return };
        self.deadlines.put_off(ends, &mut session.deadline, now + IDLE);
    }

    fn end(&mut self, ends: Ends) {
        if let Some(session) = self.open.remove(&ends) {
            self.by_client.remove(&(session.peer.socket, session.peer.client, session.peer.local));
            self.deadlines.remove(session.deadline, ends);
        }
    }

    /// Ends all sessions of a socket.
    pub(crate) fn end_of(&mut self, socket: SocketId) {
        let ended: Vec<Ends> =
            self.open.iter().filter(|(_, session)| session.peer.socket == socket).map(|(ends, _)| *ends).collect();
        for ends in ended {
            self.end(ends);
        }
    }

    /// Ends sessions that were idle too long, and returns when the next one will have been.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Instant> {
        while let Some(ends) = self.deadlines.over(now) {
            self.end(ends);
        }
        self.deadlines.next()
    }

    /// Ends all sessions.
    pub(crate) fn clear(&mut self) {
        self.open.clear();
        self.by_client.clear();
        self.deadlines.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container() -> SocketAddr {
        SocketAddr::from(([172, 17, 0, 2], 53))
    }

    fn peer(port: u16) -> Peer {
        Peer { socket: 16, client: SocketAddr::from(([192, 168, 1, 7], port)), local: None }
    }

    fn begin(sessions: &mut Sessions, peer: Peer, now: Instant) -> Option<Ends> {
        sessions.begin(peer, container(), std::iter::once(peer.client), now)
    }

    #[test]
    fn a_session_is_found_from_both_sides_until_it_was_idle_too_long() {
        let (mut sessions, now) = (Sessions::new(8), Instant::now());
        assert_eq!(sessions.of_client(&peer(1), now), None);
        let ends = begin(&mut sessions, peer(1), now).unwrap();
        assert_eq!(ends, Ends { container: container(), seen: peer(1).client });
        assert_eq!(sessions.of_client(&peer(1), now), Some(ends));
        assert_eq!(sessions.of_guest(ends, now + IDLE / 2), Some(peer(1)));
        assert_eq!(sessions.expire(now + IDLE), Some(now + IDLE + IDLE / 2));
        assert_eq!(sessions.expire(now + IDLE + IDLE / 2), None);
        assert_eq!(sessions.of_guest(ends, now), None);
        assert_eq!((sessions.open.len(), sessions.by_client.len(), sessions.deadlines.len()), (0, 0, 0));
    }

    #[test]
    fn two_clients_that_would_look_alike_do_not() {
        let (mut sessions, now) = (Sessions::new(8), Instant::now());
        let names = || (5000..5002).map(|port| SocketAddr::from(([198, 19, 64, 254], port)));
        let ends: Vec<_> = (1..=3).map(|port| sessions.begin(peer(port), container(), names(), now)).collect();
        assert_eq!(ends.iter().flatten().map(|ends| ends.seen.port()).collect::<Vec<_>>(), [5000, 5001]);
        assert_eq!(ends[2], None);
        assert_eq!(sessions.of_guest(ends[1].unwrap(), now), Some(peer(2)));
    }

    #[test]
    fn a_flood_of_clients_costs_no_more_than_the_table_and_the_idlest_go_first() {
        let (mut sessions, start) = (Sessions::new(4), Instant::now());
        let used = begin(&mut sessions, peer(1), start).unwrap();
        for port in 2..=100 {
            let now = start + Duration::from_secs(u64::from(port) * 2);
            begin(&mut sessions, peer(port), now).unwrap();
            assert_eq!(sessions.of_guest(used, now), Some(peer(1)), "the used session was evicted");
        }
        assert_eq!((sessions.len(), sessions.evicted), (4, 96));
        assert_eq!((sessions.by_client.len(), sessions.deadlines.len()), (4, 4));
    }

    #[test]
    fn the_end_of_a_port_is_the_end_of_its_sessions_only() {
        let (mut sessions, now) = (Sessions::new(8), Instant::now());
        begin(&mut sessions, peer(1), now).unwrap();
        let other = Peer { socket: 17, ..peer(2) };
        let kept = begin(&mut sessions, other, now).unwrap();
        sessions.end_of(16);
        assert_eq!((sessions.len(), sessions.of_guest(kept, now)), (1, Some(other)));
    }
}
