//! Buffers returned to the driver for which the guest has not been interrupted yet.

use std::time::Instant;

use vm_memory::GuestMemoryMmap;

use crate::devices::queue::interrupt;
use crate::devices::{DeviceError, DeviceQueues};

/// Longest small frame, in bytes: a request or an acknowledgment. The interrupt for such a frame may wait.
pub(super) const SMALL_BYTES: usize = 2048;

/// The buffers of one queue.
#[derive(Debug, Default)]
pub(super) struct Unsignalled {
    pub(super) buffers: usize,
    /// When the guest is to be interrupted for them.
    pub(super) due: Option<Instant>,
}

impl Unsignalled {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Interrupts the guest for all buffers of the queue at `index`. Returns whether it was interrupted.
    pub(super) fn signal(
        &mut self,
        index: usize,
        queues: &mut dyn DeviceQueues,
        memory: &GuestMemoryMmap,
    ) -> Result<bool, DeviceError> {
        *self = Self::default();
        interrupt(index, queues, memory)
    }
}
