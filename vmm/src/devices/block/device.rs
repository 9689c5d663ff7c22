//! The device: queues, features, what is in flight.
//!
//! All calls come from the attachment's one thread. The [`Disk`] is shared with the control socket, which has it read
//! the size of a grown file again.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::{error, warn};
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use virtio_queue::QueueT;
use vm_memory::GuestMemoryMmap;

use super::config::{self, QUEUE_SIZE};
use super::disk::Disk;
use super::patience::Patience;
use super::request::{ID_BYTES, Outcome, Request, Work};
use super::ring::{InFlight, Ring};
use super::transfer::Direction;
use crate::devices::queue::{ServedQueue, interrupt};
use crate::devices::{DeviceError, DeviceQueues, VirtioDevice};

/// Most request queues.
pub const MAX_QUEUES: u16 = 4;
const QUEUE_SIZES: [u16; MAX_QUEUES as usize] = [QUEUE_SIZE; MAX_QUEUES as usize];
/// Most requests taken at once without a ring.
const MAX_BATCH: usize = QUEUE_SIZE as usize;
/// Longest transfer between the guest's memory and the host's that is done at once, in bytes: copying it takes no
/// longer than handing it to another thread.
const MAX_COPY_BYTES: u64 = 64 << 10;
/// How long one call may look for further requests: other queues, and those who pause the device, wait for its end.
const MAX_LOOKING: Duration = Duration::from_millis(1);

/// A virtio block device over a [`Disk`].
pub struct BlockDevice {
    disk: Arc<Disk>,
    id: [u8; ID_BYTES],
    queues: u16,
    /// Without one, each request is done before the next one begins.
    pub(super) ring: Option<Ring>,
    /// Queues with requests for which the ring had no room.
    waiting: [bool; MAX_QUEUES as usize],
    patience: Patience,
}

impl BlockDevice {
    /// A device with one queue that serves `disk`, one request after the other. The guest sees the first 20 bytes of
    /// `id` as its serial number.
    pub fn new(disk: Arc<Disk>, id: &str) -> Self {
        let mut bytes = [0; ID_BYTES];
        for (to, from) in bytes.iter_mut().zip(id.bytes()) {
            *to = from;
        }
        Self { disk, id: bytes, queues: 1, ring: None, waiting: Default::default(), patience: Patience::default() }
    }

