//! Flows of datagrams: UDP, and ICMP echoes. Each has a socket of the host, connected to its remote end.
//!
//! The table is bounded; a new flow evicts the one that would expire first. A connected socket reports closed ports,
//! and accepts datagrams from its remote end only.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::deadlines::Deadlines;
use super::sockets::{SocketId, Sockets};
use super::turns::Turns;
use super::wire::Unreachable;

/// A flow without an answer expires after this long without a datagram.
const UNANSWERED: Duration = Duration::from_secs(30);
/// A flow with an answer lives as long as in home routers (RFC 4787, section 4.3).
const ANSWERED: Duration = Duration::from_mins(2);
/// Longest datagram, in bytes.
const MAX_DATAGRAM_BYTES: usize = 65_535;

/// The protocol of a flow.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Kind {
    /// UDP.
    Udp,
    /// ICMP echo requests. The guest's port is their identifier, the remote port 0.
    Ping,
}

/// A flow as the guest sees it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Flow {
    pub(crate) kind: Kind,
    pub(crate) guest: SocketAddr,
    pub(crate) remote: SocketAddr,
}

#[derive(Debug)]
struct Open {
    flow: Flow,
    socket: UdpSocket,
    answered: bool,
    deadline: Instant,
}

/// What arrived for the guest.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Arrival<'a> {
    Datagram(Flow, &'a [u8]),
    Unreachable(Flow, Unreachable),
}

/// The table of flows.
#[derive(Debug)]
pub(crate) struct Flows {
    ids: HashMap<Flow, SocketId>,
    open: HashMap<SocketId, Open>,
    deadlines: Deadlines<SocketId>,
    turns: Turns,
    max: usize,
    buffer: Vec<u8>,
    /// Flows that were evicted.
    pub(crate) evicted: u64,
}

impl Flows {
    /// A table of at most `max` flows.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            ids: HashMap::new(),
            open: HashMap::new(),
            deadlines: Deadlines::default(),
            turns: Turns::default(),
            max,
            buffer: vec![0; MAX_DATAGRAM_BYTES],
            evicted: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Sends a datagram on `flow`, whose remote end is `target` on the host. Returns whether the flow is new.
    pub(crate) fn send(
        &mut self,
        flow: Flow,
        target: IpAddr,
        datagram: &[u8],
        sockets: &mut Sockets,
        now: Instant,
    ) -> io::Result<bool> {
        let (id, new) = match self.ids.get(&flow) {
            Some(id) => (*id, false),
            None => (self.begin(flow, target, sockets, now)?, true),
        };
        self.touch(id, now, false);
        let Some(open) = self.open.get(&id) else { return Ok(new) };
        match open.socket.send(datagram) {
            Ok(_) => Ok(new),
            // The host's queue is full, and a datagram may be lost.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock) => Ok(new),
            // The error belongs to an earlier datagram; this one was not sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => open.socket.send(datagram).map(|_| new),
            Err(error) => Err(error),
        }
    }

    fn begin(&mut self, flow: Flow, target: IpAddr, sockets: &mut Sockets, now: Instant) -> io::Result<SocketId> {
        while self.open.len() >= self.max {
            let Some(id) = self.deadlines.first() else { break };
            self.end(id);
            self.evicted += 1;
        }
        let socket = open_socket(flow.kind, target)?;
        socket.connect(SocketAddr::new(target, flow.remote.port()))?;
        let id = sockets.watch(&socket)?;
        let deadline = now + UNANSWERED;
        self.deadlines.insert(deadline, id);
        self.ids.insert(flow, id);
        self.open.insert(id, Open { flow, socket, answered: false, deadline });
        Ok(id)
    }

    fn end(&mut self, id: SocketId) {
        if let Some(open) = self.open.remove(&id) {
            self.ids.remove(&open.flow);
            self.deadlines.remove(open.deadline, id);
        }
    }

