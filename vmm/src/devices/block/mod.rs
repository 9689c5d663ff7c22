//! The block device (virtio 1.3 §5.2): request queues over a raw, sparse file.
//!
//! - [`disk`] is the file on the host, [`config`] the configuration space.
//! - [`request`] is one request from descriptor chain to status byte, [`transfer`] the sectors it moves.
//! - [`ring`] does several requests at once; [`patience`] decides whether to look for more before sleeping.
//! - [`device`] is the device between them.

mod config;
mod device;
mod disk;
mod patience;
mod request;
mod ring;
#[cfg(test)]
mod tests;
mod transfer;

pub use self::device::{BlockDevice, MAX_QUEUES};
pub use self::disk::{Disk, DiskError, SECTOR_BYTES};
