//! One request of the block device (virtio 1.3 §5.2.6): from descriptor chain to status byte.
//!
//! [`Request::check`] checks everything the guest put into the chain before any of it takes effect. A chain without a
//! place for the status is an error of the device; any other fault is answered in the status. The [`Work`] is then done
//! at once or by a ring, and [`Request::answer`] ends the request. The host reads and writes guest memory directly.

use std::io;
use std::sync::atomic::Ordering;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
    VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::config::{MAX_RANGE_SECTORS, MAX_RANGES};
use super::disk::{Disk, SECTOR_BYTES};
use super::transfer::{Direction, Transfer};
use crate::devices::chain::{Buffer, Chain, Malformed, split};

/// Length of the identity a driver reads with `GET_ID` (virtio 1.3 §5.2.6).
pub(super) const ID_BYTES: usize = 20;
const HEADER_BYTES: usize = 16;
const RANGE_BYTES: usize = 16;

/// How a request ends when it does not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The request needs a feature the device did not offer.
    Unsupported,
    /// The request is not valid: too short, out of range, or with buffers outside guest memory.
    Invalid,
    /// The host's I/O failed.
    Host(&'static str, io::Error),
}

/// How the work of a request ended. On success, the number of bytes written to the guest's memory.
pub(super) type Outcome = Result<u64, Failure>;

/// What a valid request asks of the disk.
pub(super) enum Work {
    /// Moves sectors.
    Transfer(Transfer),
    /// Makes earlier writes durable.
    Flush,
    /// Gives these ranges back to the host.
    Discard(Vec<Range>),
    /// Fills these ranges with zeroes.
    WriteZeroes(Vec<Range>),
    /// Does nothing: the outcome is known.
    Done(Outcome),
}

/// A request whose chain has been checked.
pub(super) struct Request {
    status: GuestAddress,
    pub(super) work: Work,
}

impl Request {
    /// Reads the request in `chain`. The vectors in its work point into `memory`, which must stay mapped as long as the
    /// request exists.
    ///
    /// # Errors
    /// The chain is malformed or has no place for the status: the device cannot go on.
    pub(super) fn check(
        chain: Chain<'_>,
        memory: &GuestMemoryMmap,
        disk: &Disk,
        id: &[u8; ID_BYTES],
    ) -> Result<Self, Malformed> {
        let (readable, mut writable) = split(chain)?;
        let status = take_status(&mut writable)?;
        if !memory.address_in_range(status) {
            return Err(status_outside(status));
        }
        let work = work(&readable, &writable, memory, disk, id).unwrap_or_else(|failure| Work::Done(Err(failure)));
        Ok(Self { status, work })
    }

    /// Does the work on this thread and returns its outcome.
    pub(super) fn perform(&mut self, disk: &Disk) -> Outcome {
        let done = match &mut self.work {
            Work::Transfer(transfer) => {
                transfer.perform(disk).map_err(|failure| Failure::Host(transfer.direction.name(), failure))
            }
            Work::Flush => disk.flush().map_err(|failure| Failure::Host("flush", failure)),
            Work::Discard(ranges) => ranges.iter().try_for_each(|range| range.discard(disk)),
            Work::WriteZeroes(ranges) => ranges.iter().try_for_each(|range| range.write_zeroes(disk)),
            Work::Done(outcome) => return std::mem::replace(outcome, Ok(0)),
        };
        done.map(|()| self.succeeded(disk))
    }