    fn touch(&mut self, id: SocketId, now: Instant, answer: bool) {
        let Some(open) = self.open.get_mut(&id) else { return };
        open.answered |= answer;
        let deadline = now + if open.answered { ANSWERED } else { UNANSWERED };
        self.deadlines.put_off(id, &mut open.deadline, deadline);
    }

    /// Handles readiness of the socket `id`. False if the socket belongs to no flow.
    pub(crate) fn readable(&mut self, id: SocketId) -> bool {
        let known = self.open.contains_key(&id);
        if known {
            self.turns.queue(id);
        }
        known
    }

    /// Whether something may have arrived for the guest.
    pub(crate) fn has_arrivals(&self) -> bool {
        !self.turns.is_empty()
    }

    /// The next arrival for the guest.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Arrival<'_>> {
        while let Some(id) = self.turns.next() {
            let Some(open) = self.open.get_mut(&id) else {
                self.turns.end_turn();
                continue;
            };
            let flow = open.flow;
            match open.socket.recv(&mut self.buffer) {
                Ok(length) => {
                    self.touch(id, now, true);
                    return Some(Arrival::Datagram(flow, &self.buffer[..length]));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.turns.end_turn(),
                // A network error of an earlier datagram, which this call has cleared.
                Err(error) => {
                    if let Some(reason) = unreachable_by(&error) {
                        return Some(Arrival::Unreachable(flow, reason));
                    }
                }
            }
        }
        None
    }

    /// Ends expired flows, and returns when the next one expires.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Instant> {
        while let Some(id) = self.deadlines.over(now) {
            self.end(id);
        }
        self.deadlines.next()
    }

    /// Ends all flows.
    pub(crate) fn clear(&mut self) {
        self.ids.clear();
        self.open.clear();
        self.deadlines.clear();
        self.turns.clear();
    }
}

fn open_socket(kind: Kind, target: IpAddr) -> io::Result<UdpSocket> {
    let (family, protocol, any): (_, _, IpAddr) = match target {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, Ipv4Addr::UNSPECIFIED.into()),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, Ipv6Addr::UNSPECIFIED.into()),
    };
    match kind {
        Kind::Udp => {
            let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        }
        // A ping socket (icmp(7)): the host chooses its identifier, and delivers only echo replies to it.
        Kind::Ping => {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            Ok(UdpSocket::from(socket(family, SockType::Datagram, flags, protocol)?))
        }
    }
}

