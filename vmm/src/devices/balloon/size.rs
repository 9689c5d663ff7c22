//! The size of a balloon, shared by the device and the control socket, with the device's counters.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::devices::counters::Counters;

/// Bytes of one page of the balloon, whatever the page size of guest and host (§5.5.6).
pub const PAGE_BYTES: u64 = 4096;
/// Bytes of the configuration space.
const CONFIG_BYTES: usize = 8;

/// The size of a balloon, as the host wants it and as the guest reports it, and the device's counters. For any thread.
#[derive(Debug, Default)]
pub struct BalloonSize {
    pub(super) wanted_pages: AtomicU32,
    pub(super) actual_pages: AtomicU32,
    pub(super) inflated: AtomicU64,
    pub(super) deflated: AtomicU64,
    pub(super) reported: AtomicU64,
    pub(super) reports: AtomicU64,
}

impl BalloonSize {
    /// Sets the wanted size, in bytes, rounded down to whole pages, and returns the rounded size. The caller must then
    /// notify the driver that the configuration changed.
    pub fn want(&self, bytes: u64) -> u64 {
        let pages = u32::try_from(bytes / PAGE_BYTES).unwrap_or(u32::MAX);
        self.wanted_pages.store(pages, Ordering::Release);
        u64::from(pages) * PAGE_BYTES
    }

    /// The size the guest last reported, in bytes.
    pub fn actual(&self) -> u64 {
        u64::from(self.actual_pages.load(Ordering::Acquire)) * PAGE_BYTES
    }

    /// The configuration space (§5.5.4): wanted and actual size, in pages.
    pub(super) fn configuration(&self) -> [u8; CONFIG_BYTES] {
        let mut space = [0; CONFIG_BYTES];
        space[..4].copy_from_slice(&self.wanted_pages.load(Ordering::Acquire).to_le_bytes());
        space[4..].copy_from_slice(&self.actual_pages.load(Ordering::Acquire).to_le_bytes());
        space
    }
}

impl Counters for BalloonSize {
    fn snapshot(&self) -> Vec<(&'static str, u64)> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            ("wanted_bytes", u64::from(self.wanted_pages.load(Ordering::Relaxed)) * PAGE_BYTES),
            ("actual_bytes", self.actual()),
            ("inflated_bytes", read(&self.inflated)),
            ("deflated_bytes", read(&self.deflated)),
            ("reported_bytes", read(&self.reported)),
            ("reports", read(&self.reports)),
        ]
    }
}