    /// Counts the work as done; returns the number of bytes it wrote to guest memory.
    pub(super) fn succeeded(&self, disk: &Disk) -> u64 {
        let counters = &disk.counters;
        let (counter, bytes, written) = match &self.work {
            Work::Transfer(Transfer { direction: Direction::Read, length, .. }) => {
                (&counters.reads, Some((&counters.read_bytes, *length)), *length)
            }
            Work::Transfer(Transfer { direction: Direction::Write, length, .. }) => {
                (&counters.writes, Some((&counters.written_bytes, *length)), 0)
            }
            Work::Flush => (&counters.flushes, None, 0),
            Work::Discard(_) => (&counters.discards, None, 0),
            Work::WriteZeroes(_) => (&counters.write_zeroes, None, 0),
            Work::Done(_) => return 0,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some((counter, bytes)) = bytes {
            counter.fetch_add(bytes, Ordering::Relaxed);
        }
        written
    }

    /// Writes the status; returns the number of bytes written to the chain, for the used ring.
    pub(super) fn answer(&self, outcome: Outcome, memory: &GuestMemoryMmap, disk: &Disk) -> Result<u32, Malformed> {
        let (code, written) = match outcome {
            Ok(written) => (VIRTIO_BLK_S_OK, written),
            Err(Failure::Unsupported) => (VIRTIO_BLK_S_UNSUPP, 0),
            Err(Failure::Invalid) => {
                disk.counters.invalid_requests.fetch_add(1, Ordering::Relaxed);
                (VIRTIO_BLK_S_IOERR, 0)
            }
            Err(Failure::Host(action, failure)) => {
                disk.failed(action, &failure);
                (VIRTIO_BLK_S_IOERR, 0)
            }
        };
        memory.write_obj(code as u8, self.status).map_err(|_| status_outside(self.status))?;
        Ok(u32::try_from(written + 1).unwrap_or(u32::MAX))
    }
}

/// Takes the status byte off `writable`: the last byte the device may write, however the driver divides the chain into
/// descriptors (virtio 1.3 §2.7.4).
fn take_status(writable: &mut Vec<Buffer>) -> Result<GuestAddress, Malformed> {
    while writable.last().is_some_and(|last| last.length == 0) {
        writable.pop();
    }
    let no_status = || Malformed("a descriptor chain has no byte for the status".into());
    let last = writable.last_mut().ok_or_else(no_status)?;
    last.length -= 1;
    last.address.checked_add(last.length as u64).ok_or_else(|| status_outside(last.address))
}

fn status_outside(status: GuestAddress) -> Malformed {
    Malformed(format!("the status byte at {:#x} is outside the guest's memory", status.raw_value()))
}

fn work(
    readable: &[Buffer],
    writable: &[Buffer],
    memory: &GuestMemoryMmap,
    disk: &Disk,
    id: &[u8; ID_BYTES],
) -> Result<Work, Failure> {
    let (header, data) = cut(readable, HEADER_BYTES).ok_or(Failure::Invalid)?;
    let mut bytes = [0; HEADER_BYTES];
    gather(&header, memory, &mut bytes)?;
    let kind = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let sector =
        u64::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11], bytes[12], bytes[13], bytes[14], bytes[15]]);
    Ok(match kind {
        VIRTIO_BLK_T_IN => Work::Transfer(transfer(Direction::Read, writable, memory, disk, sector)?),
        VIRTIO_BLK_T_OUT if disk.is_read_only() => return Err(Failure::Invalid),
        VIRTIO_BLK_T_OUT => Work::Transfer(transfer(Direction::Write, &data, memory, disk, sector)?),
        VIRTIO_BLK_T_FLUSH => Work::Flush,
        VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES if disk.is_read_only() => return Err(Failure::Unsupported),
        VIRTIO_BLK_T_DISCARD => Work::Discard(ranges(&data, memory, disk)?),
        VIRTIO_BLK_T_WRITE_ZEROES => Work::WriteZeroes(ranges(&data, memory, disk)?),
        VIRTIO_BLK_T_GET_ID => Work::Done(scatter(writable, memory, id)),
        _ => return Err(Failure::Unsupported),
    })
}

/// Divides `buffers` after the first `length` bytes; None if they are shorter.
fn cut(buffers: &[Buffer], length: usize) -> Option<(Vec<Buffer>, Vec<Buffer>)> {
    let (mut first, mut rest) = (Vec::new(), Vec::with_capacity(buffers.len()));
    let mut missing = length;
    for buffer in buffers {
        let taken = buffer.length.min(missing);
        if taken > 0 {
            first.push(Buffer { length: taken, ..*buffer });
            missing -= taken;
        }
        if buffer.length > taken {
            rest.push(Buffer { address: buffer.address.checked_add(taken as u64)?, length: buffer.length - taken });
        }
    }
    (missing == 0).then_some((first, rest))
}

/// Fills `into` from the beginning of `buffers`.
fn gather(buffers: &[Buffer], memory: &GuestMemoryMmap, mut into: &mut [u8]) -> Result<(), Failure> {
    for buffer in buffers {
        let (now, later) = into.split_at_mut(buffer.length.min(into.len()));
        memory.read_slice(now, buffer.address).map_err(|_| Failure::Invalid)?;
        into = later;
    }
    Ok(())
}

/// Writes `from` to the beginning of `buffers`, as far as they go.
fn scatter(buffers: &[Buffer], memory: &GuestMemoryMmap, mut from: &[u8]) -> Outcome {
    let mut written = 0;
    for buffer in buffers {
        let (now, later) = from.split_at(buffer.length.min(from.len()));
        memory.write_slice(now, buffer.address).map_err(|_| Failure::Invalid)?;
        written += now.len() as u64;
        from = later;
    }
    Ok(written)
}

