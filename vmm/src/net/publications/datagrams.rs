//! Published UDP ports: each has a socket of the host, bound where clients write to.
//!
//! What comes waits in the socket until the guest has receive buffers. A client's address, the guest's answer and the host's address it goes
//! out from are kept together by [`Sessions`].

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Instant;

use super::sessions::{Ends, Peer, Sessions};
use super::{Publication, others, packet_info, seen};
use crate::net::network::Network;
use crate::net::sockets::{SocketId, Sockets};
use crate::net::turns::Turns;

/// Sessions of all published ports together: some 300 bytes each, no descriptor.
const MAX_SESSIONS: usize = 16_384;
/// Longest datagram of either version (RFC 768 over RFC 8200).
const MAX_DATAGRAM_BYTES: usize = 65_527;
/// Longest that fits a packet of IPv4.
const MAX_DATAGRAM_BYTES_V4: usize = 65_507;

#[derive(Debug)]
struct Port {
    publication: Publication,
    socket: UdpSocket,
    container: SocketAddr,
}

/// What became of a datagram of the guest.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It was sent to the client.
    Sent,
    /// It was not, as it may happen to datagrams.
    Lost(io::Error),
    /// It answers no client.
    NoSession,
}

/// The published ports.
#[derive(Debug)]
pub(crate) struct Datagrams {
    ports: HashMap<SocketId, Port>,
    sessions: Sessions,
    turns: Turns,
    buffer: Vec<u8>,
}

impl Default for Datagrams {
    fn default() -> Self {
        Self {
            ports: HashMap::new(),
            sessions: Sessions::new(MAX_SESSIONS),
            turns: Turns::default(),
            buffer: vec![0; MAX_DATAGRAM_BYTES],
        }
    }
}

impl Datagrams {
    /// Publishes the guest's `container` at `socket`.
    pub(crate) fn publish(
        &mut self,
        publication: Publication,
        socket: OwnedFd,
        container: SocketAddr,
        sockets: &mut Sockets,
    ) -> io::Result<()> {
        let socket = UdpSocket::from(socket);
        packet_info::ask_for_it(&socket)?;
        let id = sockets.watch(&socket)?;
        self.ports.insert(id, Port { publication, socket, container });
        Ok(())
    }

    /// Closes the ports `ended` names, with their sessions.
    pub(crate) fn end(&mut self, ended: impl Fn(&Publication) -> bool) {
        let gone: Vec<SocketId> =
            self.ports.iter().filter(|(_, port)| ended(&port.publication)).map(|(id, _)| *id).collect();
        for id in gone {
            self.ports.remove(&id);
            self.sessions.end_of(id);
        }
    }

    /// Whether something is published at `address`.
    pub(crate) fn has_container(&self, address: IpAddr) -> bool {
        self.ports.values().any(|port| port.container.ip() == address)
    }

    pub(crate) fn sessions(&self) -> (usize, u64) {
        (self.sessions.len(), self.sessions.evicted)
    }

    /// The socket `id` has become readable. False when it is none of these.
    pub(crate) fn readable(&mut self, id: SocketId) -> bool {
        let known = self.ports.contains_key(&id);
        if known {
            self.turns.queue(id);
        }
        known
    }

    /// Whether something may have come for the guest.
    pub(crate) fn has_arrivals(&self) -> bool {
        !self.turns.is_empty()
    }

    /// What came next for the guest: the datagram and its two ends there.
    pub(crate) fn next(&mut self, network: &Network, now: Instant) -> Option<(Ends, &[u8])> {
        while let Some(id) = self.turns.next() {
            let Some(port) = self.ports.get(&id) else {
                self.turns.end_turn();
                continue;
            };
            let container = port.container;
            match packet_info::receive(&port.socket, &mut self.buffer) {
                Ok((length, client, local)) => {
                    let fits = container.is_ipv6() || length <= MAX_DATAGRAM_BYTES_V4;
                    let ends = self.session(Peer { socket: id, client, local }, container, network, now);
                    if let Some(ends) = ends.filter(|_| fits) {
                        return Some((ends, &self.buffer[..length]));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.turns.end_turn(),
                // An error of the network on an earlier datagram; it is taken with being told. Its client asks again or is gone.
                Err(error) => tracing::debug!(%container, %error, "a published port"),
            }
        }
        None
    }

    fn session(&mut self, peer: Peer, container: SocketAddr, network: &Network, now: Instant) -> Option<Ends> {
        if let Some(ends) = self.sessions.of_client(&peer, now) {
            return Some(ends);
        }
        let first = seen(peer.client, container, network);
        let names = std::iter::once(first).chain(others(first, container, network));
        self.sessions.begin(peer, container, names, now)
    }

    /// Sends what the guest has for a client.
    pub(crate) fn answer(&mut self, ends: Ends, datagram: &[u8], now: Instant) -> Answer {
        let Some(peer) = self.sessions.of_guest(ends, now) else { return Answer::NoSession };
        let Some(port) = self.ports.get(&peer.socket) else { return Answer::NoSession };
        let send = || packet_info::send(&port.socket, datagram, peer.client, peer.local);
        match send() {
            Ok(()) => Answer::Sent,
            // It was about an earlier one; this one was not sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => match send() {
                Ok(()) => Answer::Sent,
                Err(error) => Answer::Lost(error),
            },
            Err(error) => Answer::Lost(error),
        }
    }

    /// Ends sessions that were idle too long, and returns when the next one will have been.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Instant> {
        self.sessions.expire(now)
    }

    /// The guest starts over: sessions end, ports stay.
    pub(crate) fn forget_sessions(&mut self) {
        self.sessions.clear();
    }
}
