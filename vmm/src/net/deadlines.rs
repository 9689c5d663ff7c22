//! When the entries of a bounded table end of themselves. Each entry keeps its own deadline beside what else it is.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The end of an entry is put off in steps of at least this, so that a busy one does not move at each datagram.
const STEP: Duration = Duration::from_secs(1);

/// Entries by when they end.
#[derive(Debug)]
pub(super) struct Deadlines<K>(BTreeSet<(Instant, K)>);

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

impl<K: Copy + Ord> Deadlines<K> {
    pub(super) fn insert(&mut self, deadline: Instant, key: K) {
        self.0.insert((deadline, key));
    }

    pub(super) fn remove(&mut self, deadline: Instant, key: K) {
        self.0.remove(&(deadline, key));
    }

    /// Puts the end of `key`, which is at `deadline`, off to `later`.
    pub(super) fn put_off(&mut self, key: K, deadline: &mut Instant, later: Instant) {
        if later >= *deadline + STEP {
            self.remove(*deadline, key);
            self.insert(later, key);
            *deadline = later;
        }
    }

    /// The entry that ends first.
    pub(super) fn first(&self) -> Option<K> {
        self.0.first().map(|(_, key)| *key)
    }

    /// When that is.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(deadline, _)| *deadline)
    }

    /// The entry that ends first, if its time is over.
    pub(super) fn over(&self, now: Instant) -> Option<K> {
        self.0.first().filter(|(deadline, _)| *deadline <= now).map(|(_, key)| *key)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