/// What the guest receives for an error of a host's socket; None if the network did not cause it.
pub(crate) fn unreachable_by(error: &io::Error) -> Option<Unreachable> {
    match error.raw_os_error()? {
        libc::ECONNREFUSED => Some(Unreachable::Port),
        libc::ENETUNREACH | libc::ENETDOWN | libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT => Some(Unreachable::Network),
        libc::EHOSTUNREACH | libc::EHOSTDOWN => Some(Unreachable::Host),
        libc::EACCES | libc::EPERM => Some(Unreachable::Prohibited),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(guest_port: u16, remote: SocketAddr) -> Flow {
        Flow { kind: Kind::Udp, guest: SocketAddr::from(([198, 19, 64, 2], guest_port)), remote }
    }

    fn server() -> UdpSocket {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        server
    }

    /// Waits for sockets and has those of `flows` noted.
    fn wait(flows: &mut Flows, sockets: &mut Sockets) {
        let mut events = [nix::poll::PollFd::new(sockets.event_fd(), nix::poll::PollFlags::POLLIN)];
        assert_eq!(nix::poll::poll(&mut events, 10_000_u16), Ok(1));
        let mut ids = Vec::new();
        sockets.ready(&mut ids).unwrap();
        assert!(ids.into_iter().all(|(id, _)| flows.readable(id)));
    }

    fn send(flows: &mut Flows, sockets: &mut Sockets, flow: Flow, now: Instant) -> bool {
        flows.send(flow, flow.remote.ip(), b"ping", sockets, now).unwrap()
    }

    #[test]
    fn a_datagram_goes_out_by_a_socket_of_its_flow_and_the_answer_comes_back() {
        let (mut flows, mut sockets, server) = (Flows::new(8), Sockets::new().unwrap(), server());
        let now = Instant::now();
        let flow = flow(4000, server.local_addr().unwrap());
        assert!(send(&mut flows, &mut sockets, flow, now));
        assert!(!send(&mut flows, &mut sockets, flow, now), "the flow is there already");
        let mut buffer = [0; 16];
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"ping");
        server.send_to(b"pong", from).unwrap();
        wait(&mut flows, &mut sockets);
        assert_eq!(flows.next(now), Some(Arrival::Datagram(flow, b"pong")));
        assert_eq!(flows.next(now), None);
        assert!(!flows.has_arrivals());
        // Nobody else can answer.
        self::server().send_to(b"evil", from).unwrap();
        server.send_to(b"good", from).unwrap();
        wait(&mut flows, &mut sockets);
        assert_eq!(flows.next(now), Some(Arrival::Datagram(flow, b"good")));
    }

    #[test]
    fn a_port_nobody_has_is_told() {
        let (mut flows, mut sockets) = (Flows::new(8), Sockets::new().unwrap());
        let free = server().local_addr().unwrap();
        let flow = flow(4000, free);
        send(&mut flows, &mut sockets, flow, Instant::now());
        wait(&mut flows, &mut sockets);
        assert_eq!(flows.next(Instant::now()), Some(Arrival::Unreachable(flow, Unreachable::Port)));
        assert_eq!(flows.next(Instant::now()), None);
    }

    #[test]
    fn a_flow_ends_when_it_is_idle_and_later_when_it_was_answered() {
        let (mut flows, mut sockets, server) = (Flows::new(8), Sockets::new().unwrap(), server());
        let begin = Instant::now();
        let (silent, answered) = (flow(1, server.local_addr().unwrap()), flow(2, server.local_addr().unwrap()));
        send(&mut flows, &mut sockets, silent, begin);
        send(&mut flows, &mut sockets, answered, begin);
        let mut buffer = [0; 16];
        server.recv_from(&mut buffer).unwrap();
        let (_, from) = server.recv_from(&mut buffer).unwrap();
        server.send_to(b"pong", from).unwrap();
        wait(&mut flows, &mut sockets);
        flows.next(begin).unwrap();
        assert_eq!(flows.expire(begin), Some(begin + UNANSWERED));
        assert_eq!(flows.expire(begin + UNANSWERED), Some(begin + ANSWERED));
        assert_eq!(flows.len(), 1);
        // One that is used goes on.
        send(&mut flows, &mut sockets, answered, begin + Duration::from_secs(100));
        assert_eq!(flows.expire(begin + ANSWERED), Some(begin + Duration::from_secs(220)));
        assert_eq!(flows.expire(begin + Duration::from_secs(220)), None);
        assert_eq!((flows.len(), flows.ids.len(), flows.deadlines.len()), (0, 0, 0));
    }

    #[test]
    fn a_flood_of_flows_costs_no_more_than_the_table_and_the_idlest_go_first() {
        let (mut flows, mut sockets, server) = (Flows::new(4), Sockets::new().unwrap(), server());
        let begin = Instant::now();
        let remote = server.local_addr().unwrap();
        let used = flow(1, remote);
        for port in 1..=100 {
            let now = begin + Duration::from_secs(u64::from(port) * 2);
            send(&mut flows, &mut sockets, flow(port, remote), now);
            assert!(port == 1 || !send(&mut flows, &mut sockets, used, now), "the used flow was evicted");
        }
        assert_eq!((flows.len(), flows.evicted), (4, 96));
        assert_eq!((flows.ids.len(), flows.deadlines.len()), (4, 4));
    }
}
