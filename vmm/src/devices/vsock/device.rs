//! The device: queues, notifications, configuration space.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use rorqual_vmm_protocol::{Failure, FailureCode};
use thiserror::Error;
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_queue::QueueT;
use vm_memory::GuestMemoryMmap;

use super::buffers::{Buffers, read_packet};
use super::muxer::{Muxer, VsockHeld};
use super::stats::{VsockStatistics, count};
use crate::devices::chain::{Direction, Malformed, pieces};
use crate::devices::queue::{ServedQueue, interrupt};
use crate::devices::span::Span;
use crate::devices::{DeviceError, DeviceQueues, VirtioDevice, configuration};

/// The receive queue: packets for the guest.
pub(super) const RX: usize = 0;
/// The transmit queue: packets from the guest.
pub(super) const TX: usize = 1;
/// The event queue. An event on it reports that all streams are lost, as after a restore.
pub(super) const EVENT: usize = 2;
/// `VIRTIO_VSOCK_EVENT_TRANSPORT_RESET` (virtio 1.3 §5.10.6.7): streams are gone, listeners stay.
const EVENT_TRANSPORT_RESET: u32 = 0;
/// The queues: rx, tx and event.
const QUEUE_SIZES: [u16; 3] = [256, 256, 64];
/// `VIRTIO_VSOCK_F_STREAM`: the device serves stream sockets.
const F_STREAM: u64 = 1 << 0;
/// Packets handled per call and direction, so that neither direction starves the other.
const BUDGET: usize = 512;
/// The guest is interrupted at the latest after this many filled buffers, and works on them while the device fills the
/// next.
const SIGNAL_AFTER: usize = 32;

/// Why a vsock device could not be created.
#[derive(Debug, Error)]
pub enum VsockError {
    /// CIDs below 3 are reserved, and so is the largest one of 32 bits (virtio 1.3 §5.10.4).
    #[error("guest CID {0} is reserved")]
    ReservedCid(u64),
    /// The socket file could not be created.
    #[error("cannot listen on the vsock socket {path}: {source}")]
    Listen {
        /// The socket file. `AddrInUse` as `source`: another process listens there.
        path: String,
        /// The system's error.
        source: io::Error,
    },
}

impl From<VsockError> for Failure {
    fn from(error: VsockError) -> Self {
        match &error {
            VsockError::ReservedCid(_) => Self::new(FailureCode::ConfigInvalid, error.to_string())
                .with_fix("use a guest CID from 3 to 4294967294"),
            VsockError::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Self::new(FailureCode::SocketInUse, error.to_string())
            }
            VsockError::Listen { .. } => Self::new(FailureCode::Internal, error.to_string()),
        }
    }
}

/// A vsock device for one guest.
#[derive(Debug)]
pub struct VsockDevice {
    guest_cid: u64,
    pub(super) muxer: Muxer,
    /// The transmit queue may hold packets that are not taken yet.
    tx_due: bool,
}

impl VsockDevice {
    /// A device that gives the guest the CID `guest_cid` and listens at `path`, with mode 0600. It replaces a socket
    /// file on which nobody listens any more, and removes its own when it is dropped.
    ///
    /// # Errors
    /// See [`VsockError`].
    pub fn new(guest_cid: u64, path: &Path) -> Result<Self, VsockError> {
        if guest_cid < 3 || guest_cid >= u64::from(u32::MAX) {
            return Err(VsockError::ReservedCid(guest_cid));
        }
        let muxer = Muxer::new(guest_cid, path)
            .map_err(|source| VsockError::Listen { path: path.display().to_string(), source })?;
        Ok(Self { guest_cid, muxer, tx_due: false })
    }

    /// The device's counters, for any thread.
    pub fn statistics(&self) -> Arc<VsockStatistics> {
        Arc::clone(self.muxer.statistics())
    }

    /// Reports to the driver that every stream is gone. A driver that has not set up the event queue, or put no buffer
    /// there, has no stream either.
    fn tell_reset(queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        if !queues.queue(EVENT).ready() {
            return Ok(());
        }
        let memory = queues.memory().clone();
        let mut queue = ServedQueue::of(EVENT, queues, &memory);
        let Some(chain) = queue.pop()? else { return Ok(()) };
        let (head, mut buffer) = (chain.head_index(), Vec::new());
        let event = EVENT_TRANSPORT_RESET.to_le_bytes();
        let room = pieces(&memory, chain, Direction::ToGuest, &mut buffer).map_err(|error| error.on(EVENT))?;
        if Span::new(&buffer).copy_from(&event) < event.len() {
            return Err(Malformed(format!("a buffer of {room} bytes for an event")).on(EVENT));
        }
        queue.add_used(head, event.len() as u32)?;
        queues.signal(EVENT);
        Ok(())
    }

    /// What the device holds for the guest; for fuzzing.
    pub(super) fn held(&self) -> VsockHeld {
        self.muxer.held()
    }

