//! Published UDP ports. Each has a socket of the host, bound to the address that clients write to.
//!
//! Datagrams wait in the socket until the guest has receive buffers. One of the [`Sessions`] records the client's
//! address, the address under which the guest sees it, and the host's address that answers leave from.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Instant;

use super::names::{others, seen};
use super::packet_info;
use super::requests::Publication;
use super::sessions::{Ends, Peer, Sessions};
use crate::net::network::Network;
use crate::net::sockets::{SocketId, Sockets};
use crate::net::turns::Turns;

/// Most sessions of all published ports together. Each takes some 300 bytes and no descriptor.
const MAX_SESSIONS: usize = 16_384;
/// Longest datagram of either IP version, in bytes (RFC 768 over RFC 8200).
const MAX_DATAGRAM_BYTES: usize = 65_527;
/// Longest datagram in an IPv4 packet, in bytes.
const MAX_DATAGRAM_BYTES_V4: usize = 65_507;

#[derive(Debug)]
struct Port {
    publication: Publication,
    socket: UdpSocket,
    container: SocketAddr,
}

/// What happened to a datagram of the guest.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It was sent to the client.
    Sent,
    /// It could not be sent, as can happen to any datagram.
    Lost(io::Error),
    /// It answers no client.
    NoSession,
}

/// The published ports.
#[derive(Debug)]
pub(crate) struct PublishedDatagrams {
    ports: HashMap<SocketId, Port>,
    sessions: Sessions,
    turns: Turns,
    buffer: Vec<u8>,
}

impl Default for PublishedDatagrams {
    fn default() -> Self {
        Self {
            ports: HashMap::new(),
            sessions: Sessions::new(MAX_SESSIONS),
            turns: Turns::default(),
            buffer: vec![0; MAX_DATAGRAM_BYTES],
        }
    }
}

impl PublishedDatagrams {
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

    /// Closes the ports that `ended` selects, with their sessions.
    pub(crate) fn end(&mut self, ended: impl Fn(&Publication) -> bool) {
        let gone: Vec<SocketId> =
            self.ports.iter().filter(|(_, port)| ended(&port.publication)).map(|(id, _)| *id).collect();
        for id in gone {
            self.ports.remove(&id);
            self.sessions.end_of(id);
        }
    }

    /// Whether a port of `address` is published.
    pub(crate) fn has_container(&self, address: IpAddr) -> bool {
        self.ports.values().any(|port| port.container.ip() == address)
    }

    pub(crate) fn sessions(&self) -> (usize, u64) {
        (self.sessions.len(), self.sessions.evicted)
    }

    /// Handles readiness of the socket `id`. False if the socket belongs to no port.
    pub(crate) fn readable(&mut self, id: SocketId) -> bool {
        let known = self.ports.contains_key(&id);
        if known {
            self.turns.queue(id);
        }
        known
    }

    /// Whether something may have arrived for the guest.
    pub(crate) fn has_arrivals(&self) -> bool {
        !self.turns.is_empty()
    }

    /// The next datagram for the guest, and its two ends there.
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
                // A network error of an earlier datagram, which this call has cleared. Its client asks again or is
                // gone.
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

    /// Sends a datagram of the guest to the client it answers.
    pub(crate) fn answer(&mut self, ends: Ends, datagram: &[u8], now: Instant) -> Answer {
        let Some(peer) = self.sessions.of_guest(ends, now) else { return Answer::NoSession };
        let Some(port) = self.ports.get(&peer.socket) else { return Answer::NoSession };
        let send = || packet_info::send(&port.socket, datagram, peer.client, peer.local);
        match send() {
            Ok(()) => Answer::Sent,
            // The error belongs to an earlier datagram; this one was not sent.
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

    /// Ends all sessions, because the guest starts over. Ports stay published.
    pub(crate) fn forget_sessions(&mut self) {
        self.sessions.clear();
    }
}
