//! Counters of a network device, for the control socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::devices::counters::Counters;

/// Counters of a network device, and those of the network behind it.
#[derive(Default)]
pub struct NetStatistics {
    pub(super) frames_to_guest: AtomicU64,
    pub(super) frames_from_guest: AtomicU64,
    pub(super) frames_to_guest_second_pair: AtomicU64,
    pub(super) frames_from_guest_second_pair: AtomicU64,
    pub(super) bytes_to_guest: AtomicU64,
    pub(super) bytes_from_guest: AtomicU64,
    pub(super) frames_dropped: AtomicU64,
    pub(super) rx_starved: AtomicU64,
    behind: Option<Arc<dyn Counters>>,
}

impl NetStatistics {
    pub(super) fn with(behind: Option<Arc<dyn Counters>>) -> Self {
        Self { behind, ..Self::default() }
    }
}

impl Counters for NetStatistics {
    fn snapshot(&self) -> Vec<(&'static str, u64)> {
        let own = [
            ("frames_to_guest", &self.frames_to_guest),
            ("frames_from_guest", &self.frames_from_guest),
            ("frames_to_guest_second_pair", &self.frames_to_guest_second_pair),
            ("frames_from_guest_second_pair", &self.frames_from_guest_second_pair),
            ("bytes_to_guest", &self.bytes_to_guest),
            ("bytes_from_guest", &self.bytes_from_guest),
            ("frames_dropped", &self.frames_dropped),
            ("rx_starved", &self.rx_starved),
        ];
        let mut all: Vec<_> = own.into_iter().map(|(name, count)| (name, count.load(Ordering::Relaxed))).collect();
        if let Some(behind) = &self.behind {
            all.extend(behind.snapshot());
        }
        all
    }
}

/// Counts `amount` more.
pub(super) fn add(counter: &AtomicU64, amount: usize) {
    counter.fetch_add(amount as u64, Ordering::Relaxed);
}
