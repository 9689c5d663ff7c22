//! The device: queues, features, configuration space.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ids::VIRTIO_ID_BALLOON;
use virtio_queue::QueueT;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::release::Release;
use super::size::{BalloonSize, PAGE_BYTES};
use crate::devices::chain::{Chain, Direction, Malformed, pieces};
use crate::devices::configuration;
use crate::devices::queue::{ServedQueue, interrupt};
use crate::devices::span::{Slice, Span};
use crate::devices::{DeviceError, DeviceQueues, VirtioDevice};

/// Feature bits (§5.5.3): the guest may take pages back before it would have to kill processes; free page reporting.
const DEFLATE_ON_OOM: u64 = 1 << 2;
pub(super) const FREE_PAGE_REPORTING: u64 = 1 << 5;

pub(super) const INFLATE: usize = 0;
pub(super) const DEFLATE: usize = 1;
/// The reporting queue is number 4 by the specification (§5.5.2). Linux numbers only the queues it uses and so expects
/// it at 2, where nothing else can be, because neither statistics nor hinting is offered. Each driver uses one of the
/// two.
pub(super) const REPORTING: [usize; 2] = [2, 4];
pub(super) const QUEUE_SIZES: [u16; 5] = [256; 5];
/// Most page numbers in one buffer, enough for 1 GiB; Linux sends 256.
const MAX_NUMBERS: usize = 1 << 18;
/// Offset of the field the driver writes, its actual size (§5.5.4).
pub(super) const ACTUAL: u64 = 4;

/// A balloon device.
#[derive(Debug, Default)]
pub struct BalloonDevice {
    size: Arc<BalloonSize>,
    release: Release,
}

impl BalloonDevice {
    /// An empty balloon.
    pub fn new() -> Self {
        Self::default()
    }

    /// The balloon's size and its counters.
    pub fn size(&self) -> Arc<BalloonSize> {
        Arc::clone(&self.size)
    }

    /// Has `serve` handle every chain of the queue at `index`, and returns the chains to the driver.
    fn answer(
        &mut self,
        index: usize,
        queues: &mut dyn DeviceQueues,
        serve: for<'m> fn(&mut Self, &'m GuestMemoryMmap, Chain<'m>) -> Result<(), Malformed>,
    ) -> Result<(), DeviceError> {
        let memory = queues.memory().clone();
        if !queues.queue(index).ready() {
            return Ok(());
        }
        let mut queue = ServedQueue::of(index, queues, &memory);
        let mut used = false;
        queue.stop_notifications()?;
        while let Some(chain) = queue.next()? {
            let head = chain.head_index();
            serve(self, &memory, chain).map_err(|error| error.on(index))?;
            queue.add_used(head, 0)?;
            used = true;
        }
        if used {
            interrupt(index, queues, &memory)?;
        }
        Ok(())
    }

    /// Handles a chain of the reporting queue, whose buffers are free memory.
    fn report<'m>(&mut self, memory: &'m GuestMemoryMmap, chain: Chain<'m>) -> Result<(), Malformed> {
        let mut free = Vec::new();
        let bytes = pieces(memory, chain, Direction::ToGuest, &mut free)?;
        for slice in &free {
            self.release.slice(slice);
        }
        self.size.reported.fetch_add(bytes as u64, Ordering::Relaxed);
        self.size.reports.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn inflate<'m>(&mut self, memory: &'m GuestMemoryMmap, chain: Chain<'m>) -> Result<(), Malformed> {
        let mut pages = page_numbers(memory, chain)?;
        self.size.inflated.fetch_add(pages.len() as u64 * PAGE_BYTES, Ordering::Relaxed);
        // Adjacent pages are dropped together: a call per page costs more than sorting, and the host's pages may be
        // larger.
        pages.sort_unstable();
        pages.dedup();
        for run in pages.chunk_by(|page, next| *next == page + 1) {
            let (start, length) = (GuestAddress(u64::from(run[0]) * PAGE_BYTES), run.len() * PAGE_BYTES as usize);
            for slice in memory.get_slices(start, length) {
                self.release.slice(&slice.map_err(|error| Malformed(error.to_string()))?);
            }
        }
        Ok(())
    }

    fn deflate<'m>(&mut self, memory: &'m GuestMemoryMmap, chain: Chain<'m>) -> Result<(), Malformed> {
        // The host allocates the pages as the guest touches them.
        let pages = page_numbers(memory, chain)?;
        self.size.deflated.fetch_add(pages.len() as u64 * PAGE_BYTES, Ordering::Relaxed);
        Ok(())
    }
}

/// Reads the page numbers of a chain (§5.5.6) and checks that every page is in guest memory.
fn page_numbers<'m>(memory: &'m GuestMemoryMmap, chain: Chain<'m>) -> Result<Vec<u32>, Malformed> {
    let mut buffers: Vec<Slice<'_>> = Vec::new();
    let bytes = pieces(memory, chain, Direction::FromGuest, &mut buffers)?;
    if !bytes.is_multiple_of(4) || bytes / 4 > MAX_NUMBERS {
        return Err(Malformed(format!("{bytes} bytes of page numbers")));
    }
    let mut raw = vec![0; bytes];
    Span::new(&buffers).copy_to(&mut raw);
    let (numbers, _) = raw.as_chunks::<4>();
    let pages: Vec<u32> = numbers.iter().map(|number| u32::from_le_bytes(*number)).collect();
    for page in &pages {
        if !memory.check_range(GuestAddress(u64::from(*page) * PAGE_BYTES), PAGE_BYTES as usize) {
            return Err(Malformed(format!("page {page:#x} is outside of memory")));
        }
    }
    Ok(pages)
}

impl VirtioDevice for BalloonDevice {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_BALLOON
    }

    fn offered_features(&self) -> u64 {
        1 << VIRTIO_F_VERSION_1 | DEFLATE_ON_OOM | FREE_PAGE_REPORTING
    }

    fn acknowledge_features(&mut self, _features: u64) {
        // A driver that declined a feature does not use its queue.
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        configuration::read(&self.size.configuration(), offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        // The driver may write only this field, and writes it whole.
        if let (ACTUAL, Ok(pages)) = (offset, <[u8; 4]>::try_from(data)) {
            self.size.actual_pages.store(u32::from_le_bytes(pages), Ordering::Release);
        }
    }

    fn queue_kicked(&mut self, index: usize, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        match index {
            INFLATE => self.answer(index, queues, Self::inflate),
            DEFLATE => self.answer(index, queues, Self::deflate),
            _ if REPORTING.contains(&index) => self.answer(index, queues, Self::report),
            _ => Ok(()),
        }
    }

    fn save(&self) -> serde_json::Value {
        let pages = |pages: &AtomicU32| pages.load(Ordering::Acquire);
        json!({"wanted_pages": pages(&self.size.wanted_pages), "actual_pages": pages(&self.size.actual_pages)})
    }

    fn restore(&mut self, state: &serde_json::Value, _queues: &mut dyn DeviceQueues) -> Result<(), String> {
        let pages = |name: &str| {
            let number = state[name].as_u64().and_then(|number| u32::try_from(number).ok());
            number.ok_or_else(|| format!("the balloon's {name} is no number of pages"))
        };
        let (wanted, actual) = (pages("wanted_pages")?, pages("actual_pages")?);
        self.size.wanted_pages.store(wanted, Ordering::Release);
        self.size.actual_pages.store(actual, Ordering::Release);
        Ok(())
    }

    fn reset(&mut self) {
        // The next driver begins with an empty balloon. The wanted size is the host's and stays.
        self.size.actual_pages.store(0, Ordering::Release);
    }
}
