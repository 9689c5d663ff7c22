//! A receive queue: frames for the guest.

use std::time::{Duration, Instant};

use vm_memory::GuestMemoryMmap;

use super::buffers::Buffers;
use super::unsignalled::Unsignalled;
use crate::devices::queue::ServedQueue;
use crate::devices::{DeviceError, DeviceQueues};

/// The guest is interrupted at the latest after this many filled buffers, and works on them while the device fills the
/// next.
const SIGNAL_AFTER: usize = 16;
/// For small frames the guest is interrupted no more often than this: a flood of datagrams would leave no time for the
/// program that reads them.
pub(super) const RECEIVED_WAIT: Duration = Duration::from_micros(50);
/// So much may be borrowed from the time that follows. An answer that comes close after an acknowledgment, as in a
/// conversation, does not wait.
pub(super) const RECEIVED_CREDIT: Duration = Duration::from_micros(100);

/// A queue of frames for the guest.
#[derive(Debug)]
pub(super) struct ReceiveQueue {
    index: usize,
    pub(super) received: Unsignalled,
    /// The time that all interrupts so far take up, at [`RECEIVED_WAIT`] each, ends then.
    pub(super) taken_until: Option<Instant>,
}

/// What one call of the device does to the queue.
#[derive(Default)]
pub(super) struct Filling<'m> {
    pub(super) buffers: Buffers<'m>,
    /// One of the frames was large: the guest must not wait for its interrupt.
    pub(super) large: bool,
    /// The driver has no more buffers.
    pub(super) starved: bool,
}

impl ReceiveQueue {
    pub(super) fn new(index: usize) -> Self {
        Self { index, received: Unsignalled::default(), taken_until: None }
    }

    /// Its index among the device's queues.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// When the guest is to be interrupted for frames it received.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.received.due
    }

    /// A frame has filled so many buffers.
    pub(super) fn add_filled(&mut self, buffers: usize) {
        self.received.buffers += buffers;
    }

    /// Puts back the buffers that were collected and not used, and interrupts the guest for the others, now or in a
    /// while.
    pub(super) fn finish(
        &mut self,
        filling: &Filling<'_>,
        queues: &mut dyn DeviceQueues,
        memory: &GuestMemoryMmap,
        now: Instant,
    ) -> Result<(), DeviceError> {
        ServedQueue::of(self.index, queues, memory).put_back(filling.buffers.len());
        if self.received.buffers == 0 {
            return Ok(());
        }
        match self.taken_until.and_then(|end| end.checked_sub(RECEIVED_CREDIT)) {
            Some(next) if next > now && !filling.large && !filling.starved => {
                self.received.due = Some(next);
                Ok(())
            }
            _ => self.signal(queues, memory, now),
        }
    }

    /// Interrupts the guest for the frames it received, if they are many.
    pub(super) fn interrupt_if_many(
        &mut self,
        queues: &mut dyn DeviceQueues,
        memory: &GuestMemoryMmap,
        now: Instant,
    ) -> Result<(), DeviceError> {
        if self.received.buffers >= SIGNAL_AFTER { self.signal(queues, memory, now) } else { Ok(()) }
    }

    /// Interrupts the guest for the frames it received, if it is time.
    pub(super) fn interrupt_if_due(
        &mut self,
        queues: &mut dyn DeviceQueues,
        memory: &GuestMemoryMmap,
        now: Instant,
    ) -> Result<(), DeviceError> {
        if self.received.is_due(now) { self.signal(queues, memory, now) } else { Ok(()) }
    }

    fn signal(
        &mut self,
        queues: &mut dyn DeviceQueues,
        memory: &GuestMemoryMmap,
        now: Instant,
    ) -> Result<(), DeviceError> {
        if self.received.signal(self.index, queues, memory)? {
            let begin = self.taken_until.map_or(now, |end| end.max(now));
            // Large frames take up no more than small ones may borrow.
            self.taken_until = Some((begin + RECEIVED_WAIT).min(now + RECEIVED_CREDIT + RECEIVED_WAIT));
        }
        Ok(())
    }
}
