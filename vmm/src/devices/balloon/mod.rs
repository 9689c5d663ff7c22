//! The balloon device (virtio 1.3 §5.5): memory the guest does not use goes back to the host.
//!
//! It does so in two ways. By itself, whenever the guest has free pages (free page reporting, §5.5.6.8): they are dropped before the
//! report is answered, and come back as the guest touches them. And on demand: the host sets a size ([`BalloonSize`]), and the
//! guest takes so many pages out of its own use. [`release`] is how pages are dropped.
//!
//! `VIRTIO_BALLOON_F_PAGE_POISON` is not offered. With it, a guest that fills its free pages with a pattern would trust that reported pages come
//! back with that pattern; here they come back as zeroes, or as an old content ([`release`] says when). A driver whose
//! kernel has such a pattern and is not offered the feature leaves reporting off (§5.5.6.8), and all is well.
//! `VIRTIO_BALLOON_F_MUST_TELL_HOST` is not offered either: a page in the balloon can be used at any time, it is only empty.

mod release;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use serde_json::json;
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ids::VIRTIO_ID_BALLOON;
use virtio_queue::QueueT;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use self::release::Release;
use super::counters::Counters;
use super::queue::{Chain, Direction, Malformed, Slice, broken, interrupt, pieces, pop};
use super::{DeviceError, DeviceQueues, VirtioDevice};

/// Bytes of one page of the balloon, whatever the pages of guest and host (§5.5.6).
pub const PAGE_BYTES: u64 = 4096;

/// Feature bits (§5.5.3): the guest may take pages back when it would otherwise have to end processes; free page reporting.
const DEFLATE_ON_OOM: u64 = 1 << 2;
const FREE_PAGE_REPORTING: u64 = 1 << 5;

const INFLATE: usize = 0;
const DEFLATE: usize = 1;
/// The specification gives the reporting queue the number 4 (§5.5.2); Linux numbers only the queues it uses, and so finds it at 2. With
/// neither statistics nor hinting offered, nothing else can be at 2, and each driver uses its own of the two.
const REPORTING: [usize; 2] = [2, 4];
const QUEUE_SIZES: [u16; 5] = [128; 5];
/// Most page numbers of one buffer, for 1 GiB; Linux sends 256.
const MAX_NUMBERS: usize = 1 << 18;
/// The configuration space: the size wanted, the size the guest has reached (§5.5.4).
const CONFIG_BYTES: usize = 8;
const ACTUAL: u64 = 4;

/// The size of a balloon as the host wants it and as the guest has it, and what the device has done. For any thread.
#[derive(Debug, Default)]
pub struct BalloonSize {
    wanted_pages: AtomicU32,
    actual_pages: AtomicU32,
    inflated: AtomicU64,
    deflated: AtomicU64,
    reported: AtomicU64,
    reports: AtomicU64,
}

impl BalloonSize {
    /// Sets the size the guest shall bring its balloon to, in bytes, rounded down to whole pages; returns it. The driver must
    /// then be told that the configuration changed.
    pub fn want(&self, bytes: u64) -> u64 {
        let pages = u32::try_from(bytes / PAGE_BYTES).unwrap_or(u32::MAX);
        self.wanted_pages.store(pages, Ordering::Release);
        u64::from(pages) * PAGE_BYTES
    }

    /// The size the guest has told last, in bytes.
    pub fn actual(&self) -> u64 {
        u64::from(self.actual_pages.load(Ordering::Acquire)) * PAGE_BYTES
    }

    fn space(&self) -> [u8; CONFIG_BYTES] {
        let mut space = [0; CONFIG_BYTES];
        space[..4].copy_from_slice(&self.wanted_pages.load(Ordering::Acquire).to_le_bytes());
        space[4..].copy_from_slice(&self.actual_pages.load(Ordering::Acquire).to_le_bytes());
        space
    }
}

impl Counters for BalloonSize {
    fn snapshot(&self) -> Vec<(&'static str, u64)> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            ("wanted_bytes", u64::from(self.wanted_pages.load(Ordering::Relaxed)) * PAGE_BYTES),
            ("actual_bytes", self.actual()),
            ("inflated_bytes", read(&self.inflated)),
            ("deflated_bytes", read(&self.deflated)),
            ("reported_bytes", read(&self.reported)),
            ("reports", read(&self.reports)),
        ]
    }
}

/// A balloon device.
#[derive(Debug, Default)]
pub struct BalloonDevice {
    size: Arc<BalloonSize>,
    release: Release,
}

impl BalloonDevice {
    /// A balloon of no size.
    pub fn new() -> Self {
        Self::default()
    }

    /// The balloon's size and its counters.
    pub fn size(&self) -> Arc<BalloonSize> {
        Arc::clone(&self.size)
    }

    /// Answers every chain of the queue at `index` with what `serve` does about it.
    fn answer(
        &mut self,
        index: usize,
        queues: &mut dyn DeviceQueues,
        serve: for<'m> fn(&mut Self, &'m GuestMemoryMmap, Chain<'m>) -> Result<(), Malformed>,
    ) -> Result<(), DeviceError> {
        let memory = queues.memory().clone();
        let queue = queues.queue(index);
        if !queue.ready() {
            return Ok(());
        }
        let mut used = false;
        queue.disable_notification(&memory).map_err(|error| broken(index, &error))?;
        loop {
            let Some(chain) = pop(index, queue, &memory)? else {
                if queue.enable_notification(&memory).map_err(|error| broken(index, &error))? {
                    queue.disable_notification(&memory).map_err(|error| broken(index, &error))?;
                    continue;
                }
                break;
            };
            let head = chain.head_index();
            serve(self, &memory, chain).map_err(|error| error.on(index))?;
            queue.add_used(&memory, head, 0).map_err(|error| broken(index, &error))?;
            used = true;
        }
        if used {
            interrupt(index, queues, &memory)?;
        }
        Ok(())
    }

    /// A chain of the reporting queue: each buffer is free memory.
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
        // Neighbours go together: a call each costs more than the sorting, and pages of the host may be larger.
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
        // The pages fill as the guest touches them.
        let pages = page_numbers(memory, chain)?;
        self.size.deflated.fetch_add(pages.len() as u64 * PAGE_BYTES, Ordering::Relaxed);
        Ok(())
    }
}

/// The page numbers a chain holds (§5.5.6), each of a page in memory.
fn page_numbers<'m>(memory: &'m GuestMemoryMmap, chain: Chain<'m>) -> Result<Vec<u32>, Malformed> {
    let mut buffers: Vec<Slice<'_>> = Vec::new();
    let bytes = pieces(memory, chain, Direction::FromGuest, &mut buffers)?;
    if !bytes.is_multiple_of(4) || bytes / 4 > MAX_NUMBERS {
        return Err(Malformed(format!("{bytes} bytes of page numbers")));
    }
    let mut raw = vec![0; bytes];
    let mut filled = 0;
    for buffer in &buffers {
        buffer.read_slice(&mut raw[filled..filled + buffer.len()], 0).map_err(|error| Malformed(error.to_string()))?;
        filled += buffer.len();
    }
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
        // A queue whose feature the driver left out it does not use.
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let space = self.size.space();
        for (position, byte) in data.iter_mut().enumerate() {
            let at = usize::try_from(offset).ok().and_then(|offset| offset.checked_add(position));
            *byte = at.and_then(|at| space.get(at)).copied().unwrap_or(0);
        }
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        // The one field that is the driver's, written whole.
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
        // The next driver begins with an empty balloon; the size wanted is the host's.
        self.size.actual_pages.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
