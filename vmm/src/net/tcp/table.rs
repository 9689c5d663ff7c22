//! The table of flows, found by their ends or their number, in the order of their last use, with their deadlines.
//!
//! A flow is awake or dormant. One that is awake is a [`Flow`] of half a KiB. It falls asleep when it is [at
//! rest](Flow::is_at_rest) and enough others have come to rest or were used since. Anything that happens to a dormant
//! flow wakes it.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::BuildHasher;
use std::time::Instant;

use hashbrown::HashTable;

use super::dormant::{Common, Dormant, Period};
use super::flow::{Flow, State};
use super::identity::{Ends, FlowId, Pair, hash_pair};

/// Stands for no slot.
const NONE: u32 = u32::MAX;

/// Classes of flows, each evicted in its own order.
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

/// A place for a flow. A dormant flow takes this and its share of the index.
struct Slot {
    ends: Ends,
    generation: u32,
    /// Neighbours in the order of the flow's class.
    older: u32,
    /// Of a free slot, the next free one.
    newer: u32,
    /// When the keep-alive of a dormant flow is due.
    due: Period,
    form: Form,
}

enum Form {
    Free,
    Awake(Box<Awake>),
    Dormant(Dormant),
}

struct Awake {
    flow: Flow,
    /// The class in whose order the flow is.
    class: Class,
    /// The flow's entry in `deadlines`, never later than its own deadline.
    armed: Option<Instant>,
    /// The flow is in `resting`.
    rests: bool,
    /// Something happened to the flow since it was last at the head or tail of `resting`.
    used: bool,
}

impl Slot {
    fn id(&self, index: u32) -> FlowId {
        FlowId::new(index, self.generation)
    }

    fn class(&self) -> Class {
        match &self.form {
            Form::Awake(awake) => awake.class,
            Form::Dormant(_) | Form::Free => Class::Open,
        }
    }
}

/// A list of flows by age, linked through their slots.
#[derive(Clone, Copy)]
struct Order {
    oldest: u32,
    newest: u32,
    length: usize,
}

pub(super) struct Table {
    common: Common,
    slots: Vec<Slot>,
    /// The first free slot.
    free: u32,
    generation: u32,
    /// Slots by the ends of their flows, which only the slots hold.
    by_pair: HashTable<u32>,
    hasher: RandomState,
    orders: [Order; 3],
    /// Deadlines of flows that are awake.
    deadlines: BTreeSet<(Instant, u32)>,
    /// Number of dormant flows with a keep-alive in each period.
    asleep: BTreeMap<Period, u32>,
    /// Where the search for flows that are due resumes.
    searched: usize,
    /// Flows that are awake and were at rest, in the order in which they may fall asleep. It may hold flows that are
    /// gone.
    resting: VecDeque<FlowId>,
    /// Most flows in `resting`.
    max_awake: usize,
}

