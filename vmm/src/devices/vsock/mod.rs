//! The vsock device (virtio 1.3 §5.10), stream sockets, with its host side on Unix sockets.
//!
//! A program on the host connects to the socket file, writes `CONNECT <port>\n`, reads `OK <its port>\n`, and has a
//! stream to that port of the guest. A stream the guest opens to port P of CID 2 arrives at the socket `<file>_P`; if
//! nobody listens there it is refused.
//!
//! - [`packet`] is the header on the wire, [`credit`] the arithmetic of flow control: values only.
//! - [`chain`] turns descriptor chains into checked pieces of guest memory, [`socket`] moves bytes between those and
//!   sockets.
//! - [`connection`] is one stream, [`muxer`] the table of all, [`host`] the listening socket, handshakes and epoll.
//! - This file is the device: queues, notifications, configuration space.
//!
//! Nothing blocks and nothing is copied on the straight way: the host's bytes are read into the guest's receive
//! buffers, and the guest's are written from its memory. Only what a socket does not take is kept, within the credit
//! the guest was given.

mod chain;
mod connection;
mod credit;
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod muxer;
mod packet;
mod socket;
mod stats;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use rorqual_vmm_protocol::{Failure, FailureCode};
use thiserror::Error;
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_queue::QueueT;
use vm_memory::{Bytes, GuestMemoryMmap};

use self::chain::Buffers;
use self::muxer::Muxer;
pub use self::stats::VsockStatistics;
use self::stats::count;
use super::queue::{Direction, Malformed, broken, interrupt, pieces, pop};
use super::{DeviceError, DeviceQueues, VirtioDevice};

/// Queue of packets for the guest.
const RX: usize = 0;
/// Queue of packets from the guest.
const TX: usize = 1;
/// Queue of events: the guest hears on it that all streams are lost, as after a restore.
const EVENT: usize = 2;
/// `VIRTIO_VSOCK_EVENT_TRANSPORT_RESET` (virtio 1.3 §5.10.6.7): streams are gone, listeners stay.
const EVENT_TRANSPORT_RESET: u32 = 0;
/// The queues: rx, tx and event.
const QUEUE_SIZES: [u16; 3] = [256, 256, 64];
/// `VIRTIO_VSOCK_F_STREAM`: stream sockets are served.
const F_STREAM: u64 = 1 << 0;
/// Packets handled per call and direction, so that neither direction starves the other.
const BUDGET: usize = 512;
/// The guest hears of filled buffers at the latest after so many, and works on them while we fill the next.
const SIGNAL_AFTER: usize = 32;

