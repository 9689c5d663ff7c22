//! What every device does with its queues: take the next chain, return it, wait for the driver's notification,
//! interrupt.

use std::sync::atomic::Ordering;

use virtio_bindings::bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, Permissions};

use super::chain::Chain;
use super::{DeviceError, DeviceQueues};

/// Flags and index at the start of an available ring.
const AVAILABLE_HEADER_BYTES: usize = 4;

/// A queue while a device serves it.
pub(crate) struct ServedQueue<'q, 'm> {
    index: usize,
    queue: &'q mut Queue,
    memory: &'m GuestMemoryMmap,
}

impl<'q, 'm> ServedQueue<'q, 'm> {
    /// The queue at `index` of `queues`.
    pub(crate) fn of(index: usize, queues: &'q mut dyn DeviceQueues, memory: &'m GuestMemoryMmap) -> Self {
        Self { index, queue: queues.queue(index), memory }
    }

    /// Index of the queue, for errors.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// The guest's memory.
    pub(crate) fn memory(&self) -> &'m GuestMemoryMmap {
        self.memory
    }

    /// Asks the driver not to notify the device: it is about to look at the queue by itself.
    pub(crate) fn stop_notifications(&mut self) -> Result<(), DeviceError> {
        self.queue.disable_notification(self.memory).map_err(|error| broken(self.index, &error))
    }

    /// Asks the driver to notify the device of the next chain. True if a chain has arrived in the meantime, of which
    /// the driver gave no notice: the device must look again, and notifications are off again.
    pub(crate) fn await_notification(&mut self) -> Result<bool, DeviceError> {
        let more = self.queue.enable_notification(self.memory).map_err(|error| broken(self.index, &error))?;
        if more {
            self.stop_notifications()?;
        }
        Ok(more)
    }

    /// Whether a chain is available.
    pub(crate) fn has_next(&self) -> Result<bool, DeviceError> {
        let next = self.queue.avail_idx(self.memory, Ordering::Acquire).map_err(|error| broken(self.index, &error))?;
        Ok(next.0 != self.queue.next_avail())
    }

    /// The next available chain, whether or not the driver will notify the device of a later one.
    pub(crate) fn pop(&mut self) -> Result<Option<Chain<'m>>, DeviceError> {
        let next = self.queue.iter(self.memory).map_err(|error| broken(self.index, &error))?.next();
        if next.is_none() {
            // The iterator also ends at an entry outside memory, while the index before it still reports a chain.
            // An attachment may hand over a ring it has not checked (vhost-user does).
            let (ring, size) = (GuestAddress(self.queue.avail_ring()), usize::from(self.queue.size()));
            let length = AVAILABLE_HEADER_BYTES + 2 * size;
            if !GuestMemory::check_range(self.memory, ring, length, Permissions::Read) {
                let reason = format!("the available ring at {:#x} is outside of memory", ring.0);
                return Err(DeviceError::Guest { queue: self.index, reason });
            }
        }
        Ok(next)
    }

    /// The next available chain. None if there is none: then the driver will notify the device of the next one.
    pub(crate) fn next(&mut self) -> Result<Option<Chain<'m>>, DeviceError> {
        loop {
            if let Some(chain) = self.pop()? {
                return Ok(Some(chain));
            }
            if !self.await_notification()? {
                return Ok(None);
            }
        }
    }

    /// Puts the last `count` chains back: they are the next to be popped.
    pub(crate) fn put_back(&mut self, count: usize) {
        self.queue.set_next_avail(self.queue.next_avail().wrapping_sub(count as u16));
    }

    /// Returns the chain with this head to the driver; the device wrote the first `written` bytes of it.
    pub(crate) fn add_used(&mut self, head: u16, written: u32) -> Result<(), DeviceError> {
        self.queue.add_used(self.memory, head, written).map_err(|error| broken(self.index, &error))
    }
}

