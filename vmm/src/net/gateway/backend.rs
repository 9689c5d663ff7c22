//! The gateway of one guest: what it owns, when it is called, and whose frame goes to the guest next.

use std::fs;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::datagrams::Datagrams;
use super::frame::MAX_TRAIN;
use super::names::Names;
use super::published::Published;
use super::replies::Replies;
use super::tcp::Tcp;
use crate::devices::net::backend::{Accepts, Backend, Offload, Transmit};
use crate::devices::span::Span;
use crate::net::fragments::Fragments;
use crate::net::network::Network;
use crate::net::publications::Publishers;
use crate::net::sockets::{EVENTS, Sockets};
use crate::net::stats::GatewayStatistics;
use crate::net::tcp::{FlowId, Readiness};

/// Rounds of events taken in one call.
const EVENT_ROUNDS: usize = 8;

/// The gateway of one guest.
pub struct Gateway {
    pub(super) network: Network,
    pub(super) sockets: Sockets,
    pub(super) datagrams: Datagrams,
    tcp: Tcp,
    published: Published,
    pub(super) names: Names,
    pub(super) fragments: Fragments,
    pub(super) replies: Replies,
    pub(super) statistics: Arc<GatewayStatistics>,
    /// Where the next frame comes from, once that is chosen and until the frame is written.
    chosen: Option<Source>,
    /// TCP has the next turn, if it has output.
    tcp_next: bool,
    scratch: Vec<u8>,
}

/// Where a frame for the guest comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Source {
    /// The first of the replies, which exists.
    Replies,
    /// The splice.
    Tcp,
}

impl Gateway {
    /// The gateway of `machine` in `network`. Its resolver asks those that `resolv_conf` names.
    ///
    /// # Errors
    /// The system has no descriptor left, or no random numbers.
    pub fn new(machine: &str, network: Network, resolv_conf: &Path) -> io::Result<Self> {
        let sockets = Sockets::new()?;
        let mut key = [0; 16];
        fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
        let statistics = Arc::<GatewayStatistics>::default();
        Ok(Self {
            datagrams: Datagrams::new(network, Arc::clone(&statistics)),
            tcp: Tcp::new(network, key, &sockets),
            published: Published::new(&sockets),
            names: Names::new(machine, &network, resolv_conf, Arc::clone(&statistics)),
            fragments: Fragments::default(),
            replies: Replies::new(network, Arc::clone(&statistics)),
            chosen: None,
            tcp_next: false,
            scratch: Vec::new(),
            statistics,
            sockets,
            network,
        })
    }

    /// The gateway's counters, for any thread.
    pub fn statistics(&self) -> Arc<GatewayStatistics> {
        Arc::clone(&self.statistics)
    }

    /// Creates those who publish ports of the guest, on any thread.
    pub fn publishers(&self) -> Publishers {
        self.published.publishers()
    }

    /// Passes queries and answers between the guest and the resolver.
    pub(super) fn exchange_names(&mut self, now: Instant) {
        self.names.exchange(&mut self.tcp, &mut self.replies, &mut self.sockets, now);
    }

    /// Where the next frame for the guest comes from. The choice holds until [`transmit`](Backend::transmit) has
    /// written that frame. None if there is no frame after all.
    fn choose(&mut self, now: Instant) -> Option<Source> {
        if self.chosen.is_none() {
            self.chosen = self.next_source(now);
        }
        self.chosen
    }

    /// Replies go first; then TCP and datagrams take turns. In its turn, a datagram becomes a reply.
    fn next_source(&mut self, now: Instant) -> Option<Source> {
        if self.replies.is_empty() {
            if self.tcp.splice.has_output() && (self.tcp_next || !self.datagrams.has_arrivals()) {
                self.tcp_next = false;
                return Some(Source::Tcp);
            }
            self.tcp_next = true;
            self.datagrams.next(&mut self.replies, now);
        }
        (!self.replies.is_empty()).then_some(Source::Replies)
    }

