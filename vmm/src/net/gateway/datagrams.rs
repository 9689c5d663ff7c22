//! Datagrams and pings between the guest and sockets of the host: those of the guest's own flows, and those of clients
//! of published ports.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::frame::Frame;
use super::quotes;
use super::replies::Replies;
use crate::net::flows::{Arrival, Flow, Flows, Kind, unreachable_by};
use crate::net::network::{MTU, Network, TO_GUEST};
use crate::net::publications::datagrams::{Answer, PublishedDatagrams};
use crate::net::publications::sessions::Ends;
use crate::net::sockets::{SocketId, Sockets};
use crate::net::stats::{GatewayStatistics, count};
use crate::net::wire::{ETHERNET_BYTES, Echo, Unreachable, split};

/// Most flows of the guest's datagrams at once. Each has a descriptor.
pub(super) const MAX_FLOWS: usize = 4096;
/// Longest IPv6 packet that no link may be too small for; longer ones for a container are cut here (RFC 8200, section
/// 5).
const MIN_MTU_V6: usize = 1280;

/// Both kinds of datagrams.
pub(super) struct Datagrams {
    network: Network,
    flows: Flows,
    pub(super) published: PublishedDatagrams,
    /// Published ports have the next turn.
    published_next: bool,
    /// Identification of the next packet that is cut.
    identification: u32,
    /// The host denies this user ping sockets, which has been logged.
    pings_forbidden: bool,
    statistics: Arc<GatewayStatistics>,
}

impl Datagrams {
    pub(super) fn new(network: Network, statistics: Arc<GatewayStatistics>) -> Self {
        Self {
            network,
            flows: Flows::new(MAX_FLOWS),
            published: PublishedDatagrams::default(),
            published_next: false,
            identification: 0,
            pings_forbidden: false,
            statistics,
        }
    }

    // From the guest.

    /// Sends a datagram on a flow of the guest, whose other end on the host is `target`. Returns the reason if the
    /// guest is to be told that it cannot be delivered.
    pub(super) fn send(
        &mut self,
        flow: Flow,
        target: IpAddr,
        datagram: &[u8],
        sockets: &mut Sockets,
        now: Instant,
    ) -> Option<Unreachable> {
        match self.flows.send(flow, target, datagram, sockets, now) {
            Ok(new) => {
                if new && flow.kind == Kind::Udp {
                    count(&self.statistics.udp_flows);
                }
                None
            }
            Err(error) => {
                let forbidden = flow.kind == Kind::Ping && error.raw_os_error() == Some(libc::EACCES);
                if forbidden && !self.pings_forbidden {
                    self.pings_forbidden = true;
                    tracing::warn!(
                        "the guest cannot ping beyond this computer: the system allows ping sockets to no group of \
                         this user; as root, sysctl net.ipv4.ping_group_range=\"0 2147483647\" allows them to all"
                    );
                }
                let reason = unreachable_by(&error);
                if reason.is_none() {
                    tracing::debug!(remote = %flow.remote, %error, "a datagram of the guest is lost");
                    count(&self.statistics.udp_lost);
                }
                reason
            }
        }
    }

    /// Sends datagrams of `size` bytes each, the last perhaps shorter, to the client of a published port that they
    /// answer. False if they answer none.
    pub(super) fn answer_client(&mut self, ends: Ends, payload: &[u8], size: usize, now: Instant) -> bool {
        let mut rest = payload;
        loop {
            let (datagram, after) = rest.split_at(size.min(rest.len()));
            match self.published.answer(ends, datagram, now) {
                Answer::Sent => {}
                Answer::NoSession => return false,
                Answer::Lost(error) => {
                    tracing::debug!(container = %ends.container, client = %ends.seen, %error, "an answer is lost");
                    count(&self.statistics.udp_lost);
                }
            }
            if after.is_empty() {
                return true;
            }
            rest = after;
        }
    }

    // To the guest.

    /// Handles an event of the socket `id`. False if the socket is none of these.
    pub(super) fn readable(&mut self, id: SocketId) -> bool {
        self.flows.readable(id) || self.published.readable(id)
    }