impl Table {
    pub(super) fn new(common: Common, max_awake: usize) -> Self {
        Self {
            common,
            slots: Vec::new(),
            free: NONE,
            generation: 0,
            by_pair: HashTable::new(),
            hasher: RandomState::new(),
            orders: [Order { oldest: NONE, newest: NONE, length: 0 }; 3],
            deadlines: BTreeSet::new(),
            asleep: BTreeMap::new(),
            searched: 0,
            resting: VecDeque::new(),
            max_awake,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_pair.len()
    }

    pub(super) fn len_of(&self, class: Class) -> usize {
        self.orders[class as usize].length
    }

    /// Number of slots, used or not, and of deadlines.
    #[cfg(test)]
    pub(super) fn footprint(&self) -> (usize, usize) {
        (self.slots.len(), self.deadlines.len() + self.dormant())
    }

    /// How many flows are dormant.
    #[cfg(test)]
    pub(super) fn dormant(&self) -> usize {
        self.asleep.values().map(|count| *count as usize).sum()
    }

    #[cfg(test)]
    pub(super) fn is_awake(&self, id: FlowId) -> bool {
        self.slot_of(id).is_some_and(|slot| matches!(slot.form, Form::Awake(_)))
    }

    /// Bytes of a dormant flow over IPv4: its slot, and at most this share of the index, which is at least 7/16 full
    /// once it has grown.
    #[cfg(test)]
    pub(super) const DORMANT_BYTES: (usize, usize) = (size_of::<Slot>(), ((size_of::<u32>() + 1) * 16).div_ceil(7));

    /// The number of the flow that is inserted next.
    pub(super) fn next_id(&self) -> FlowId {
        let index = if self.free == NONE { self.slots.len() as u32 } else { self.free };
        FlowId::new(index, self.generation)
    }

    /// Adds a flow as the one used last. No flow with the same ends may exist.
    pub(super) fn insert(&mut self, flow: Flow) -> FlowId {
        let id = self.next_id();
        let index = id.index();
        let class = Class::of(flow.state);
        let ends = Ends::of(&flow.pair);
        let hash = self.hash(&flow.pair);
        let form = Form::Awake(Box::new(Awake { flow, class, armed: None, rests: false, used: false }));
        let slot = Slot { ends, generation: self.generation, older: NONE, newer: NONE, due: Period::default(), form };
        self.generation = self.generation.wrapping_add(2);
        if let Some(place) = self.slots.get_mut(index as usize) {
            self.free = place.newer;
            *place = slot;
        } else {
            self.slots.push(slot);
        }
        let (slots, hasher) = (&self.slots, &self.hasher);
        let rehash = |index: &u32| hash_pair(&slots[*index as usize].ends.pair(), hasher.build_hasher());
        self.by_pair.insert_unique(hash, index, rehash);
        self.append(index, class);
        self.arm(index);
        id
    }

    fn hash(&self, pair: &Pair) -> u64 {
        hash_pair(pair, self.hasher.build_hasher())
    }

    fn slot(&mut self, index: u32) -> Option<&mut Slot> {
        self.slots.get_mut(index as usize)
    }

    /// The slot of a flow.
    fn slot_of(&self, id: FlowId) -> Option<&Slot> {
        let slot = self.slots.get(id.index() as usize)?;
        (slot.id(id.index()) == id && !matches!(slot.form, Form::Free)).then_some(slot)
    }

    fn awake_at(&mut self, index: u32) -> Option<&mut Awake> {
        match &mut self.slots.get_mut(index as usize)?.form {
            Form::Awake(awake) => Some(awake),
            Form::Dormant(_) | Form::Free => None,
        }
    }

    fn awake_of(&mut self, id: FlowId) -> Option<&mut Awake> {
        self.slot_of(id)?;
        self.awake_at(id.index())
    }

    pub(super) fn find(&self, pair: &Pair) -> Option<FlowId> {
        let index = *self.by_pair.find(self.hash(pair), |index| self.is_between(*index, pair))?;
        Some(self.slots.get(index as usize)?.id(index))
    }

    fn is_between(&self, index: u32, pair: &Pair) -> bool {
        self.slots.get(index as usize).is_some_and(|slot| slot.ends.are_of(pair))
    }

    /// Whether the flow exists.
    pub(super) fn has(&self, id: FlowId) -> bool {
        self.slot_of(id).is_some()
    }

    /// The state of a flow.
    pub(super) fn state(&self, id: FlowId) -> Option<State> {
        match &self.slot_of(id)?.form {
            Form::Awake(awake) => Some(awake.flow.state),
            Form::Dormant(_) => Some(State::Open),
            Form::Free => None,
        }
    }

    /// A flow, unless it is dormant or gone.
    pub(super) fn awake(&mut self, id: FlowId) -> Option<&mut Flow> {
        Some(&mut self.awake_of(id)?.flow)
    }

    /// A flow, which is awake now, unless it is gone. [`update`](Self::update) must follow, or the flow stays awake.
    pub(super) fn get(&mut self, id: FlowId) -> Option<&mut Flow> {
        self.slot_of(id)?;
        self.wake(id.index());
        self.awake(id)
    }

    pub(super) fn remove(&mut self, id: FlowId) -> Option<Flow> {
        self.slot_of(id)?;
        let index = id.index();
        self.wake(index);
        self.unlink(index);
        self.disarm(index);
        let pair = self.slot(index)?.ends.pair();
        if let Ok(entry) = self.by_pair.find_entry(self.hash(&pair), |found| *found == index) {
            entry.remove();
        }
        let free = std::mem::replace(&mut self.free, index);
        let slot = self.slot(index)?;
        (slot.ends, slot.newer) = (Ends::NONE, free);
        match std::mem::replace(&mut slot.form, Form::Free) {
            Form::Awake(awake) => Some(awake.flow),
            Form::Dormant(_) | Form::Free => None,
        }
    }

    /// Records a flow's new state and deadline.
    pub(super) fn update(&mut self, id: FlowId) {
        let Some(awake) = self.awake_of(id) else { return };
        let (from, to) = (awake.class, Class::of(awake.flow.state));
        if from != to {
            self.unlink(id.index());
            self.append(id.index(), to);
        }
        self.arm(id.index());
        self.rest(id);
    }

    /// Makes a flow the one used last.
    pub(super) fn touch(&mut self, id: FlowId) {
        let Some(slot) = self.slot_of(id) else { return };
        let class = slot.class();
        if slot.newer != NONE {
            self.unlink(id.index());
            self.append(id.index(), class);
        }
    }

    /// The flow of this class whose last use is longest ago.
    pub(super) fn oldest(&self, class: Class) -> Option<FlowId> {
        let index = self.orders[class as usize].oldest;
        Some(self.slots.get(index as usize)?.id(index))
    }

    /// All flows.
    pub(super) fn ids(&self) -> Vec<FlowId> {
        let used = self.slots.iter().zip(0..).filter(|(slot, _)| !matches!(slot.form, Form::Free));
        used.map(|(slot, index)| slot.id(index)).collect()
    }

    // Sleep.

    /// Records that something happened to a flow that is awake. If too many flows rest, those that rest longest fall
    /// asleep.
    fn rest(&mut self, id: FlowId) {
        let Some(awake) = self.awake_of(id) else { return };
        if awake.rests {
            awake.used = true;
        } else if awake.flow.is_at_rest() {
            (awake.rests, awake.used) = (true, false);
            self.resting.push_back(id);
        }
        // Each turn takes one from the queue, or takes back what a call of this function gave.
        while self.resting.len() > self.max_awake {
            let Some(id) = self.resting.pop_front() else { break };
            let Some(awake) = self.awake_of(id) else { continue };
            if awake.used {
                awake.used = false;
                self.resting.push_back(id);
            } else {
                awake.rests = false;
                self.sleep(id.index());
            }
        }
    }

    /// Makes a flow dormant if it is at rest.
    fn sleep(&mut self, index: u32) {
        let Some(awake) = self.awake_at(index) else { return };
        let heard = awake.flow.heard;
        let Some(dormant) = Dormant::of(&mut awake.flow) else { return };
        self.disarm(index);
        let due = Period::of(heard, &self.common);
        *self.asleep.entry(due).or_default() += 1;
        if let Some(slot) = self.slot(index) {
            (slot.due, slot.form) = (due, Form::Dormant(dormant));
        }
    }

    /// Wakes a dormant flow.
    fn wake(&mut self, index: u32) {
        let common = self.common;
        let Some(slot) = self.slot(index).filter(|slot| matches!(slot.form, Form::Dormant(_))) else { return };
        let Form::Dormant(dormant) = std::mem::replace(&mut slot.form, Form::Free) else { return };
        let due = slot.due;
        let flow = dormant.wake(slot.ends.pair(), due.heard(&common), &common);
        slot.form = Form::Awake(Box::new(Awake { flow, class: Class::Open, armed: None, rests: false, used: false }));
        if let Some(count) = self.asleep.get_mut(&due) {
            *count -= 1;
            if *count == 0 {
                self.asleep.remove(&due);
            }
        }
        self.arm(index);
    }

    // Deadlines.

    fn arm(&mut self, index: u32) {
        let Some(awake) = self.awake_at(index) else { return };
        let deadline = awake.flow.deadline;
        match awake.armed {
            // The entry fires early then, and is armed again.
            Some(armed) if armed <= deadline => {}
            before => {
                awake.armed = Some(deadline);
                if let Some(before) = before {
                    self.deadlines.remove(&(before, index));
                }
                self.deadlines.insert((deadline, index));
            }
        }
    }

    fn disarm(&mut self, index: u32) {
        if let Some(armed) = self.awake_at(index).and_then(|awake| awake.armed.take()) {
            self.deadlines.remove(&(armed, index));
        }
    }

    /// A time before which no deadline passes. Those of dormant flows are reported up to a minute late.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let awake = self.deadlines.first().map(|(deadline, _)| *deadline);
        let dormant = self.asleep.first_key_value().map(|(period, _)| period.end(&self.common));
        [awake, dormant].into_iter().flatten().min()
    }

