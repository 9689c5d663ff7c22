//! Counters of a vsock device, for the control socket.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::devices::counters::Counters;

/// Counters of a vsock device. They survive a reset of the device and only grow, except for two levels:
/// `connections_open`, and `connections_closing` (the host has gone, the guest owes a reset).
#[derive(Debug, Default)]
pub struct VsockStatistics {
    pub(super) connections_open: AtomicU64,
    pub(super) connections_closing: AtomicU64,
    pub(super) connections_from_host: AtomicU64,
    pub(super) connections_from_guest: AtomicU64,
    pub(super) connections_refused: AtomicU64,
    pub(super) handshakes_failed: AtomicU64,
    pub(super) bytes_to_guest: AtomicU64,
    pub(super) bytes_to_host: AtomicU64,
    pub(super) packets_to_guest: AtomicU64,
    pub(super) packets_to_host: AtomicU64,
    pub(super) resets_sent: AtomicU64,
    pub(super) resets_received: AtomicU64,
    pub(super) credit_overruns: AtomicU64,
    pub(super) packets_dropped: AtomicU64,
    pub(super) rx_starved: AtomicU64,
}

impl Counters for VsockStatistics {
    fn snapshot(&self) -> Vec<(&'static str, u64)> {
        [
            ("connections_open", &self.connections_open),
            ("connections_closing", &self.connections_closing),
            ("connections_from_host", &self.connections_from_host),
            ("connections_from_guest", &self.connections_from_guest),
            ("connections_refused", &self.connections_refused),
            ("handshakes_failed", &self.handshakes_failed),
            ("bytes_to_guest", &self.bytes_to_guest),
            ("bytes_to_host", &self.bytes_to_host),
            ("packets_to_guest", &self.packets_to_guest),
            ("packets_to_host", &self.packets_to_host),
            ("resets_sent", &self.resets_sent),
            ("resets_received", &self.resets_received),
            ("credit_overruns", &self.credit_overruns),
            ("packets_dropped", &self.packets_dropped),
            ("rx_starved", &self.rx_starved),
        ]
        .into_iter()
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
        .collect()
    }
}

/// Counts one more.
pub(super) fn count(counter: &AtomicU64) {
    add(counter, 1);
}

/// Counts `amount` more.
pub(super) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