    /// Writes the first reply to `room`, joined by the datagrams of the same sender that have arrived.
    fn transmit_reply(&mut self, room: Span<'_, '_>, now: Instant) -> Transmit {
        for _ in 1..MAX_TRAIN {
            if !self.replies.takes_datagrams() || !self.datagrams.has_arrivals() {
                break;
            }
            self.datagrams.next(&mut self.replies, now);
        }
        self.replies.transmit(room)
    }
}

impl Backend for Gateway {
    fn event_fd(&self) -> BorrowedFd<'_> {
        self.sockets.event_fd()
    }

    fn host_events(&mut self, now: Instant) -> io::Result<()> {
        let mut ready = Vec::new();
        for _ in 0..EVENT_ROUNDS {
            ready.clear();
            self.sockets.ready(&mut ready)?;
            for &(id, events) in &ready {
                if let Some(flow) = FlowId::from_token(id) {
                    self.tcp.splice.host_event(now, flow, Readiness::from_epoll(events));
                } else if !self.datagrams.readable(id) {
                    self.names.readable(id, &mut self.sockets, now);
                }
            }
            if ready.len() < EVENTS {
                break;
            }
        }
        self.published.take_requests(&mut self.datagrams, &mut self.tcp, &mut self.sockets, now);
        self.exchange_names(now);
        self.tcp.give_notices(&mut self.replies);
        Ok(())
    }

    fn receive(&mut self, frame: Span<'_, '_>, offload: &Offload, now: Instant) {
        if self.tcp.take(frame, offload, &mut self.replies.steering, now) {
            self.exchange_names(now);
            return self.tcp.give_notices(&mut self.replies);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(frame.len(), 0);
        let length = frame.copy_to(&mut scratch);
        self.take(&scratch[..length], offload, now);
        self.scratch = scratch;
    }

    fn has_frames(&self) -> bool {
        !self.replies.is_empty() || self.tcp.splice.has_output() || self.datagrams.has_arrivals()
    }

    fn set_pair(&mut self, number: usize) {
        self.replies.steering.set_current(number);
    }

    fn next_pair(&mut self, now: Instant) -> usize {
        match self.choose(now) {
            Some(Source::Tcp) => self.tcp.next_pair(&self.replies.steering),
            Some(Source::Replies) => self.replies.next_pair(),
            None => 0,
        }
    }

    fn transmit(&mut self, room: Span<'_, '_>, now: Instant) -> Transmit {
        let transmit = match self.choose(now) {
            Some(Source::Tcp) => self.tcp.transmit(room, now),
            Some(Source::Replies) => self.transmit_reply(room, now),
            None => Transmit::Nothing,
        };
        if transmit != Transmit::NeedsRoom {
            self.chosen = None;
        }
        transmit
    }

    fn settle(&mut self, now: Instant, deadline: Option<Instant>) {
        let before = (self.replies.len(), self.tcp.splice.has_output());
        self.tcp.expire(now);
        let [flows, sessions] = self.datagrams.expire(now);
        let queries = self.names.expire(&mut self.sockets, now);
        let deadlines = [deadline, flows, sessions, queries, self.tcp.splice.next_deadline()];
        self.exchange_names(now);
        self.tcp.give_notices(&mut self.replies);
        if self.replies.len() > before.0 || (self.tcp.splice.has_output() && !before.1) {
            self.sockets.call_again();
        }
        self.tcp.report(&self.statistics);
        self.datagrams.report();
        self.sockets.wake_at(deadlines.into_iter().flatten().min(), now);
    }

    fn call_again(&mut self) {
        self.sockets.call_again();
    }

    fn accepts(&mut self, accepts: Accepts) {
        self.replies.accepts = accepts;
        self.tcp.set_accepts(accepts);
    }

    fn reset(&mut self) {
        self.datagrams.reset();
        self.tcp.reset();
        self.published.reset();
        self.names.reset();
        self.fragments.clear();
        self.statistics.fragment_bytes_held.store(0, Ordering::Relaxed);
        self.replies.reset();
        self.chosen = None;
    }
}