/// The offset in the file of `length` bytes at `sector`, if they are whole sectors of the disk.
fn place(sector: u64, length: u64, disk: &Disk) -> Result<u64, Failure> {
    let sectors = length / SECTOR_BYTES;
    let end = sector.checked_add(sectors).ok_or(Failure::Invalid)?;
    if !length.is_multiple_of(SECTOR_BYTES) || end > disk.sectors() {
        return Err(Failure::Invalid);
    }
    // The end of a file fits i64, and so do all offsets below it.
    Ok(sector * SECTOR_BYTES)
}

fn total(buffers: &[Buffer]) -> u64 {
    // The chain's iterator refuses chains of 4 GiB and more.
    buffers.iter().map(|buffer| buffer.length as u64).sum()
}

fn transfer(
    direction: Direction,
    buffers: &[Buffer],
    memory: &GuestMemoryMmap,
    disk: &Disk,
    sector: u64,
) -> Result<Transfer, Failure> {
    let length = total(buffers);
    let offset = place(sector, length, disk)?;
    Ok(Transfer::new(direction, vectors(buffers, memory)?, offset, length))
}

/// The vectors of `buffers`, each of which must lie in guest memory for its whole length.
fn vectors(buffers: &[Buffer], memory: &GuestMemoryMmap) -> Result<Vec<libc::iovec>, Failure> {
    let mut vectors = Vec::with_capacity(buffers.len());
    for buffer in buffers {
        // A buffer may cross from one memory region into the next.
        for slice in memory.get_slices(buffer.address, buffer.length) {
            let slice = slice.map_err(|_| Failure::Invalid)?;
            vectors.push(libc::iovec { iov_base: slice.ptr_guard_mut().as_ptr().cast(), iov_len: slice.len() });
        }
    }
    Ok(vectors)
}

/// One segment of a discard or write-zeroes request, checked against the disk.
pub(super) struct Range {
    offset: i64,
    length: i64,
    flags: u32,
}

fn ranges(data: &[Buffer], memory: &GuestMemoryMmap, disk: &Disk) -> Result<Vec<Range>, Failure> {
    let length = total(data);
    if length == 0 || !length.is_multiple_of(RANGE_BYTES as u64) || length / RANGE_BYTES as u64 > u64::from(MAX_RANGES)
    {
        return Err(Failure::Invalid);
    }
    let mut bytes = vec![0; length as usize];
    gather(data, memory, &mut bytes)?;
    let (segments, _) = bytes.as_chunks::<RANGE_BYTES>();
    segments.iter().map(|segment| Range::parse(segment, disk)).collect()
}

impl Range {
    fn parse(segment: &[u8; RANGE_BYTES], disk: &Disk) -> Result<Self, Failure> {
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, f0, f1, f2, f3] = *segment;
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let sectors = u32::from_le_bytes([n0, n1, n2, n3]);
        let flags = u32::from_le_bytes([f0, f1, f2, f3]);
        if sectors > MAX_RANGE_SECTORS {
            return Err(Failure::Invalid);
        }
        let length = u64::from(sectors) * SECTOR_BYTES;
        let offset = place(sector, length, disk)?;
        Ok(Self { offset: offset.cast_signed(), length: length.cast_signed(), flags })
    }

    fn discard(&self, disk: &Disk) -> Result<(), Failure> {
        // A discard reserves the unmap flag and every other bit (virtio 1.3 §5.2.6.2).
        if self.flags != 0 {
            return Err(Failure::Unsupported);
        }
        if self.length == 0 {
            return Ok(());
        }
        disk.punch_hole(self.offset, self.length).map_err(|failure| match failure.raw_os_error() {
            Some(libc::EOPNOTSUPP) => Failure::Unsupported,
            _ => Failure::Host("discard", failure),
        })
    }

    fn write_zeroes(&self, disk: &Disk) -> Result<(), Failure> {
        if self.flags & !VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0 {
            return Err(Failure::Unsupported);
        }
        if self.length == 0 {
            return Ok(());
        }
        let unmapped = self.flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0
            && match disk.punch_hole(self.offset, self.length) {
                Ok(()) => true,
                // The unmapping is optional, the zeroes are not.
                Err(failure) if failure.raw_os_error() == Some(libc::EOPNOTSUPP) => false,
                Err(failure) => return Err(Failure::Host("write zeroes", failure)),
            };
        if !unmapped {
            disk.write_zeroes(self.offset, self.length).map_err(|failure| Failure::Host("write zeroes", failure))?;
        }
        Ok(())
    }
}