/// Why a vsock device could not be made.
#[derive(Debug, Error)]
pub enum VsockError {
    /// A CID below 3 is reserved, and so is the largest of 32 bits (virtio 1.3 §5.10.4).
    #[error("guest CID {0} is reserved")]
    ReservedCid(u64),
    /// The socket file could not be made.
    #[error("cannot listen on the vsock socket {path}: {source}")]
    Listen {
        /// The socket file. `AddrInUse` as `source`: another process listens there.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
}

impl From<VsockError> for Failure {
    fn from(error: VsockError) -> Self {
        match &error {
            VsockError::ReservedCid(_) => {
                Self::new(FailureCode::ConfigInvalid, error.to_string()).with_fix("use one from 3 to 4294967294")
            }
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
    muxer: Muxer,
    /// The tx queue may hold packets that were not taken yet.
    tx_due: bool,
}

impl VsockDevice {
    /// A device that gives the guest the CID `guest_cid` and listens at `path`. The file has mode 0600; one that
    /// nobody listens on any more is replaced. It is removed when the device is dropped.
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

    /// Tells the driver that every stream is gone. One that is not there yet, or has no buffer for events, has no stream either.
    fn tell_reset(queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        if !queues.queue(EVENT).ready() {
            return Ok(());
        }
        let memory = queues.memory().clone();
        let queue = queues.queue(EVENT);
        let Some(chain) = pop(EVENT, queue, &memory)? else { return Ok(()) };
        let (head, mut buffer) = (chain.head_index(), Vec::new());
        let event = EVENT_TRANSPORT_RESET.to_le_bytes();
        let room = pieces(&memory, chain, Direction::ToGuest, &mut buffer).map_err(|error| error.on(EVENT))?;
        let first = buffer.first().filter(|_| room >= event.len());
        let written = first.is_some_and(|first| first.write_slice(&event, 0).is_ok());
        if !written {
            return Err(Malformed(format!("a buffer of {room} bytes for an event")).on(EVENT));
        }
        queue.add_used(&memory, head, event.len() as u32).map_err(|error| broken(EVENT, &error))?;
        queues.signal(EVENT);
        Ok(())
    }

    /// Works on both queues until nothing is left, or enough was done for one call.
    fn serve(&mut self, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        // A copy of the list of regions, because `queue` borrows all of `queues`; the memory itself is shared.
        let memory = queues.memory().clone();
        let mut left = self.take_packets(queues, &memory)?;
        left |= self.give_packets(queues, &memory)?;
        // Answers may have been in the way of the guest's packets, and are not any more.
        if left || (self.tx_due && self.muxer.takes_packets()) {
            self.muxer.call_again();
        }
        Ok(())
    }

    /// Handles packets from the guest. Returns whether some are left for want of budget.
    fn take_packets(&mut self, queues: &mut dyn DeviceQueues, memory: &GuestMemoryMmap) -> Result<bool, DeviceError> {
        let queue = queues.queue(TX);
        if !queue.ready() {
            // Due again by its next kick; until then there is nothing to come back for.
            self.tx_due = false;
        }
        if !self.tx_due {
            return Ok(false);
        }
        let mut payload = Vec::new();
        let mut done = 0;
        queue.disable_notification(memory).map_err(|error| broken(TX, &error))?;
        while done < BUDGET && self.muxer.takes_packets() {
            let Some(chain) = pop(TX, queue, memory)? else {
                if queue.enable_notification(memory).map_err(|error| broken(TX, &error))? {
                    queue.disable_notification(memory).map_err(|error| broken(TX, &error))?;
                    continue;
                }
                self.tx_due = false;
                break;
            };
            let head = chain.head_index();
            let header = chain::read_packet(memory, chain, &mut payload).map_err(|error| error.on(TX))?;
            self.muxer.receive(&header, &payload);
            queue.add_used(memory, head, 0).map_err(|error| broken(TX, &error))?;
            done += 1;
        }
        if done > 0 {
            interrupt(TX, queues, memory)?;
        }
        Ok(self.tx_due && self.muxer.takes_packets())
    }

    /// Fills receive buffers with what waits for the guest. Returns whether more waits for want of budget.
    fn give_packets(&mut self, queues: &mut dyn DeviceQueues, memory: &GuestMemoryMmap) -> Result<bool, DeviceError> {
        if !queues.queue(RX).ready() {
            return Ok(false);
        }
        let mut buffers = Buffers::default();
        let (mut done, mut unsignalled, mut starved) = (0, 0, false);
        queues.queue(RX).disable_notification(memory).map_err(|error| broken(RX, &error))?;
        while done < BUDGET && self.muxer.has_packets() {
            let queue = queues.queue(RX);
            buffers.clear();
            let wanted = self.muxer.wanted_buffers();
            while buffers.len() < wanted {
                let Some(chain) = pop(RX, queue, memory)? else { break };
                buffers.push(memory, chain).map_err(|error| error.on(RX))?;
            }
            if buffers.is_empty() {
                // The guest's next kick of this queue goes on here; until then the host's sockets are not read.
                if queue.enable_notification(memory).map_err(|error| broken(RX, &error))? {
                    queue.disable_notification(memory).map_err(|error| broken(RX, &error))?;
                    continue;
                }
                starved = true;
                break;
            }
            let used = self.muxer.fill(&mut buffers).map_err(|error| error.on(RX))?;
            for (head, bytes) in buffers.used(used) {
                queue.add_used(memory, head, bytes).map_err(|error| broken(RX, &error))?;
            }
            // What was not used is still the first in the available ring.
            let unused = (buffers.len() - used) as u16;
            queue.set_next_avail(queue.next_avail().wrapping_sub(unused));
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
        // Streams are served whether or not their bit was taken: a driver that knows no feature bits means streams.
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let config = self.guest_cid.to_le_bytes();
        for (index, byte) in data.iter_mut().enumerate() {
            let position = usize::try_from(offset).ok().and_then(|offset| offset.checked_add(index));
            *byte = position.and_then(|position| config.get(position)).copied().unwrap_or(0);
        }
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
        // The guest may still know streams by the ports of before.
        self.muxer.set_next_port(next_port);
        self.tx_due = true;
        Self::tell_reset(queues).map_err(|error| error.to_string())
    }

    fn reset(&mut self) {
        self.tx_due = false;
        self.muxer.reset();
    }
}
