//! The block device (virtio 1.3 §5.2): request queues over a raw, sparse file.
//!
//! [`disk`] is the file on the host, [`config`] the configuration space, [`request`] one request from descriptor chain
//! to status byte, [`transfer`] the sectors of one, [`ring`] what does several at once. This file holds the device between them. All
//! calls come from the attachment's one thread; the [`Disk`] is shared with the control socket, which may have it look at a grown file.

mod config;
mod disk;
mod request;
mod ring;
mod transfer;

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::{error, warn};
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use virtio_queue::QueueT;
use vm_memory::GuestMemoryMmap;

pub use self::disk::{BlockCounters, Disk, DiskError, SECTOR_BYTES};
use self::request::{Outcome, Request, Work};
use self::ring::{InFlight, Ring};
use self::transfer::Direction;
use super::queue::{broken, interrupt, pop};
use super::{DeviceError, DeviceQueues, VirtioDevice};

/// Size of each request queue. User Mode Linux takes no more than 256.
const QUEUE_SIZE: u16 = 256;
/// Most request queues.
pub const MAX_QUEUES: u16 = 4;
const QUEUE_SIZES: [u16; MAX_QUEUES as usize] = [QUEUE_SIZE; MAX_QUEUES as usize];
/// Most requests done in one go without a ring.
const MAX_BATCH: usize = QUEUE_SIZE as usize;
/// Most data segments of one request: the queue less the header and the status byte.
const MAX_SEGMENTS: u32 = QUEUE_SIZE as u32 - 2;
/// Length of the identity a driver reads with `GET_ID` (virtio 1.3 §5.2.6).
const ID_BYTES: usize = 20;

/// A virtio block device over a [`Disk`].
pub struct BlockDevice {
    disk: Arc<Disk>,
    id: [u8; ID_BYTES],
    queues: u16,
    /// Without one, each request is done before the next is looked at.
    ring: Option<Ring>,
    /// Queues with requests the ring had no room for.
    waiting: [bool; MAX_QUEUES as usize],
}

impl BlockDevice {
    /// A device serving `disk` by one queue, one request after the other; `id` is what the guest sees as its serial, cut after 20 bytes.
    pub fn new(disk: Arc<Disk>, id: &str) -> Self {
        let mut bytes = [0; ID_BYTES];
        for (to, from) in bytes.iter_mut().zip(id.bytes()) {
            *to = from;
        }
        Self { disk, id: bytes, queues: 1, ring: None, waiting: [false; MAX_QUEUES as usize] }
    }

    /// The same device with so many queues (1 to [`MAX_QUEUES`]), doing several requests at once by `io_uring`; one after the other where the
    /// host does not allow that.
    #[must_use]
    pub fn at_once(self, queues: u16) -> Self {
        let ring = Ring::new(self.disk.clone())
            .inspect_err(|error| warn!("disks are served without io_uring, which the host refuses: {error}"))
            .ok();
        Self { queues: queues.clamp(1, MAX_QUEUES), ring, ..self }
    }

    /// Serves what is available on the queue at `index`.
    fn serve(&mut self, index: usize, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        let memory = Arc::new(queues.memory().clone());
        loop {
            queues.queue(index).disable_notification(&*memory).map_err(|error| broken(index, &error))?;
            loop {
                let room = self.ring.as_ref().map_or(MAX_BATCH, Ring::room);
                let (batch, fault) = self.take(index, room, queues, &memory);
                let taken = batch.len();
                self.dispatch(index, batch, queues, &memory)?;
                fault?;
                if taken == 0 {
                    // What was full may have been emptied by the last look at it.
                    let full = self.ring.as_ref().is_some_and(|ring| ring.room() == 0);
                    if room == 0 && !full {
                        continue;
                    }
                    self.waiting[index] = full;
                    break;
                }
            }
            if self.waiting[index] {
                // It goes on when something completes, until when kicks tell nothing new.
                return Ok(());
            }
            // The driver may have added a request between the last look and the re-enabling of its kicks.
            if !queues.queue(index).enable_notification(&*memory).map_err(|error| broken(index, &error))? {
                return Ok(());
            }
        }
    }

    /// Takes up to `most` requests, each with the head of its chain, and what was wrong with the one after them.
    fn take(
        &self,
        index: usize,
        most: usize,
        queues: &mut dyn DeviceQueues,
        memory: &GuestMemoryMmap,
    ) -> (Vec<(u16, Request)>, Result<(), DeviceError>) {
        let mut batch = Vec::new();
        while batch.len() < most {
            let chain = match pop(index, queues.queue(index), memory) {
                Ok(Some(chain)) => chain,
                Ok(None) => break,
                Err(error) => return (batch, Err(error)),
            };
            let head = chain.head_index();
            match Request::check(chain, memory, &self.disk, &self.id) {
                Ok(request) => batch.push((head, request)),
                Err(fault) => return (batch, Err(DeviceError::Guest { queue: index, reason: fault.to_string() })),
            }
        }
        (batch, Ok(()))
    }