/// The error of a queue that cannot be used.
fn broken(index: usize, error: &virtio_queue::Error) -> DeviceError {
    DeviceError::Guest { queue: index, reason: error.to_string() }
}

/// Interrupts the guest for used buffers on the queue at `index`, unless its driver has suppressed that. Returns
/// whether it was interrupted.
pub(crate) fn interrupt(
    index: usize,
    queues: &mut dyn DeviceQueues,
    memory: &GuestMemoryMmap,
) -> Result<bool, DeviceError> {
    let wanted = interrupt_wanted(index, queues.queue(index), memory)?;
    if wanted {
        queues.signal(index);
    }
    Ok(wanted)
}

/// Whether the driver wants an interrupt for used buffers. `Queue` evaluates the event index; without that feature the
/// driver sets a flag (virtio 1.3 §2.7.7).
fn interrupt_wanted(index: usize, queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<bool, DeviceError> {
    let needed = queue.needs_notification(memory).map_err(|error| broken(index, &error))?;
    if !needed || queue.event_idx_enabled() {
        return Ok(needed);
    }
    let flags: u16 = memory
        .load(GuestAddress(queue.avail_ring()), Ordering::Relaxed)
        .map_err(|error| DeviceError::Guest { queue: index, reason: format!("available ring: {error}") })?;
    Ok(u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::tests::queues::{Descriptor, TestQueues};

    #[test]
    fn an_available_ring_that_leaves_memory_is_an_error_and_not_an_empty_queue() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
        let mut queue = Queue::new(64).unwrap();
        queue.set_desc_table_address(Some(0x1000), Some(0));
        // Flags and index are in memory, the entries are not.
        queue.set_avail_ring_address(Some(0xfffc), Some(0));
        queue.set_used_ring_address(Some(0x2000), Some(0));
        queue.set_ready(true);
        memory.write_obj(1u16, GuestAddress(0xfffe)).unwrap();
        let mut served = ServedQueue { index: 3, queue: &mut queue, memory: &memory };
        assert!(matches!(served.pop(), Err(DeviceError::Guest { queue: 3, .. })));
    }

    #[test]
    fn a_chain_put_back_is_the_next_one() {
        let mut queues = TestQueues::new(&[64]);
        let heads = [1, 2, 3].map(|bytes| queues.add(0, &[Descriptor::readable(bytes)]));
        let memory = queues.memory().clone();
        let mut queue = ServedQueue::of(0, &mut queues, &memory);
        let next = |queue: &mut ServedQueue<'_, '_>| queue.next().unwrap().map(|chain| chain.head_index());
        assert_eq!([next(&mut queue), next(&mut queue)], [Some(heads[0]), Some(heads[1])]);
        queue.put_back(1);
        assert_eq!([next(&mut queue), next(&mut queue), next(&mut queue)], [Some(heads[1]), Some(heads[2]), None]);
    }

    /// `VRING_USED_F_NO_NOTIFY` in the used ring of the only queue.
    fn notifications_are_off(queues: &TestQueues) -> bool {
        queues.memory().read_obj::<u16>(GuestAddress(0x8000)).unwrap() & 1 == 1
    }

    #[test]
    fn the_driver_notifies_the_device_once_the_queue_is_empty() {
        let mut queues = TestQueues::new(&[64]);
        queues.add(0, &[Descriptor::readable(1)]);
        let memory = queues.memory().clone();
        let mut queue = ServedQueue::of(0, &mut queues, &memory);
        queue.stop_notifications().unwrap();
        assert!(queue.next().unwrap().is_some());
        assert!(notifications_are_off(&queues));
        assert!(ServedQueue::of(0, &mut queues, &memory).next().unwrap().is_none());
        assert!(!notifications_are_off(&queues));
        // A chain that came before the driver saw that it must notify is found, and notifications are off again.
        queues.add(0, &[Descriptor::readable(1)]);
        assert!(ServedQueue::of(0, &mut queues, &memory).await_notification().unwrap());
        assert!(notifications_are_off(&queues));
    }
}
