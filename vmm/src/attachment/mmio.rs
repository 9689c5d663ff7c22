//! The virtio-mmio attachment (virtio 1.3 §4.2): a [`VirtioDevice`] behind a page of registers.
//!
//! Threads: the guest's processors read and write registers; one thread of the device's own waits for doorbells and for the
//! device's descriptor, and is the only one that calls the device's queues. The state of both is behind one mutex. The interrupt's reasons
//! are outside of it: a processor in its interrupt handler must not wait for a request being served.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tracing::{debug, error};
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemoryMmap;

use super::device_thread;
use crate::devices::counters::Counters;
use crate::devices::{DeviceError, DeviceQueues, VirtioDevice};

#[path = "mmio_saved.rs"]
mod saved;

/// Offset of the doorbell register: the guest writes a queue's index.
pub const QUEUE_NOTIFY: u64 = 0x50;
/// The device's configuration space begins here.
const CONFIGURATION: u64 = 0x100;
const MAGIC: u32 = 0x7472_6976;
const VENDOR: u32 = u32::from_le_bytes(*b"RORQ");

/// Reasons of an interrupt (§4.2.2.1).
const USED_BUFFER: u32 = 1;
const CONFIGURATION_CHANGED: u32 = 2;

/// Status bits (§2.1).
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;
const NEEDS_RESET: u32 = 64;

/// Tokens of the device's thread; below them are the doorbells.
const HOST_EVENT: u64 = 1 << 32;
const END: u64 = HOST_EVENT + 1;

/// A device with its registers, shared by the guest's processors.
pub struct MmioAttachment {
    name: String,
    state: Mutex<State>,
    interrupt: Interrupt,
    doorbells: Vec<EventFd>,
    epoll: Epoll,
    end: EventFd,
}

/// What a device has cost its guest. A doorbell does not return to the processor's thread, a register does.
#[derive(Debug, Default)]
pub struct DeviceTraffic {
    interrupts: AtomicU64,
    doorbells: AtomicU64,
    register_exits: AtomicU64,
}

impl Counters for DeviceTraffic {
    fn snapshot(&self) -> Vec<(&'static str, u64)> {
        [("interrupts", &self.interrupts), ("doorbells", &self.doorbells), ("register_exits", &self.register_exits)]
            .into_iter()
            .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
            .collect()
    }
}

struct Interrupt {
    reasons: AtomicU32,
    event: EventFd,
    traffic: DeviceTraffic,
}

impl Interrupt {
    fn raise(&self, reason: u32) {
        self.reasons.fetch_or(reason, Ordering::SeqCst);
        // Fails only if the counter is full: then there is an interrupt the guest has not taken.
        let _ = self.event.write(1);
        self.traffic.interrupts.fetch_add(1, Ordering::Relaxed);
    }
}

struct State {
    device: Box<dyn VirtioDevice>,
    memory: GuestMemoryMmap,
    queues: Vec<Queue>,
    status: u32,
    features_page: u32,
    driver_page: u32,
    driver_features: u64,
    selected: usize,
    generation: u32,
    /// At rest, for a snapshot.
    paused: bool,
}

impl State {
    fn offered(&self) -> u64 {
        self.device.offered_features() | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC
    }

    fn serving(&self) -> bool {
        self.status & DRIVER_OK != 0 && self.status & NEEDS_RESET == 0 && !self.paused
    }
}

