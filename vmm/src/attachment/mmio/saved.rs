//! Snapshots of a device behind registers: bringing it to rest, saving and restoring it.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use virtio_queue::{Queue, QueueState, QueueT};

use super::attachment::{DRIVER_OK, FEATURES_OK, MmioAttachment, NEEDS_RESET, Queues, State};

/// A queue as the driver set it up, and the device's position in it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SavedQueue {
    maximum: u16,
    size: u16,
    ready: bool,
    event_index: bool,
    descriptors: u64,
    available: u64,
    used: u64,
    next_available: u16,
    next_used: u16,
}

/// Registers, queues, and the device's own part.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SavedAttachment {
    name: String,
    device_type: u32,
    offered: u64,
    status: u32,
    features_page: u32,
    driver_page: u32,
    driver_features: u64,
    selected: usize,
    generation: u32,
    reasons: u32,
    queues: Vec<SavedQueue>,
    device: serde_json::Value,
}

impl SavedQueue {
    fn of(queue: &Queue) -> Self {
        let state = queue.state();
        Self {
            maximum: state.max_size,
            size: state.size,
            ready: state.ready,
            event_index: state.event_idx_enabled,
            descriptors: state.desc_table,
            available: state.avail_ring,
            used: state.used_ring,
            next_available: state.next_avail,
            next_used: state.next_used,
        }
    }

    fn queue(&self) -> Result<Queue, virtio_queue::Error> {
        Queue::try_from(QueueState {
            max_size: self.maximum,
            next_avail: self.next_available,
            next_used: self.next_used,
            event_idx_enabled: self.event_index,
            size: self.size,
            ready: self.ready,
            desc_table: self.descriptors,
            avail_ring: self.available,
            used_ring: self.used,
        })
    }
}

impl MmioAttachment {
    /// Brings the device to rest: requests in flight complete, and none starts before [`resume`](Self::resume). The
    /// guest's processors must be paused.
    pub fn pause(&self) {
        let mut state = self.state();
        state.paused = true;
        self.wait_for_host(&state, false);
        if state.status & DRIVER_OK == 0 || state.status & NEEDS_RESET != 0 {
            return;
        }
        let State { device, memory, queues, .. } = &mut *state;
        let mut queues = Queues { memory, all: queues, interrupt: &self.interrupt };
        if let Err(reason) = device.quiesce(&mut queues) {
            self.break_device(&mut state, &reason);
        }
    }

    /// Resumes the device. It finds what the driver made available meanwhile or before a restore, and raises an
    /// interrupt again that the driver has not acknowledged: one too many does no harm.
    pub fn resume(&self) {
        let mut state = self.state();
        state.paused = false;
        if state.serving() {
            self.wait_for_host(&state, true);
            for doorbell in &self.doorbells {
                let _ = doorbell.write(1);
            }
        }
        if self.interrupt.reasons.load(Ordering::SeqCst) != 0 {
            let _ = self.interrupt.event.write(1);
        }
    }

    /// The whole state of a paused device.
    pub fn save(&self) -> serde_json::Result<serde_json::Value> {
        let state = self.state();
        serde_json::to_value(SavedAttachment {
            name: self.name.clone(),
            device_type: state.device.device_type(),
            offered: state.offered(),
            status: state.status,
            features_page: state.features_page,
            driver_page: state.driver_page,
            driver_features: state.driver_features,
            selected: state.selected,
            generation: state.generation,
            reasons: self.interrupt.reasons.load(Ordering::SeqCst),
            queues: state.queues.iter().map(SavedQueue::of).collect(),
            device: state.device.save(),
        })
    }

    /// Restores what [`save`](Self::save) returned, in a device that was not used yet, and leaves it paused. The error
    /// names what does not fit.
    pub fn restore(&self, saved: &serde_json::Value) -> Result<(), String> {
        let saved = SavedAttachment::deserialize(saved)
            .map_err(|error| format!("device {}: its saved state is invalid: {error}", self.name))?;
        let unfit = |what: &str| format!("device {}: {what}", self.name);
        let mut state = self.state();
        state.paused = true;
        if saved.name != self.name || saved.device_type != state.device.device_type() {
            return Err(unfit(&format!("the saved device is {} of type {}", saved.name, saved.device_type)));
        }
        if saved.driver_features & !state.offered() != 0 {
            return Err(unfit("the guest uses features that are no longer offered"));
        }
        if saved.queues.len() != state.queues.len() {
            return Err(unfit("its number of queues differs"));
        }
        let mut queues = Vec::with_capacity(saved.queues.len());
        for (queue, now) in saved.queues.iter().zip(&state.queues) {
            let queue = queue.queue().map_err(|error| unfit(&format!("a saved queue is invalid: {error}")))?;
            if queue.max_size() != now.max_size() || (queue.ready() && !queue.is_valid(&state.memory)) {
                return Err(unfit("a saved queue has no valid size or place"));
            }
            queues.push(queue);
        }
        state.queues = queues;
        (state.status, state.features_page, state.driver_page) = (saved.status, saved.features_page, saved.driver_page);
        (state.driver_features, state.selected) = (saved.driver_features, saved.selected);
        state.generation = saved.generation;
        self.interrupt.reasons.store(saved.reasons, Ordering::SeqCst);
        if state.status & FEATURES_OK != 0 {
            state.device.acknowledge_features(saved.driver_features);
        }
        let State { device, memory, queues, .. } = &mut *state;
        let mut queues = Queues { memory, all: queues, interrupt: &self.interrupt };
        device.restore(&saved.device, &mut queues).map_err(|reason| unfit(&reason))
    }
}
