//! The registers (virtio 1.3 §4.2.2), read and written by the guest's processors.

use std::sync::atomic::Ordering;

use tracing::{debug, error};
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::QueueT;

use super::attachment::{DRIVER_OK, FEATURES_OK, MmioAttachment, NEEDS_RESET, State};

/// Offset of the doorbell register: the guest writes a queue's index.
pub const QUEUE_NOTIFY: u64 = 0x50;
/// Offset of the device's configuration space.
const CONFIGURATION: u64 = 0x100;
pub(super) const MAGIC: u32 = 0x7472_6976;
const VENDOR: u32 = u32::from_le_bytes(*b"RORQ");

impl MmioAttachment {
    /// Answers a processor's read at `offset` of the registers.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        self.traffic().register_exits.fetch_add(1, Ordering::Relaxed);
        if offset >= CONFIGURATION {
            return self.state().device.read_config(offset - CONFIGURATION, data);
        }
        // Registers are 32 bits wide and read whole (§4.2.2.2); any other access reads zeroes.
        data.fill(0);
        if let Ok(data) = <&mut [u8; 4]>::try_from(data) {
            *data = self.register(offset).to_le_bytes();
        }
    }

    fn register(&self, offset: u64) -> u32 {
        if offset == 0x60 {
            return self.interrupt.reasons.load(Ordering::SeqCst);
        }
        let state = self.state();
        let queue = state.queues.get(state.selected);
        match offset {
            0x0 => MAGIC,
            0x4 => 2,
            0x8 => state.device.device_type(),
            0xc => VENDOR,
            0x10 => match state.features_page {
                0 => state.offered() as u32,
                1 => (state.offered() >> 32) as u32,
                _ => 0,
            },
            0x34 => queue.map_or(0, |queue| queue.max_size().into()),
            0x44 => queue.is_some_and(QueueT::ready).into(),
            0x70 => state.status,
            // No shared memory region: its length and base are all ones (§4.2.2.1).
            0xb0..=0xbc => u32::MAX,
            0xfc => state.generation,
            _ => 0,
        }
    }

    /// Takes a processor's write at `offset` of the registers.
    pub fn write(&self, offset: u64, data: &[u8]) {
        self.traffic().register_exits.fetch_add(1, Ordering::Relaxed);
        if offset >= CONFIGURATION {
            let mut state = self.state();
            if state.status & (FEATURES_OK | NEEDS_RESET) == FEATURES_OK {
                state.device.write_config(offset - CONFIGURATION, data);
            }
            return;
        }
        let Ok(value) = <[u8; 4]>::try_from(data).map(u32::from_le_bytes) else {
            return debug!(device = %self.name, offset, "a register was written with a width other than 32 bits");
        };
        match offset {
            QUEUE_NOTIFY => match self.doorbells.get(value as usize) {
                Some(doorbell) => drop(doorbell.write(1)),
                None => debug!(device = %self.name, queue = value, "the guest rang for a queue that does not exist"),
            },
            0x64 => drop(self.interrupt.reasons.fetch_and(!value, Ordering::SeqCst)),
            0x70 => self.set_status(value),
            _ => self.set(offset, value),
        }
    }

    fn set(&self, offset: u64, value: u32) {
        let mut state = self.state();
        match offset {
            0x14 => state.features_page = value,
            0x24 => state.driver_page = value,
            0x30 => state.selected = value as usize,
            // Negotiated features stand until the next reset (§2.2.1).
            0x20 if state.status & FEATURES_OK == 0 => match state.driver_page {
                0 => state.driver_features = state.driver_features & !0xffff_ffff | u64::from(value),
                1 => state.driver_features = state.driver_features & 0xffff_ffff | u64::from(value) << 32,
                _ => {}
            },
            _ => self.set_queue(&mut state, offset, value),
        }
    }

    fn set_queue(&self, state: &mut State, offset: u64, value: u32) {
        let State { queues, memory, selected, status, .. } = state;
        let Some(queue) = queues.get_mut(*selected) else {
            return debug!(device = %self.name, queue = selected, "the guest set up a queue that does not exist");
        };
        if *status & FEATURES_OK == 0 || (queue.ready() && offset != 0x44) {
            return debug!(device = %self.name, offset, "the guest set up a queue at the wrong time");
        }
        match offset {
            // A size out of range or not a power of two is ignored: the queue keeps its size.
            0x38 => queue.set_size(u16::try_from(value).unwrap_or(0)),
            0x44 if value == 1 => {
                queue.set_ready(true);
                // An address is zero until it is set; no driver has a ring there.
                let placed = [queue.desc_table(), queue.avail_ring(), queue.used_ring()].iter().all(|at| *at != 0);
                if !placed || !queue.is_valid(memory) {
                    // The driver reads back that the queue is not ready.
                    queue.set_ready(false);
                    error!(device = %self.name, queue = selected, "the guest's queue has no valid size or place");
                }
            }
            0x44 => queue.set_ready(false),
            0x80 => queue.set_desc_table_address(Some(value), None),
            0x84 => queue.set_desc_table_address(None, Some(value)),
            0x90 => queue.set_avail_ring_address(Some(value), None),
            0x94 => queue.set_avail_ring_address(None, Some(value)),
            0xa0 => queue.set_used_ring_address(Some(value), None),
            0xa4 => queue.set_used_ring_address(None, Some(value)),
            _ => debug!(device = %self.name, offset, "the guest wrote a read-only register"),
        }
    }

    fn set_status(&self, value: u32) {
        let mut state = self.state();
        if value == 0 {
            return self.reset(&mut state);
        }
        // The driver only adds bits (§2.1.1), and never the device's own.
        let mut added = value & !state.status & !NEEDS_RESET;
        if added & FEATURES_OK != 0 {
            let features = state.driver_features;
            let wrong = features & !state.offered() != 0 || features & 1 << VIRTIO_F_VERSION_1 == 0;
            if wrong {
                // The driver reads back that the device does not agree (§3.1.1).
                debug!(device = %self.name, features, "the driver accepted features that were not offered");
                added &= !FEATURES_OK;
            } else {
                let event_index = features & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
                state.queues.iter_mut().for_each(|queue| queue.set_event_idx(event_index));
                state.device.acknowledge_features(features);
            }
        }
        if added & DRIVER_OK != 0 && (state.status | added) & FEATURES_OK == 0 {
            added &= !DRIVER_OK;
        }
        state.status |= added;
        if added & DRIVER_OK != 0 {
            self.wait_for_host(&state, true);
            // The device now finds what the driver made available before.
            for doorbell in &self.doorbells {
                let _ = doorbell.write(1);
            }
        }
    }

    fn reset(&self, state: &mut State) {
        self.wait_for_host(state, false);
        state.device.reset();
        state.queues.iter_mut().for_each(QueueT::reset);
        (state.status, state.features_page, state.driver_page) = (0, 0, 0);
        (state.driver_features, state.selected) = (0, 0);
        self.interrupt.reasons.store(0, Ordering::SeqCst);
    }
}