impl MmioAttachment {
    /// Puts `device` behind registers. It is served once [`serve`](Self::serve) runs.
    pub fn new(name: &str, device: Box<dyn VirtioDevice>, memory: GuestMemoryMmap) -> io::Result<Self> {
        let event = || EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let (mut doorbells, mut queues) = (Vec::new(), Vec::new());
        for (index, size) in device.queue_sizes().iter().enumerate() {
            let doorbell = event()?;
            epoll.add(&doorbell, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
            doorbells.push(doorbell);
            queues.push(Queue::new(*size).map_err(io::Error::other)?);
        }
        if let Some(descriptor) = device.host_event_fd() {
            // Waited for once the driver is ready.
            epoll.add(descriptor, EpollEvent::new(EpollFlags::empty(), HOST_EVENT))?;
        }
        let end = event()?;
        epoll.add(&end, EpollEvent::new(EpollFlags::EPOLLIN, END))?;
        let state = State {
            device,
            memory,
            queues,
            status: 0,
            features_page: 0,
            driver_page: 0,
            driver_features: 0,
            selected: 0,
            generation: 0,
            paused: false,
        };
        let interrupt = Interrupt { reasons: AtomicU32::new(0), event: event()?, traffic: DeviceTraffic::default() };
        Ok(Self { name: name.to_owned(), state: Mutex::new(state), interrupt, doorbells, epoll, end })
    }

    /// The events a write to [`QUEUE_NOTIFY`] raises, by the value written.
    pub fn doorbells(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.doorbells.iter().map(AsFd::as_fd)
    }

    /// The event that interrupts the guest; edge-triggered.
    pub fn interrupt(&self) -> BorrowedFd<'_> {
        self.interrupt.event.as_fd()
    }

    /// Interrupts, doorbells and register exits so far.
    pub fn traffic(&self) -> &DeviceTraffic {
        &self.interrupt.traffic
    }

    /// Starts the device's thread, which ends after [`end`](Self::end).
    pub fn serve(self: &Arc<Self>) -> io::Result<JoinHandle<()>> {
        let attachment = self.clone();
        // Linux shows 15 characters of a thread's name.
        let name: String = format!("mmio-{}", self.name).chars().take(15).collect();
        thread::Builder::new().name(name).spawn(move || attachment.work())
    }

    /// Ends the device's thread.
    pub fn end(&self) {
        let _ = self.end.write(1);
    }

    /// Lets go of the device, with what it holds on the host. To be called when the guest and the device's thread have ended.
    pub fn remove_device(&self) {
        self.state().device = Box::new(Removed);
    }

    /// Tells the driver that the configuration space changed.
    pub fn configuration_changed(&self) {
        let mut state = self.state();
        state.generation = state.generation.wrapping_add(1);
        if state.serving() || state.paused {
            self.interrupt.raise(CONFIGURATION_CHANGED);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let kind = self.state().device.device_type();
        device_thread::begin(kind);
        while self.turn(EpollTimeout::NONE) {}
    }

    /// Handles what has come, without the device's thread; for fuzzing.
    #[doc(hidden)]
    pub fn serve_now(&self) {
        self.turn(EpollTimeout::ZERO);
    }

    /// Waits and handles what has come; false at the end.
    fn turn(&self, patience: EpollTimeout) -> bool {
        let mut ready = [EpollEvent::empty(); 8];
        let count = match self.epoll.wait(&mut ready, patience) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => {
                error!(device = %self.name, "its thread cannot wait: {error}");
                return false;
            }
        };
        for event in &ready[..count] {
            match event.data() {
                END => return false,
                HOST_EVENT => self.call(None),
                index => {
                    let index = index as usize;
                    // Its count is how often it was rung; it fails only if it was read already.
                    let rung = self.doorbells[index].read().unwrap_or(0);
                    self.traffic().doorbells.fetch_add(rung, Ordering::Relaxed);
                    self.call(Some(index));
                }
            }
        }
        true
    }

    /// Calls the device for a queue's doorbell, or for its own descriptor.
    fn call(&self, kicked: Option<usize>) {
        let mut state = self.state();
        if !state.serving() {
            return;
        }
        let State { device, memory, queues, .. } = &mut *state;
        let mut queues = Queues { memory, all: queues, interrupt: &self.interrupt };
        let answer = match kicked {
            Some(index) => device.queue_kicked(index, &mut queues),
            None => device.host_event(&mut queues),
        };
        if let Err(reason) = answer {
            self.break_device(&mut state, &reason);
        }
    }

    /// The device stays, silent, until the driver resets it; the guest sees the status, the log why.
    fn break_device(&self, state: &mut State, reason: &DeviceError) {
        error!(device = %self.name, "the device has stopped: {reason}");
        state.status |= NEEDS_RESET;
        self.wait_for_host(state, false);
        self.interrupt.raise(CONFIGURATION_CHANGED);
    }