    /// Does the requests of a batch, or starts them.
    fn dispatch(
        &mut self,
        index: usize,
        batch: Vec<(u16, Request)>,
        queues: &mut dyn DeviceQueues,
        memory: &Arc<GuestMemoryMmap>,
    ) -> Result<(), DeviceError> {
        let mut ended = Vec::new();
        let alone = batch.len() == 1 && self.ring.as_ref().is_none_or(Ring::is_idle);
        for (head, request) in batch {
            let mut request = InFlight { queue: index, head, request, memory: memory.clone() };
            if let Some(ring) = &mut self.ring
                && by_ring(&request.request.work, alone)
            {
                match ring.start(request) {
                    Ok(()) => continue,
                    Err(back) => request = back,
                }
            }
            let outcome = request.request.perform(&self.disk);
            ended.push((request, outcome));
        }
        self.submit()?;
        self.answer(ended, queues)?;
        self.reap(queues)
    }

    fn submit(&mut self) -> Result<(), DeviceError> {
        self.ring.as_mut().map_or(Ok(()), Ring::submit).map_err(ring_failed)
    }

    /// Answers what the ring has completed.
    fn reap(&mut self, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        let mut ended = Vec::new();
        if let Some(ring) = &mut self.ring {
            ring.reap(|request, outcome| ended.push((request, outcome)));
            ring.submit().map_err(ring_failed)?;
        }
        self.answer(ended, queues)
    }

    /// Tells the guest of requests that have ended: one interrupt for each queue that wants one.
    fn answer(&mut self, ended: Vec<(InFlight, Outcome)>, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        let mut used: [Option<Arc<GuestMemoryMmap>>; MAX_QUEUES as usize] = Default::default();
        for (InFlight { queue: index, head, request, memory }, outcome) in ended {
            let written = request
                .answer(outcome, &memory, &self.disk)
                .map_err(|fault| DeviceError::Guest { queue: index, reason: fault.to_string() })?;
            // A queue the driver took away meanwhile wants no answer.
            if queues.queue(index).ready() {
                queues.queue(index).add_used(&*memory, head, written).map_err(|error| broken(index, &error))?;
                used[index] = Some(memory);
            }
        }
        for (index, memory) in used.into_iter().enumerate() {
            if let Some(memory) = memory {
                interrupt(index, queues, &memory)?;
            }
        }
        Ok(())
    }
}

/// Whether a request goes by the ring. Writes end in the host's page cache: one that comes alone is done sooner than handed over. So are
/// ranges, which seldom come.
fn by_ring(work: &Work, alone: bool) -> bool {
    match work {
        Work::Transfer(transfer) => transfer.direction == Direction::Read || !alone,
        Work::Flush => true,
        Work::Discard(_) | Work::WriteZeroes(_) | Work::Done(_) => false,
    }
}

fn ring_failed(source: std::io::Error) -> DeviceError {
    DeviceError::Host { action: "handing requests to io_uring".into(), source }
}

impl VirtioDevice for BlockDevice {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn offered_features(&self) -> u64 {
        let common = 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_BLK_F_SEG_MAX | 1 << VIRTIO_BLK_F_BLK_SIZE;
        let common = common | if self.queues > 1 { 1 << VIRTIO_BLK_F_MQ } else { 0 };
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
        &QUEUE_SIZES[..usize::from(self.queues)]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        config::read(self.disk.sectors(), self.queues, offset, data);
    }

    fn queue_kicked(&mut self, index: usize, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        if index >= usize::from(self.queues) || !queues.queue(index).ready() {
            return Ok(());
        }
        self.disk.counters.kicks.fetch_add(1, Ordering::Relaxed);
        self.serve(index, queues)
    }

    fn host_event_fd(&self) -> Option<BorrowedFd<'_>> {
        self.ring.as_ref().map(Ring::descriptor)
    }

    fn host_event(&mut self, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        self.reap(queues)?;
        for index in 0..usize::from(self.queues) {
            if self.waiting[index] && queues.queue(index).ready() {
                self.serve(index, queues)?;
            }
        }
        Ok(())
    }

    fn quiesce(&mut self, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        while self.ring.as_ref().is_some_and(|ring| !ring.is_idle()) {
            let mut ended = Vec::new();
            if let Some(ring) = &mut self.ring {
                ring.wait(|request, outcome| ended.push((request, outcome))).map_err(ring_failed)?;
            }
            self.answer(ended, queues)?;
        }
        Ok(())
    }

    fn reset(&mut self) {
        if let Some(ring) = &mut self.ring
            && let Err(error) = ring.wait_and_forget()
        {
            error!("a disk goes on without io_uring: {error}");
            self.ring = None;
        }
        self.waiting = Default::default();
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod ring_tests;
