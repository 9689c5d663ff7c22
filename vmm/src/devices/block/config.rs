//! The configuration space of the block device (virtio 1.3 §5.2.4, `struct virtio_blk_config`).

use super::disk::SECTOR_BYTES;
use crate::devices::configuration;

/// Size of each request queue. User Mode Linux takes no more than 256.
pub(super) const QUEUE_SIZE: u16 = 256;
/// Most data segments of one request: the queue less the header and the status byte.
const MAX_SEGMENTS: u32 = QUEUE_SIZE as u32 - 2;
/// Length of the space, up to and including the write-zeroes fields.
const CONFIG_BYTES: usize = 60;
/// Longest range of one discard or write-zeroes segment, 2 GiB: no single request occupies the device for long.
pub(super) const MAX_RANGE_SECTORS: u32 = (2 << 30) / SECTOR_BYTES as u32;
/// Most segments of one discard or write-zeroes request.
pub(super) const MAX_RANGES: u32 = 32;
/// Granularity of discards: the block size of usual file systems on the host, in sectors.
const DISCARD_ALIGNMENT_SECTORS: u32 = 8;

/// Fills `data` from the configuration space of a disk of `sectors` with `queues` queues, starting at `offset`.
pub(super) fn read(sectors: u64, queues: u16, offset: u64, data: &mut [u8]) {
    configuration::read(&space(sectors, queues), offset, data);
}

fn space(sectors: u64, queues: u16) -> [u8; CONFIG_BYTES] {
    let mut space = [0; CONFIG_BYTES];
    let mut put = |at: usize, bytes: &[u8]| space[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &sectors.to_le_bytes());
    put(12, &MAX_SEGMENTS.to_le_bytes());
    put(20, &(SECTOR_BYTES as u32).to_le_bytes());
    put(34, &queues.to_le_bytes());
    put(36, &MAX_RANGE_SECTORS.to_le_bytes());
    put(40, &MAX_RANGES.to_le_bytes());
    put(44, &DISCARD_ALIGNMENT_SECTORS.to_le_bytes());
    put(48, &MAX_RANGE_SECTORS.to_le_bytes());
    put(52, &MAX_RANGES.to_le_bytes());
    put(56, &[1]);
    space
}