    /// Waits for the device's descriptor or does not: a readable one nobody reads would keep the thread busy.
    fn wait_for_host(&self, state: &State, wait: bool) {
        let Some(descriptor) = state.device.host_event_fd() else { return };
        let flags = if wait { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
        if let Err(error) = self.epoll.modify(descriptor, &mut EpollEvent::new(flags, HOST_EVENT)) {
            debug!(device = %self.name, "its host events cannot be waited for: {error}");
        }
    }

    /// Answers a processor's read at `offset` of the registers.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        self.traffic().register_exits.fetch_add(1, Ordering::Relaxed);
        if offset >= CONFIGURATION {
            return self.state().device.read_config(offset - CONFIGURATION, data);
        }
        // Registers are 32 bits wide and read whole (§4.2.2.2); anything else reads as nothing.
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
            return debug!(device = %self.name, offset, "a register was written with another width than 32 bits");
        };
        match offset {
            QUEUE_NOTIFY => match self.doorbells.get(value as usize) {
                Some(doorbell) => drop(doorbell.write(1)),
                None => debug!(device = %self.name, queue = value, "the doorbell of a queue that is not there"),
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
            return debug!(device = %self.name, queue = selected, "a queue that is not there was set up");
        };
        if *status & FEATURES_OK == 0 || (queue.ready() && offset != 0x44) {
            return debug!(device = %self.name, offset, "a queue was set up at the wrong time");
        }
        match offset {
            // One that is out of range or no power of two is not taken, and the queue keeps its size.
            0x38 => queue.set_size(u16::try_from(value).unwrap_or(0)),
            0x44 if value == 1 => {
                queue.set_ready(true);
                // Zero is what an address is before it was set; no driver has a ring there.
                let placed = [queue.desc_table(), queue.avail_ring(), queue.used_ring()].iter().all(|at| *at != 0);
                if !placed || !queue.is_valid(memory) {
                    // The driver reads back that it is not ready.
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
            _ => debug!(device = %self.name, offset, "a register that cannot be written was"),
        }
    }

    fn set_status(&self, value: u32) {
        let mut state = self.state();
        if value == 0 {
            return self.reset(&mut state);
        }
        // Bits are only ever added (§2.1.1), and the device's own is not the driver's.
        let mut added = value & !state.status & !NEEDS_RESET;
        if added & FEATURES_OK != 0 {
            let features = state.driver_features;
            let wrong = features & !state.offered() != 0 || features & 1 << VIRTIO_F_VERSION_1 == 0;
            if wrong {
                // The driver reads back that the device does not agree (§3.1.1).
                debug!(device = %self.name, features, "the driver wants features that were not offered");
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
            // What was made available before is found now.
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

/// In the place of a device that was removed: nothing (device ID 0, §4.2.2).
struct Removed;

impl VirtioDevice for Removed {
    fn device_type(&self) -> u32 {
        0
    }

    fn offered_features(&self) -> u64 {
        0
    }

    fn acknowledge_features(&mut self, _features: u64) {}

    fn queue_sizes(&self) -> &[u16] {
        &[]
    }

    fn read_config(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn queue_kicked(&mut self, _index: usize, _queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        Ok(())
    }

    fn reset(&mut self) {}
}

/// The queues for the length of one call.
struct Queues<'a> {
    memory: &'a GuestMemoryMmap,
    all: &'a mut [Queue],
    interrupt: &'a Interrupt,
}

impl DeviceQueues for Queues<'_> {
    fn memory(&self) -> &GuestMemoryMmap {
        self.memory
    }

    fn count(&self) -> usize {
        self.all.len()
    }

    fn queue(&mut self, index: usize) -> &mut Queue {
        &mut self.all[index]
    }

    fn signal(&mut self, _index: usize) {
        self.interrupt.raise(USED_BUFFER);
    }
}

#[cfg(test)]
#[path = "mmio_tests.rs"]
mod tests;
