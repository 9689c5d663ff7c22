//! The machine monitor of Rorqual: runs one virtual machine per process, with its virtio devices.
//!
//! A device is split in three: the virtio device (features, configuration space, queues) and its request logic live in
//! [`devices`]; what carries its queues to the guest is an attachment.

pub mod attachment;
pub mod devices;
