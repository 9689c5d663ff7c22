//! The virtio devices, each independent of how it is attached to the guest.
//!
//! An attachment (vhost-user, virtio-mmio) owns the transport: it negotiates features, keeps the queues, waits for the
//! guest's kicks and for the device's own file descriptor, and calls the device with [`DeviceQueues`] in hand. All calls of one device come
//! from one thread at a time.

pub mod balloon;
pub mod block;
pub mod console;
pub mod counters;
pub mod net;
pub(crate) mod queue;
pub mod rng;
#[cfg(test)]
pub(crate) mod test_queues;
pub mod vsock;

use std::os::fd::BorrowedFd;

use thiserror::Error;
use virtio_queue::Queue;
use vm_memory::GuestMemoryMmap;

/// Why a device stopped serving its queues. The guest broke the rules of virtio, or the host cannot go on; the
/// attachment logs it, marks the device broken and keeps the process alive.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// A descriptor chain, an address or a length from the guest is not valid.
    #[error("the guest broke the rules of virtio on queue {queue}: {reason}")]
    Guest {
        /// Index of the queue.
        queue: usize,
        /// What was wrong, for the log.
        reason: String,
    },
    /// An operation on the host failed in a way that no answer to the guest can express.
    #[error("{action}: {source}")]
    Host {
        /// What was being done, and on what.
        action: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// The queues of one device while it is being called, whoever keeps them.
pub trait DeviceQueues {
    /// The guest's memory, as it stands during this call.
    fn memory(&self) -> &GuestMemoryMmap;
    /// How many queues there are; the index of [`queue`](Self::queue) and [`signal`](Self::signal) is below it.
    fn count(&self) -> usize;
    /// The queue at `index`. A queue the driver has not set up is there all the same, with `ready()` false.
    fn queue(&mut self, index: usize) -> &mut Queue;
    /// Interrupts the guest for the queue at `index`. The device calls it after adding used elements, when
    /// `Queue::needs_notification` says so.
    fn signal(&mut self, index: usize);
}

/// A virtio device (virtio 1.3 §5), without its attachment.
pub trait VirtioDevice: Send {
    /// Device ID (virtio 1.3 §5): 2 for block, 19 for vsock.
    fn device_type(&self) -> u32;
    /// Feature bits offered to the driver, `VIRTIO_F_VERSION_1` included; bits of the transport are the attachment's.
    fn offered_features(&self) -> u64;
    /// The bits both sides agreed on.
    fn acknowledge_features(&mut self, features: u64);
    /// Largest size of each queue; a power of two.
    fn queue_sizes(&self) -> &[u16];
    /// Fills `data` from the configuration space at `offset`; bytes beyond its end read as zero.
    fn read_config(&self, offset: u64, data: &mut [u8]);
    /// The driver wrote to the configuration space. Ignored unless the device has a writable field.
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}
    /// The guest made buffers available on the queue at `index`.
    fn queue_kicked(&mut self, index: usize, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError>;
    /// A descriptor that is readable whenever [`host_event`](Self::host_event) has work; an epoll instance when the device has several.
    fn host_event_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    /// The descriptor of [`host_event_fd`](Self::host_event_fd) is readable.
    fn host_event(&mut self, _queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        Ok(())
    }
    /// Brings everything in flight to its end, for a snapshot: afterwards the guest's memory, its queues and
    /// [`save`](Self::save) tell all there is to know. The guest's processors are stopped, and no other call is under way.
    fn quiesce(&mut self, _queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        Ok(())
    }
    /// What a snapshot must keep besides the negotiated features and the queues; null when there is nothing.
    fn save(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    /// Takes over what [`save`](Self::save) gave, in a device that was just made, after its features were acknowledged and its
    /// queues set up. What is lost over a restore (connections) is told to the guest here.
    ///
    /// An error says what is wrong with `state`, which comes from a file.
    fn restore(&mut self, _state: &serde_json::Value, _queues: &mut dyn DeviceQueues) -> Result<(), String> {
        Ok(())
    }
    /// The driver reset the device: everything negotiated and in flight is forgotten.
    fn reset(&mut self);
}