    /// The next flow whose deadline has passed; it is awake.
    pub(super) fn due(&mut self, now: Instant) -> Option<FlowId> {
        while self.deadlines.first().is_some_and(|(armed, _)| *armed <= now) {
            let (_, index) = self.deadlines.pop_first()?;
            let Some(awake) = self.awake_at(index) else { continue };
            awake.armed = None;
            if awake.flow.deadline <= now {
                return Some(self.slots.get(index as usize)?.id(index));
            }
            self.arm(index);
        }
        self.due_dormant(now)
    }

    /// Searches the slots, once for all flows that are due in a period.
    fn due_dormant(&mut self, now: Instant) -> Option<FlowId> {
        let (&period, _) = self.asleep.first_key_value()?;
        if period.end(&self.common) > now {
            return None;
        }
        let is_due = |index: &usize| {
            let slot = &self.slots[*index];
            slot.due == period && matches!(slot.form, Form::Dormant(_))
        };
        let index = (self.searched..self.slots.len()).chain(0..self.searched).find(is_due)?;
        self.searched = index;
        self.wake(index as u32);
        Some(self.slots.get(index)?.id(index as u32))
    }

    // Orders.

    fn append(&mut self, index: u32, class: Class) {
        let order = &mut self.orders[class as usize];
        let before = std::mem::replace(&mut order.newest, index);
        if order.oldest == NONE {
            order.oldest = index;
        }
        order.length += 1;
        if let Some(slot) = self.slot(index) {
            (slot.older, slot.newer) = (before, NONE);
            if let Form::Awake(awake) = &mut slot.form {
                awake.class = class;
            }
        }
        if let Some(slot) = self.slot(before) {
            slot.newer = index;
        }
    }

    fn unlink(&mut self, index: u32) {
        let Some(slot) = self.slot(index) else { return };
        let (class, older, newer) = (slot.class(), slot.older, slot.newer);
        (slot.older, slot.newer) = (NONE, NONE);
        match self.slot(older) {
            Some(slot) => slot.newer = newer,
            None => self.orders[class as usize].oldest = newer,
        }
        match self.slot(newer) {
            Some(slot) => slot.older = older,
            None => self.orders[class as usize].newest = older,
        }
        self.orders[class as usize].length -= 1;
    }
}
