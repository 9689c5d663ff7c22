//! When the entries of a bounded table expire. Each entry also keeps its own deadline.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Least postponement of a deadline, so that the entry of a busy flow does not move with every datagram.
const STEP: Duration = Duration::from_secs(1);

/// Entries in the order of their deadlines.
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

    /// Postpones the deadline of `key` to `later`.
    pub(super) fn put_off(&mut self, key: K, deadline: &mut Instant, later: Instant) {
        if later >= *deadline + STEP {
            self.remove(*deadline, key);
            self.insert(later, key);
            *deadline = later;
        }
    }

    /// The entry that expires first.
    pub(super) fn first(&self) -> Option<K> {
        self.0.first().map(|(_, key)| *key)
    }

    /// When the first entry expires.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(deadline, _)| *deadline)
    }

    /// The entry that expires first, if its deadline has passed.
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
