//! The network device (virtio 1.3 §5.1): pairs of queues, whole 64 KiB segments, checksums left out where both sides
//! agree.
//!
//! - [`backend`] is the network behind the device, [`header`] what precedes a frame in a queue: values only.
//! - [`transmit_queue`] takes frames from the guest; [`receive_queue`] and [`buffers`] hold frames for it;
//!   [`unsignalled`] delays interrupts.
//! - [`control`] is what the driver asks for besides frames.
//! - [`device`] is the device between them.
//!
//! Frames stay in the guest's memory, where the backend reads and writes them. The backend is asked for frames only
//! when the guest has buffers for them.

pub mod backend;
mod buffers;
mod control;
mod device;
mod header;
mod receive_queue;
mod stats;
#[cfg(test)]
mod tests;
mod transmit_queue;
mod unsignalled;

pub use self::device::{MAX_PAIRS, NetDevice, Settings};
pub use self::stats::NetStatistics;

/// Bytes of an Ethernet header.
const ETHERNET_BYTES: usize = 14;
/// Longest frame either way: an IP packet of 65,535 bytes and its Ethernet header.
pub const MAX_FRAME_BYTES: usize = 65_535 + ETHERNET_BYTES;
/// Frames handled per call and direction, so that neither direction starves the other.
const BUDGET: usize = 256;
