//! The attachment itself: a device with its doorbells and interrupt, the thread that serves it, and its end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tracing::{debug, error};
use virtio_bindings::bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemoryMmap;

use crate::attachment::device_thread;
use crate::devices::counters::Counters;
use crate::devices::{DeviceError, DeviceQueues, VirtioDevice};

/// Reasons of an interrupt (§4.2.2.1).
pub(super) const USED_BUFFER: u32 = 1;
pub(super) const CONFIGURATION_CHANGED: u32 = 2;

/// Status bits (§2.1).
pub(super) const DRIVER_OK: u32 = 4;
pub(super) const FEATURES_OK: u32 = 8;
pub(super) const NEEDS_RESET: u32 = 64;

/// Tokens of the device's thread; below them are the doorbells.
const HOST_EVENT: u64 = 1 << 32;
const END: u64 = HOST_EVENT + 1;

/// A device with its registers, shared by the guest's processors.
pub struct MmioAttachment {
    pub(super) name: String,
    state: Mutex<State>,
    pub(super) interrupt: Interrupt,
    pub(super) doorbells: Vec<EventFd>,
    epoll: Epoll,
    end: EventFd,
}

/// What a device has cost its guest. A register access returns to the processor's thread, a doorbell does not.
#[derive(Debug, Default)]
pub struct DeviceTraffic {
    interrupts: AtomicU64,
    doorbells: AtomicU64,
    pub(super) register_exits: AtomicU64,
}

impl Counters for DeviceTraffic {
    fn snapshot(&self) -> Vec<(&'static str, u64)> {
        [("interrupts", &self.interrupts), ("doorbells", &self.doorbells), ("register_exits", &self.register_exits)]
            .into_iter()
            .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
            .collect()
    }
}

pub(super) struct Interrupt {
    pub(super) reasons: AtomicU32,
    pub(super) event: EventFd,
    traffic: DeviceTraffic,
}

impl Interrupt {
    fn raise(&self, reason: u32) {
        self.reasons.fetch_or(reason, Ordering::SeqCst);
        // Fails only if the counter is full: then the guest has an interrupt to take already.
        let _ = self.event.write(1);
        self.traffic.interrupts.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) struct State {
    pub(super) device: Box<dyn VirtioDevice>,
    pub(super) memory: GuestMemoryMmap,
    pub(super) queues: Vec<Queue>,
    pub(super) status: u32,
    pub(super) features_page: u32,
    pub(super) driver_page: u32,
    pub(super) driver_features: u64,
    pub(super) selected: usize,
    pub(super) generation: u32,
    /// Whether the device is at rest, for a snapshot.
    pub(super) paused: bool,
}

impl State {
    pub(super) fn offered(&self) -> u64 {
        self.device.offered_features() | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC
    }

    pub(super) fn serving(&self) -> bool {
        self.status & DRIVER_OK != 0 && self.status & NEEDS_RESET == 0 && !self.paused
    }
}

impl MmioAttachment {
    /// Puts `device` behind registers. [`serve`](Self::serve) starts to serve it.
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
            // Not waited for until the driver is ready.
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

    /// Drops the device, with what it holds on the host. Call it after the guest and the device's thread have ended.
    pub fn remove_device(&self) {
        self.state().device = Box::new(Removed);
    }

    /// Notifies the driver that the configuration space changed.
    pub fn configuration_changed(&self) {
        let mut state = self.state();
        state.generation = state.generation.wrapping_add(1);
        if state.serving() || state.paused {
            self.interrupt.raise(CONFIGURATION_CHANGED);
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let kind = self.state().device.device_type();
        device_thread::begin(kind);
        while self.turn(EpollTimeout::NONE) {}
    }

    /// Handles pending events without the device's thread; for fuzzing.
    #[doc(hidden)]
    pub fn serve_now(&self) {
        self.turn(EpollTimeout::ZERO);
    }

    /// Waits for events and handles them; false at the end.
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
                    // The count is how often the guest rang; reading fails only if it was read already.
                    let rung = self.doorbells[index].read().unwrap_or(0);
                    self.traffic().doorbells.fetch_add(rung, Ordering::Relaxed);
                    self.call(Some(index));
                }
            }
        }
        true
    }

    /// Calls the device for a queue's doorbell, or for its own descriptor.
    pub(super) fn call(&self, kicked: Option<usize>) {
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

    /// Silences the device until the driver resets it. The guest sees the status; the log has the reason.
    pub(super) fn break_device(&self, state: &mut State, reason: &DeviceError) {
        error!(device = %self.name, "the device has stopped: {reason}");
        state.status |= NEEDS_RESET;
        self.wait_for_host(state, false);
        self.interrupt.raise(CONFIGURATION_CHANGED);
    }

    /// Starts or stops waiting for the device's descriptor: a readable one that nobody reads would keep the thread
    /// busy.
    pub(super) fn wait_for_host(&self, state: &State, wait: bool) {
        let Some(descriptor) = state.device.host_event_fd() else { return };
        let flags = if wait { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
        if let Err(error) = self.epoll.modify(descriptor, &mut EpollEvent::new(flags, HOST_EVENT)) {
            debug!(device = %self.name, "its host events cannot be waited for: {error}");
        }
    }
}

/// Stands in for a device that was removed: no device (device ID 0, §4.2.2).
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

/// The queues during one call of the device.
pub(super) struct Queues<'a> {
    pub(super) memory: &'a GuestMemoryMmap,
    pub(super) all: &'a mut [Queue],
    pub(super) interrupt: &'a Interrupt,
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
