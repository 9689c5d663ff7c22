//! The table of flows: found by their ends or their name, in the order they were last used, with their deadlines.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use super::flow::{Flow, FlowId, Pair, State};

/// Kinds of flows that are evicted in an order of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    HalfOpen,
    Open,
    TimeWait,
}

impl Class {
    fn of(state: State) -> Self {
        match state {
            State::Connecting | State::SynSent | State::SynReceived => Self::HalfOpen,
            State::Open => Self::Open,
            State::TimeWait => Self::TimeWait,
        }
    }
}

struct Entry {
    flow: Flow,
    id: FlowId,
    class: Class,
    older: Option<u32>,
    newer: Option<u32>,
    /// The one deadline of this flow in `deadlines`, never later than its own.
    armed: Option<Instant>,
}

/// A list of entries by age, linked through them.
#[derive(Clone, Copy, Default)]
struct Order {
    oldest: Option<u32>,
    newest: Option<u32>,
    length: usize,
}

#[derive(Default)]
pub(super) struct Table {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    generation: u32,
    by_pair: HashMap<Pair, u32>,
    orders: [Order; 3],
    deadlines: BTreeSet<(Instant, u32)>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.by_pair.len()
    }

    pub(super) fn len_of(&self, class: Class) -> usize {
        self.orders[class as usize].length
    }

    /// Slots for flows, used or not, and deadlines.
    #[cfg(test)]
    pub(super) fn footprint(&self) -> (usize, usize) {
        (self.entries.len(), self.deadlines.len())
    }

    /// The name the next inserted flow will have.
    pub(super) fn next_id(&self) -> FlowId {
        let index = self.free.last().copied().unwrap_or(self.entries.len() as u32);
        FlowId::new(index, self.generation)
    }

    /// Adds a flow, as the one used last. There must be none with the same ends.
    pub(super) fn insert(&mut self, flow: Flow) -> FlowId {
        let id = self.next_id();
        self.generation = self.generation.wrapping_add(2);
        let index = id.index();
        let class = Class::of(flow.state);
        self.by_pair.insert(flow.pair, index);
        let entry = Some(Entry { flow, id, class, older: None, newer: None, armed: None });
        if self.free.pop().is_some() {
            self.entries[index as usize] = entry;
        } else {
            self.entries.push(entry);
        }
        self.append(index, class);
        self.arm(id);
        id
    }

    fn entry(&mut self, index: u32) -> Option<&mut Entry> {
        self.entries.get_mut(index as usize)?.as_mut()
    }

    pub(super) fn find(&self, pair: &Pair) -> Option<FlowId> {
        let index = *self.by_pair.get(pair)?;
        Some(self.entries.get(index as usize)?.as_ref()?.id)
    }

    /// Whether the flow of that name is there.
    pub(super) fn has(&self, id: FlowId) -> bool {
        self.entries.get(id.index() as usize).and_then(Option::as_ref).is_some_and(|entry| entry.id == id)
    }

    /// The flow of that name, unless it is gone.
    pub(super) fn get(&mut self, id: FlowId) -> Option<&mut Flow> {
        let entry = self.entry(id.index())?;
        (entry.id == id).then_some(&mut entry.flow)
    }

    pub(super) fn remove(&mut self, id: FlowId) -> Option<Flow> {
        self.get(id)?;
        let index = id.index();
        self.unlink(index);
        let entry = self.entries.get_mut(index as usize)?.take()?;
        if let Some(armed) = entry.armed {
            self.deadlines.remove(&(armed, index));
        }
        self.by_pair.remove(&entry.flow.pair);
        self.free.push(index);
        Some(entry.flow)
    }

    /// Takes note of a flow's new state and deadline.
    pub(super) fn update(&mut self, id: FlowId) {
        if let Some(entry) = self.entry(id.index()).filter(|entry| entry.id == id) {
            let (from, to) = (entry.class, Class::of(entry.flow.state));
            if from != to {
                self.unlink(id.index());
                self.append(id.index(), to);
            }
            self.arm(id);
        }
    }

    /// Makes the flow the one used last.
    pub(super) fn touch(&mut self, id: FlowId) {
        let Some(entry) = self.entry(id.index()).filter(|entry| entry.id == id) else { return };
        let class = entry.class;
        if entry.newer.is_some() {
            self.unlink(id.index());
            self.append(id.index(), class);
        }
    }

    /// The flow of this class that was used longest ago.
    pub(super) fn oldest(&self, class: Class) -> Option<FlowId> {
        let index = self.orders[class as usize].oldest?;
        Some(self.entries.get(index as usize)?.as_ref()?.id)
    }

    /// Every flow's name.
    pub(super) fn ids(&self) -> Vec<FlowId> {
        self.entries.iter().flatten().map(|entry| entry.id).collect()
    }

    fn arm(&mut self, id: FlowId) {
        let Some(entry) = self.entry(id.index()) else { return };
        let deadline = entry.flow.deadline;
        match entry.armed {
            // It fires early then, and is armed again.
            Some(armed) if armed <= deadline => {}
            before => {
                entry.armed = Some(deadline);
                if let Some(before) = before {
                    self.deadlines.remove(&(before, id.index()));
                }
                self.deadlines.insert((deadline, id.index()));
            }
        }
    }

    /// No flow's deadline is before this.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// The next flow whose deadline has come.
    pub(super) fn due(&mut self, now: Instant) -> Option<FlowId> {
        loop {
            let (armed, index) = *self.deadlines.first()?;
            if armed > now {
                return None;
            }
            self.deadlines.pop_first();
            let Some(entry) = self.entry(index) else { continue };
            entry.armed = None;
            let (id, deadline) = (entry.id, entry.flow.deadline);
            if deadline <= now {
                return Some(id);
            }
            self.arm(id);
        }
    }

    fn append(&mut self, index: u32, class: Class) {
        let order = &mut self.orders[class as usize];
        let before = order.newest.replace(index);
        order.oldest.get_or_insert(index);
        order.length += 1;
        if let Some(entry) = self.entry(index) {
            (entry.class, entry.older, entry.newer) = (class, before, None);
        }
        if let Some(entry) = before.and_then(|before| self.entry(before)) {
            entry.newer = Some(index);
        }
    }

    fn unlink(&mut self, index: u32) {
        let Some(entry) = self.entry(index) else { return };
        let (class, older, newer) = (entry.class, entry.older.take(), entry.newer.take());
        match older.and_then(|older| self.entry(older)) {
            Some(entry) => entry.newer = newer,
            None => self.orders[class as usize].oldest = newer,
        }
        match newer.and_then(|newer| self.entry(newer)) {
            Some(entry) => entry.older = older,
            None => self.orders[class as usize].newest = older,
        }
        self.orders[class as usize].length -= 1;
    }
}
