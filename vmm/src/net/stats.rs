//! Counters of the gateway, for the control socket.

use std::sync::atomic::{AtomicU64, Ordering};

use super::tcp::Statistics;
use crate::devices::counters::Counters;

/// Counters of a gateway. `…_open`, `…_held` and `…_buffered` are levels; the others only grow.
#[derive(Debug, Default)]
pub struct GatewayStatistics {
    pub(super) spoofed: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) udp_flows: AtomicU64,
    pub(super) udp_flows_open: AtomicU64,
    pub(super) udp_flows_evicted: AtomicU64,
    pub(super) udp_lost: AtomicU64,
    pub(super) published_sessions_open: AtomicU64,
    pub(super) published_sessions_evicted: AtomicU64,
    pub(super) fragment_bytes_held: AtomicU64,
    pub(super) pings: AtomicU64,
    pub(super) dns_queries: AtomicU64,
    pub(super) dns_failed: AtomicU64,
    pub(super) replies_dropped: AtomicU64,
    tcp_flows: AtomicU64,
    tcp_flows_open: AtomicU64,
    tcp_flows_failed: AtomicU64,
    tcp_flows_broken: AtomicU64,
    tcp_flows_evicted: AtomicU64,
    tcp_bytes_buffered: AtomicU64,
}

impl GatewayStatistics {
    /// Copies the totals of the splice.
    pub(super) fn tcp(&self, open: usize, buffered: usize, statistics: &Statistics) {
        let values = [
            (&self.tcp_flows, statistics.asked + statistics.offered),
            (&self.tcp_flows_open, open as u64),
            (&self.tcp_flows_failed, statistics.failed),
            (&self.tcp_flows_broken, statistics.broken),
            (&self.tcp_flows_evicted, statistics.evicted),
            (&self.tcp_bytes_buffered, buffered as u64),
        ];
        for (counter, value) in values {
            counter.store(value, Ordering::Relaxed);
        }
    }
}

impl Counters for GatewayStatistics {
    fn snapshot(&self) -> Vec<(&'static str, u64)> {
        [
            ("spoofed", &self.spoofed),
            ("refused", &self.refused),
            ("malformed", &self.malformed),
            ("udp_flows", &self.udp_flows),
            ("udp_flows_open", &self.udp_flows_open),
            ("udp_flows_evicted", &self.udp_flows_evicted),
            ("udp_lost", &self.udp_lost),
            ("published_sessions_open", &self.published_sessions_open),
            ("published_sessions_evicted", &self.published_sessions_evicted),
            ("fragment_bytes_held", &self.fragment_bytes_held),
            ("pings", &self.pings),
            ("dns_queries", &self.dns_queries),
            ("dns_failed", &self.dns_failed),
            ("replies_dropped", &self.replies_dropped),
            ("tcp_flows", &self.tcp_flows),
            ("tcp_flows_open", &self.tcp_flows_open),
            ("tcp_flows_failed", &self.tcp_flows_failed),
            ("tcp_flows_broken", &self.tcp_flows_broken),
            ("tcp_flows_evicted", &self.tcp_flows_evicted),
            ("tcp_bytes_buffered", &self.tcp_bytes_buffered),
        ]
        .into_iter()
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
        .collect()
    }
}

/// Counts one more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