    /// Serves both queues until nothing is left, or the budget of one call is spent.
    fn serve(&mut self, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        // A copy of the list of regions, because a served queue borrows all of `queues`; the memory itself is shared.
        let memory = queues.memory().clone();
        let mut left = self.take_packets(queues, &memory)?;
        left |= self.give_packets(queues, &memory)?;
        // Waiting answers may have kept the device from taking packets, and no longer do.
        if left || (self.tx_due && self.muxer.takes_packets()) {
            self.muxer.call_again();
        }
        Ok(())
    }

    /// Handles packets from the guest. Returns whether the budget ended before the packets did.
    fn take_packets(&mut self, queues: &mut dyn DeviceQueues, memory: &GuestMemoryMmap) -> Result<bool, DeviceError> {
        // A queue that is not ready is due again with its next notification.
        self.tx_due &= queues.queue(TX).ready();
        if !self.tx_due {
            return Ok(false);
        }
        let mut queue = ServedQueue::of(TX, queues, memory);
        let mut payload = Vec::new();
        let mut done = 0;
        queue.stop_notifications()?;
        while done < BUDGET && self.muxer.takes_packets() {
            let Some(chain) = queue.next()? else {
                self.tx_due = false;
                break;
            };
            let head = chain.head_index();
            let header = read_packet(memory, chain, &mut payload).map_err(|error| error.on(TX))?;
            self.muxer.receive(&header, &payload);
            queue.add_used(head, 0)?;
            done += 1;
        }
        if done > 0 {
            interrupt(TX, queues, memory)?;
        }
        Ok(self.tx_due && self.muxer.takes_packets())
    }

    /// Fills receive buffers with packets for the guest. Returns whether the budget ended before the packets did.
    fn give_packets(&mut self, queues: &mut dyn DeviceQueues, memory: &GuestMemoryMmap) -> Result<bool, DeviceError> {
        if !queues.queue(RX).ready() {
            return Ok(false);
        }
        let mut buffers = Buffers::default();
        let (mut done, mut unsignalled, mut starved) = (0, 0, false);
        ServedQueue::of(RX, queues, memory).stop_notifications()?;
        while done < BUDGET && self.muxer.has_packets() {
            let mut queue = ServedQueue::of(RX, queues, memory);
            buffers.clear();
            let wanted = self.muxer.wanted_buffers();
            while buffers.len() < wanted {
                let Some(chain) = queue.pop()? else { break };
                buffers.push(memory, chain).map_err(|error| error.on(RX))?;
            }
            if buffers.is_empty() {
                if queue.await_notification()? {
                    continue;
                }
                // The driver's next notification of this queue resumes here; until then the host's sockets are not
                // read.
                starved = true;
                break;
            }
            let used = self.muxer.fill(&mut buffers).map_err(|error| error.on(RX))?;
            for (head, bytes) in buffers.used(used) {
                queue.add_used(head, bytes)?;
            }
            queue.put_back(buffers.len() - used);
            done += used;
            unsignalled += used;
            if unsignalled >= SIGNAL_AFTER {
                unsignalled = 0;
                interrupt(RX, queues, memory)?;
            }
        }
        if unsignalled > 0 {
            interrupt(RX, queues, memory)?;
        }
        if starved {
            count(&self.muxer.statistics().rx_starved);
        }
        Ok(!starved && self.muxer.has_packets())
    }
}

impl VirtioDevice for VsockDevice {
    fn device_type(&self) -> u32 {
        19
    }

    fn offered_features(&self) -> u64 {
        1 << VIRTIO_F_VERSION_1 | F_STREAM
    }

    fn acknowledge_features(&mut self, _features: u64) {
        // Streams need no bit: a driver that knows no feature bits means streams.
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        configuration::read(&self.guest_cid.to_le_bytes(), offset, data);
    }

    fn queue_kicked(&mut self, index: usize, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        self.tx_due |= index == TX;
        self.muxer.resume_accepting();
        self.serve(queues)
    }

    fn host_event_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.muxer.event_fd())
    }

    fn host_event(&mut self, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        self.muxer
            .host_events()
            .map_err(|source| DeviceError::Host { action: "waiting for the vsock sockets".into(), source })?;
        self.serve(queues)
    }

    fn save(&self) -> serde_json::Value {
        self.muxer.next_port().into()
    }

    fn restore(&mut self, state: &serde_json::Value, queues: &mut dyn DeviceQueues) -> Result<(), String> {
        let next_port = state.as_u64().and_then(|port| u32::try_from(port).ok()).ok_or("the next port is no port")?;
        // The guest may still hold streams with the ports used before.
        self.muxer.set_next_port(next_port);
        self.tx_due = true;
        Self::tell_reset(queues).map_err(|error| error.to_string())
    }

    fn reset(&mut self) {
        self.tx_due = false;
        self.muxer.reset();
    }
}
