//! Queries of the guest to the resolver, by datagram and by stream, and the answers.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::replies::Replies;
use super::tcp::Tcp;
use crate::net::dns::{Client, Resolver};
use crate::net::network::{Network, TO_GUEST};
use crate::net::sockets::{SocketId, Sockets};
use crate::net::stats::{GatewayStatistics, count};
use crate::net::tcp::{FlowId, Readiness};
use crate::net::wire::write_udp_header;

/// The resolver, and the way to it.
pub(super) struct Names {
    resolver: Resolver,
    statistics: Arc<GatewayStatistics>,
}

impl Names {
    /// The resolver of `machine`. It asks the resolvers that `resolv_conf` names.
    pub(super) fn new(
        machine: &str,
        network: &Network,
        resolv_conf: &Path,
        statistics: Arc<GatewayStatistics>,
    ) -> Self {
        Self { resolver: Resolver::new(machine, network, resolv_conf), statistics }
    }

    /// Takes a query the guest sent in a datagram, from `guest` to `gateway`.
    pub(super) fn ask(
        &mut self,
        (guest, gateway): (SocketAddr, SocketAddr),
        query: &[u8],
        sockets: &mut Sockets,
        now: Instant,
    ) {
        count(&self.statistics.dns_queries);
        self.resolver.ask(Client::Datagram(guest, gateway), query, sockets, now);
    }

    /// Takes the queries on streams, and passes answers on.
    pub(super) fn exchange(&mut self, tcp: &mut Tcp, replies: &mut Replies, sockets: &mut Sockets, now: Instant) {
        self.take_from_streams(tcp, sockets, now);
        while let Some((client, message)) = self.resolver.next_answer() {
            match client {
                Client::Datagram(guest, gateway) => replies.reply(|frame| {
                    let checksum = write_udp_header(frame, TO_GUEST, gateway, guest, message.len());
                    frame.extend(&message);
                    Some(checksum)
                }),
                Client::Stream(token) => {
                    if let Some(flow) = tcp.streams.answer(token, &message) {
                        let readiness = Readiness { readable: true, ended: true, ..Readiness::default() };
                        tcp.splice.host_event(now, flow, readiness);
                    }
                    self.take_from_streams(tcp, sockets, now);
                }
            }
        }
        self.statistics.dns_failed.store(self.resolver.failed, Ordering::Relaxed);
    }

    fn take_from_streams(&mut self, tcp: &mut Tcp, sockets: &mut Sockets, now: Instant) {
        while let Some((token, query)) = tcp.streams.next_query() {
            count(&self.statistics.dns_queries);
            self.resolver.ask(Client::Stream(token), &query, sockets, now);
            if tcp.streams.has_room_again(token)
                && let Some(flow) = FlowId::from_token(token)
            {
                tcp.splice.host_event(now, flow, Readiness { writable: true, ..Readiness::default() });
            }
        }
    }

    /// Handles an event of the socket `id`. False if the socket belongs to no query.
    pub(super) fn readable(&mut self, id: SocketId, sockets: &mut Sockets, now: Instant) -> bool {
        self.resolver.readable(id, sockets, now)
    }

    /// Passes queries on whose resolvers have not answered in time; returns when the next one's time is up.
    pub(super) fn expire(&mut self, sockets: &mut Sockets, now: Instant) -> Option<Instant> {
        self.resolver.expire(sockets, now)
    }

    /// Drops all queries and answers.
    pub(super) fn reset(&mut self) {
        self.resolver.clear();
    }
}
