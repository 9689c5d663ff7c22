//! The block device (virtio 1.3 §5.2): one request queue over a raw, sparse file.
//!
//! [`disk`] is the file on the host, [`config`] the configuration space, [`request`] one request from descriptor chain
//! to status byte. This file holds the device between them. All calls come from the attachment's one thread; the
//! [`Disk`] is shared with the control socket, which may have it look at a grown file.

mod config;
mod disk;
mod request;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use virtio_queue::QueueT;
use vm_memory::GuestMemoryMmap;

pub use self::disk::{BlockCounters, Disk, DiskError, SECTOR_BYTES};
use super::queue::pop;
use super::{DeviceError, DeviceQueues, VirtioDevice};

/// Size of the one request queue. User Mode Linux takes no more than 256.
const QUEUE_SIZE: u16 = 256;
const QUEUE_SIZES: [u16; 1] = [QUEUE_SIZE];
/// Most data segments of one request: the queue less the header and the status byte.
const SEGMENTS_MAX: u32 = QUEUE_SIZE as u32 - 2;
/// Length of the identity a driver reads with `GET_ID` (virtio 1.3 §5.2.6).
const ID_BYTES: usize = 20;

/// A virtio block device over a [`Disk`].
pub struct BlockDevice {
    disk: Arc<Disk>,
    id: [u8; ID_BYTES],
}

impl BlockDevice {
    /// A device serving `disk`; `id` is what the guest sees as its serial, cut after 20 bytes.
    pub fn new(disk: Arc<Disk>, id: &str) -> Self {
        let mut bytes = [0; ID_BYTES];
        for (to, from) in bytes.iter_mut().zip(id.bytes()) {
            *to = from;
        }
        Self { disk, id: bytes }
    }

    /// Serves what is available now; true when at least one element went into the used ring.
    fn serve_available(
        &self,
        index: usize,
        queues: &mut dyn DeviceQueues,
        memory: &GuestMemoryMmap,
    ) -> Result<bool, DeviceError> {
        let guest = |reason: String| DeviceError::Guest { queue: index, reason };
        let mut served = false;
        loop {
            let Some(chain) = pop(index, queues.queue(index), memory)? else { return Ok(served) };
            let head = chain.head_index();
            let written =
                request::serve(chain, memory, &self.disk, &self.id).map_err(|reason| guest(reason.to_string()))?;
            queues
                .queue(index)
                .add_used(memory, head, written)
                .map_err(|error| guest(format!("the used ring: {error}")))?;
            served = true;
        }
    }
}

impl VirtioDevice for BlockDevice {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn offered_features(&self) -> u64 {
        let common = 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_BLK_F_SEG_MAX | 1 << VIRTIO_BLK_F_BLK_SIZE;
        if self.disk.is_read_only() {
            common | 1 << VIRTIO_BLK_F_RO
        } else {
            common | 1 << VIRTIO_BLK_F_FLUSH | 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES
        }
    }

    fn acknowledge_features(&mut self, _features: u64) {
        // No request is served differently for a feature the driver left out: what it may not send, it does not.
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        config::read(self.disk.sectors(), offset, data);
    }

    fn queue_kicked(&mut self, index: usize, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        if index >= QUEUE_SIZES.len() || !queues.queue(index).ready() {
            return Ok(());
        }
        let memory = queues.memory().clone();
        let broken = |error: virtio_queue::Error| DeviceError::Guest { queue: index, reason: error.to_string() };
        loop {
            queues.queue(index).disable_notification(&memory).map_err(broken)?;
            if self.serve_available(index, queues, &memory)?
                && queues.queue(index).needs_notification(&memory).map_err(broken)?
            {
                queues.signal(index);
            }
            // The driver may have added a request between the last look and the re-enabling of its kicks.
            if !queues.queue(index).enable_notification(&memory).map_err(broken)? {
                self.disk.counters.kicks.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
        }
    }

    fn reset(&mut self) {
        // Nothing is in flight between two calls.
    }
}

#[cfg(test)]
mod tests;
