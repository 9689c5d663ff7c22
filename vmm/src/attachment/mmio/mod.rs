//! The virtio-mmio attachment (virtio 1.3 §4.2): a [`VirtioDevice`](crate::devices::VirtioDevice) behind a page of
//! registers.
//!
//! Threads: the guest's processors read and write [`registers`]; one thread of the device's own waits for doorbells and
//! for the device's descriptor, and is the only one that calls the device's queues. One mutex guards the state of both.
//! The interrupt's reasons are outside of it: a processor in its interrupt handler must not wait for a request being
//! served. A paused device can be [`saved`] and restored.

mod attachment;
mod registers;
mod saved;
#[cfg(test)]
mod tests;

pub use self::attachment::{DeviceTraffic, MmioAttachment};
pub use self::registers::QUEUE_NOTIFY;
