//! The virtio devices, each independent of how it is attached to the guest.
//!
//! An attachment (vhost-user, virtio-mmio) owns the transport: it negotiates features, keeps the queues, waits for the
//! guest's notifications and for the device's own file descriptor, and calls the device with [`DeviceQueues`]. All
//! calls of one device come from one thread at a time.

pub mod balloon;
pub mod block;
mod chain;
mod configuration;
pub mod console;
pub mod counters;
pub mod net;
mod queue;
pub mod rng;
pub mod span;
#[cfg(test)]
pub(crate) mod tests;
pub mod vsock;

use std::os::fd::BorrowedFd;

use thiserror::Error;
use virtio_queue::Queue;
use vm_memory::GuestMemoryMmap;

/// Why a device stopped serving its queues: the guest violated virtio, or the host failed. The attachment logs it and
/// marks the device broken; the process lives on.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// A descriptor chain, an address or a length from the guest is invalid.
    #[error("the guest broke the rules of virtio on queue {queue}: {reason}")]
    Guest {
        /// Index of the queue.
        queue: usize,
        /// What is wrong, for the log.
        reason: String,
    },
    /// An operation on the host failed in a way that no reply to the guest can express.
    #[error("{action}: {source}")]
    Host {
        /// What the device tried to do, and on what.
        action: String,
        /// The system's error.
        source: std::io::Error,
    },
}

/// The queues of one device during a call, whoever owns them.
pub trait DeviceQueues {
    /// The guest's memory, as it stands during this call.
    fn memory(&self) -> &GuestMemoryMmap;
    /// Number of queues. Indices of [`queue`](Self::queue) and [`signal`](Self::signal) are below it.
    fn count(&self) -> usize;
    /// The queue at `index`. A queue that the driver has not set up exists too; its `ready()` is false.
    fn queue(&mut self, index: usize) -> &mut Queue;
    /// Interrupts the guest for the queue at `index`. To be called after used elements were added, if
    /// `Queue::needs_notification` demands it.
    fn signal(&mut self, index: usize);
}

/// A virtio device (virtio 1.3 §5), without its attachment.
pub trait VirtioDevice: Send {
    /// Device ID (virtio 1.3 §5), for example 2 for block.
    fn device_type(&self) -> u32;
    /// Feature bits offered to the driver, including `VIRTIO_F_VERSION_1`. The attachment adds the bits of its
    /// transport.
    fn offered_features(&self) -> u64;
    /// Takes the feature bits that both sides agreed on.
    fn acknowledge_features(&mut self, features: u64);
    /// Largest size of each queue, in entries; a power of two.
    fn queue_sizes(&self) -> &[u16];
    /// Fills `data` from the configuration space at `offset`. Bytes beyond its end read as zero.
    fn read_config(&self, offset: u64, data: &mut [u8]);
    /// Handles a write of the driver to the configuration space. Ignored unless the device has a writable field.
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}
    /// Handles a notification: the driver made buffers available on the queue at `index`.
    fn queue_kicked(&mut self, index: usize, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError>;
    /// A descriptor that is readable whenever [`host_event`](Self::host_event) has work. A device with several sources
    /// returns an epoll instance.
    fn host_event_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    /// Handles readiness of the descriptor of [`host_event_fd`](Self::host_event_fd).
    fn host_event(&mut self, _queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        Ok(())
    }
    /// Completes everything in flight, for a snapshot: afterwards the guest's memory, its queues and
    /// [`save`](Self::save) hold the whole state. The guest's processors are stopped, and no other call is under way.
    fn quiesce(&mut self, _queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        Ok(())
    }
    /// The state a snapshot must keep besides the negotiated features and the queues; null if there is none.
    fn save(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    /// Restores what [`save`](Self::save) returned, in a new device whose features are acknowledged and whose queues
    /// are set up. The device notifies the guest of what a restore loses, such as connections.
    ///
    /// The error says what is wrong with `state`, which comes from a file.
    fn restore(&mut self, _state: &serde_json::Value, _queues: &mut dyn DeviceQueues) -> Result<(), String> {
        Ok(())
    }
    /// Forgets everything negotiated and in flight, because the driver reset the device.
    fn reset(&mut self);
}