    /// The same device with `queues` queues (1 to [`MAX_QUEUES`]) and several requests at once, by `io_uring`. Where
    /// the host does not allow that, it does them one after the other.
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
        let last_look = Instant::now() + MAX_LOOKING;
        ServedQueue::of(index, queues, &memory).stop_notifications()?;
        loop {
            self.serve_until_empty(index, queues, &memory)?;
            // A full ring resumes the queue when a request completes; until then a notification would bring nothing
            // new.
            if self.waiting[index] {
                return Ok(());
            }
            if Instant::now() < last_look && self.await_more(index, queues, &memory)? {
                continue;
            }
            if !ServedQueue::of(index, queues, &memory).await_notification()? {
                return Ok(());
            }
        }
    }

    /// Looks for further requests on the queue at `index` for a moment, and answers what the ring completes meanwhile:
    /// a notification that the driver need not give is an exit less for the guest.
    fn await_more(
        &mut self,
        index: usize,
        queues: &mut dyn DeviceQueues,
        memory: &Arc<GuestMemoryMmap>,
    ) -> Result<bool, DeviceError> {
        if self.ring.is_none() || !self.patience.begin() {
            return Ok(false);
        }
        let end = Instant::now() + Patience::LENGTH;
        loop {
            if ServedQueue::of(index, queues, memory).has_next()? {
                self.patience.end(true);
                return Ok(true);
            }
            if self.ring.as_mut().is_some_and(Ring::has_completions) {
                self.reap(queues)?;
            }
            if Instant::now() >= end {
                self.patience.end(false);
                return Ok(false);
            }
            std::hint::spin_loop();
        }
    }

    /// Serves the queue at `index` until it is empty, or until the ring is full and the queue is waiting.
    fn serve_until_empty(
        &mut self,
        index: usize,
        queues: &mut dyn DeviceQueues,
        memory: &Arc<GuestMemoryMmap>,
    ) -> Result<(), DeviceError> {
        loop {
            let room = self.ring.as_ref().map_or(MAX_BATCH, Ring::room);
            let (batch, fault) = self.take(room, &mut ServedQueue::of(index, queues, memory));
            let taken = batch.len();
            self.dispatch(index, batch, queues, memory)?;
            fault?;
            // Dispatching has reaped the ring, which may have made room in a full one.
            let full = self.ring.as_ref().is_some_and(|ring| ring.room() == 0);
            if taken == 0 && (room > 0 || full) {
                self.waiting[index] = full;
                return Ok(());
            }
        }
    }

    /// Takes up to `most` requests off `queue`, each with the head of its chain, and the fault of the one after them.
    pub(super) fn take(
        &self,
        most: usize,
        queue: &mut ServedQueue<'_, '_>,
    ) -> (Vec<(u16, Request)>, Result<(), DeviceError>) {
        let mut batch = Vec::new();
        while batch.len() < most {
            let chain = match queue.pop() {
                Ok(Some(chain)) => chain,
                Ok(None) => break,
                Err(error) => return (batch, Err(error)),
            };
            let head = chain.head_index();
            match Request::check(chain, queue.memory(), &self.disk, &self.id) {
                Ok(request) => batch.push((head, request)),
                Err(fault) => return (batch, Err(fault.on(queue.index()))),
            }
        }
        (batch, Ok(()))
    }

    /// Does the requests of a batch, or starts them in the ring.
    fn dispatch(
        &mut self,
        index: usize,
        batch: Vec<(u16, Request)>,
        queues: &mut dyn DeviceQueues,
        memory: &Arc<GuestMemoryMmap>,
    ) -> Result<(), DeviceError> {
        let mut at_once = Vec::new();
        let alone = batch.len() == 1 && self.ring.as_ref().is_none_or(Ring::is_idle);
        let in_memory = self.disk.is_in_memory();
        for (head, request) in batch {
            let request = InFlight { queue: index, head, request, memory: memory.clone() };
            match &mut self.ring {
                Some(ring) if by_ring(&request.request.work, alone, in_memory) => {
                    at_once.extend(ring.start(request).err());
                }
                _ => at_once.push(request),
            }
        }
        // The ring works while this thread does the others.
        self.submit()?;
        let perform = |mut request: InFlight| {
            let outcome = request.request.perform(&self.disk);
            (request, outcome)
        };
        let ended = at_once.into_iter().map(perform).collect();
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

    /// Returns requests that have ended to the guest, with at most one interrupt for each queue.
    fn answer(&mut self, ended: Vec<(InFlight, Outcome)>, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        let mut used: [Option<Arc<GuestMemoryMmap>>; MAX_QUEUES as usize] = Default::default();
        for (InFlight { queue: index, head, request, memory }, outcome) in ended {
            let written = request.answer(outcome, &memory, &self.disk).map_err(|fault| fault.on(index))?;
            // The driver may have taken the queue away in the meantime.
            if queues.queue(index).ready() {
                ServedQueue::of(index, queues, &memory).add_used(head, written)?;
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

/// Whether a request goes into the ring.
///
/// A write ends in the host's page cache, and most file systems (ext4, tmpfs) cannot promise the ring not to wait
/// there. So the ring hands each write to a thread of the kernel, which does one at a time for each file and wakes this
/// thread after each. A short write is done at once instead, and so is a single one. The same holds for reads from a
/// file that is `in_memory`, and for ranges, which are rare.
fn by_ring(work: &Work, alone: bool, in_memory: bool) -> bool {
    match work {
        Work::Transfer(transfer) => {
            let long = transfer.length > MAX_COPY_BYTES;
            match transfer.direction {
                Direction::Read => long || !in_memory,
                Direction::Write => long && !alone,
            }
        }
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
        // No request depends on what was negotiated: a driver does not send what it did not accept.
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
            error!("a disk is now served without io_uring: {error}");
            self.ring = None;
        }
        self.waiting = Default::default();
    }
}