    /// Whether something may have arrived for the guest.
    pub(super) fn has_arrivals(&self) -> bool {
        self.flows.has_arrivals() || self.published.has_arrivals()
    }

    /// Makes a frame of the next arrival, of the guest's flows and of published ports in turn.
    pub(super) fn next(&mut self, replies: &mut Replies, now: Instant) {
        let published = self.published.has_arrivals() && (self.published_next || !self.flows.has_arrivals());
        self.published_next = !published;
        if published {
            self.next_published(replies, now);
        } else {
            self.next_of_flows(replies, now);
        }
    }

    /// Makes a frame of the next datagram for a published port, or several if a container's link may be too small for
    /// it.
    fn next_published(&mut self, replies: &mut Replies, now: Instant) {
        let Some((ends, datagram)) = self.published.next(&self.network, now) else { return };
        let between = (ends.seen, ends.container);
        if replies.couple(between, datagram) {
            return;
        }
        let pair = replies.steering.pair(ends.container, ends.seen);
        let mut frame = Frame::of_datagram(pair, between, datagram);
        let max_packet = if ends.container.is_ipv4() { usize::from(MTU) } else { MIN_MTU_V6 };
        if frame.bytes.len() <= ETHERNET_BYTES + max_packet {
            return replies.push(frame);
        }
        frame.complete_checksum();
        self.identification = self.identification.wrapping_add(1);
        for bytes in split(&frame.bytes, max_packet, self.identification) {
            replies.push(Frame::of_packet(pair, bytes));
        }
    }

    /// Makes a frame of the next arrival on a flow of the guest.
    fn next_of_flows(&mut self, replies: &mut Replies, now: Instant) {
        let frame = match self.flows.next(now) {
            None => return,
            Some(Arrival::Unreachable(flow, reason)) => {
                return replies.refuse_quoted(&quotes::of_flow(flow), reason);
            }
            Some(Arrival::Datagram(flow @ Flow { kind: Kind::Udp, .. }, datagram)) => {
                let between = (flow.remote, flow.guest);
                if replies.couple(between, datagram) {
                    return;
                }
                Frame::of_datagram(replies.steering.pair(flow.guest, flow.remote), between, datagram)
            }
            Some(Arrival::Datagram(flow, datagram)) => {
                let Some(frame) = echo_reply(flow, datagram) else { return };
                frame
            }
        };
        if frame.bytes.len() > ETHERNET_BYTES + usize::from(MTU) {
            return count(&self.statistics.udp_lost);
        }
        replies.push(frame);
    }

    // Time.

    /// Ends what has been idle for too long. Returns when that must happen next, for each kind.
    pub(super) fn expire(&mut self, now: Instant) -> [Option<Instant>; 2] {
        [self.flows.expire(now), self.published.expire(now)]
    }

    /// Updates the counters that are levels or totals of the tables.
    pub(super) fn report(&self) {
        let statistics = &self.statistics;
        let (sessions, evicted) = self.published.sessions();
        for (counter, value) in [
            (&statistics.udp_flows_open, self.flows.len() as u64),
            (&statistics.udp_flows_evicted, self.flows.evicted),
            (&statistics.published_sessions_open, sessions as u64),
            (&statistics.published_sessions_evicted, evicted),
        ] {
            counter.store(value, Ordering::Relaxed);
        }
    }

    /// Ends all flows and sessions. Ports stay published.
    pub(super) fn reset(&mut self) {
        self.flows.clear();
        self.published.forget_sessions();
    }
}

/// The frame of a reply to the guest's ping on `flow`, with the guest's identifier instead of the host's.
fn echo_reply(flow: Flow, message: &[u8]) -> Option<Frame> {
    let mut echo = Echo::read_reply(message, flow.guest.is_ipv6())?;
    echo.identifier = flow.guest.port();
    let mut bytes = Vec::new();
    echo.write_reply(&mut bytes, TO_GUEST, flow.remote.ip(), flow.guest.ip());
    Some(Frame::of_packet(0, bytes))
}
