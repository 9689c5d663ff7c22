//! One request of the block device (virtio 1.3 §5.2.6): descriptor chain in, work for the disk out, status byte written.
//!
//! Everything in the chain comes from the guest and is checked here, by [`Request::check`], before anything is done: what leaves no place for an
//! answer is an error of the device; the rest is answered in the status. The [`Work`] is then done at once or by a ring, whoever has it, and
//! [`Request::answer`] ends the request. The host reads and writes guest memory directly.

use std::io;
use std::ops::Deref;
use std::sync::atomic::Ordering;

use thiserror::Error;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
    VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};
use virtio_queue::DescriptorChain;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::ID_BYTES;
use super::config::{MAX_RANGE_SECTORS, MAX_RANGES};
use super::disk::{Disk, SECTOR_BYTES};
use super::transfer::{Direction, Transfer};
use crate::devices::queue::MAX_DESCRIPTORS;

const HEADER_BYTES: u64 = 16;
const RANGE_BYTES: u64 = 16;

/// A chain that has no place for an answer: the device cannot go on.
#[derive(Debug, Error)]
pub(super) enum ChainError {
    #[error("a chain of more than {MAX_DESCRIPTORS} descriptors")]
    TooLong,
    #[error("a descriptor chain is cut off: a descriptor or table in it is not valid")]
    CutOff,
    #[error("a descriptor for the device to read follows one for it to write")]
    Order,
    #[error("a descriptor chain has no byte for the status")]
    NoStatus,
    #[error("the status byte at {0:#x} is outside the guest's memory")]
    StatusAddress(u64),
}

/// How a request ends when it does not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The driver asked for what the device did not offer.
    Unsupported,
    /// The request is not valid: too short, out of range, or its memory is not there.
    Invalid,
    /// The host's I/O failed.
    Host(&'static str, io::Error),
}

/// How the work of a request ended; the number is that of bytes written to the guest's memory.
pub(super) type Outcome = Result<u64, Failure>;

/// A stretch of guest memory as a descriptor names it; not checked yet.
#[derive(Clone, Copy)]
struct Buffer {
    address: GuestAddress,
    length: u64,
}

/// What a valid request asks of the disk.
pub(super) enum Work {
    /// To move sectors.
    Transfer(Transfer),
    /// To make durable what was written before.
    Flush,
    /// To give these ranges back to the host.
    Discard(Vec<Range>),
    /// To fill these ranges with zeroes.
    WriteZeroes(Vec<Range>),
    /// Nothing more: the outcome is known.
    Done(Outcome),
}

/// A request whose chain was checked.
pub(super) struct Request {
    status: GuestAddress,
    pub(super) work: Work,
}

impl Request {
    /// Reads the request of a chain. The vectors in its work point into `memory`, which must be kept for as long.
    pub(super) fn check<M>(
        chain: DescriptorChain<M>,
        memory: &GuestMemoryMmap,
        disk: &Disk,
        id: &[u8; ID_BYTES],
    ) -> Result<Self, ChainError>
    where
        M: Deref<Target = GuestMemoryMmap>,
    {
        let (readable, mut writable) = split(chain)?;
        let status = take_status(&mut writable)?;
        if !memory.address_in_range(status) {
            return Err(ChainError::StatusAddress(status.raw_value()));
        }
        let work = work(&readable, &writable, memory, disk, id).unwrap_or_else(|failure| Work::Done(Err(failure)));
        Ok(Self { status, work })
    }

    /// Does the work on this thread, to its end.
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

    /// Counts the work as done; returns how many bytes of the guest's memory it has written.
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

    /// Writes the status; returns how many bytes of the chain were written, for the used ring.
    pub(super) fn answer(&self, outcome: Outcome, memory: &GuestMemoryMmap, disk: &Disk) -> Result<u32, ChainError> {
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
        memory.write_obj(code as u8, self.status).map_err(|_| ChainError::StatusAddress(self.status.raw_value()))?;
        Ok(u32::try_from(written + 1).unwrap_or(u32::MAX))
    }
}

/// Parts the chain into what the device reads and what it writes.
fn split<M>(chain: DescriptorChain<M>) -> Result<(Vec<Buffer>, Vec<Buffer>), ChainError>
where
    M: Deref<Target = GuestMemoryMmap>,
{
    let (mut readable, mut writable) = (Vec::new(), Vec::new());
    let mut ended = false;
    for (number, descriptor) in chain.enumerate() {
        if number == MAX_DESCRIPTORS {
            return Err(ChainError::TooLong);
        }
        let buffer = Buffer { address: descriptor.addr(), length: u64::from(descriptor.len()) };
        if descriptor.is_write_only() {
            writable.push(buffer);
        } else if writable.is_empty() {
            readable.push(buffer);
        } else {
            return Err(ChainError::Order);
        }
        ended = !descriptor.has_next();
    }
    // The iterator also stops at what it cannot read; only a chain that says so itself has ended.
    if ended { Ok((readable, writable)) } else { Err(ChainError::CutOff) }
}

/// The status is the last byte the device may write, however the driver framed the rest (virtio 1.3 §2.7.4).
fn take_status(writable: &mut Vec<Buffer>) -> Result<GuestAddress, ChainError> {
    while writable.last().is_some_and(|last| last.length == 0) {
        writable.pop();
    }
    let last = writable.last_mut().ok_or(ChainError::NoStatus)?;
    last.length -= 1;
    last.address.checked_add(last.length).ok_or(ChainError::StatusAddress(last.address.raw_value()))
}

fn work(
    readable: &[Buffer],
    writable: &[Buffer],
    memory: &GuestMemoryMmap,
    disk: &Disk,
    id: &[u8; ID_BYTES],
) -> Result<Work, Failure> {
    let (header, data) = cut(readable, HEADER_BYTES).ok_or(Failure::Invalid)?;
    let mut bytes = [0; HEADER_BYTES as usize];
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

/// The first `length` bytes of `buffers`, and the rest; nothing when they are shorter.
fn cut(buffers: &[Buffer], length: u64) -> Option<(Vec<Buffer>, Vec<Buffer>)> {
    let (mut first, mut rest) = (Vec::new(), Vec::with_capacity(buffers.len()));
    let mut missing = length;
    for buffer in buffers {
        let taken = buffer.length.min(missing);
        if taken > 0 {
            first.push(Buffer { length: taken, ..*buffer });
            missing -= taken;
        }
        if buffer.length > taken {
            rest.push(Buffer { address: buffer.address.checked_add(taken)?, length: buffer.length - taken });
        }
    }
    (missing == 0).then_some((first, rest))
}

fn gather(buffers: &[Buffer], memory: &GuestMemoryMmap, mut into: &mut [u8]) -> Result<(), Failure> {
    for buffer in buffers {
        let (now, later) = into.split_at_mut(usize::try_from(buffer.length).unwrap_or(usize::MAX).min(into.len()));
        memory.read_slice(now, buffer.address).map_err(|_| Failure::Invalid)?;
        into = later;
    }
    Ok(())
}

fn scatter(buffers: &[Buffer], memory: &GuestMemoryMmap, mut from: &[u8]) -> Outcome {
    let mut written = 0;
    for buffer in buffers {
        let (now, later) = from.split_at(usize::try_from(buffer.length).unwrap_or(usize::MAX).min(from.len()));
        memory.write_slice(now, buffer.address).map_err(|_| Failure::Invalid)?;
        written += now.len() as u64;
        from = later;
    }
    Ok(written)
}

/// Offset in the file of `length` bytes at `sector`, if they are whole sectors of the disk.
fn place(sector: u64, length: u64, disk: &Disk) -> Result<u64, Failure> {
    let sectors = length / SECTOR_BYTES;
    let end = sector.checked_add(sectors).ok_or(Failure::Invalid)?;
    if !length.is_multiple_of(SECTOR_BYTES) || end > disk.sectors() {
        return Err(Failure::Invalid);
    }
    // A disk is a file: its offsets fit i64, and so do those below its end.
    Ok(sector * SECTOR_BYTES)
}

fn total(buffers: &[Buffer]) -> u64 {
    // The chain's iterator refuses chains of 4 GiB and more.
    buffers.iter().map(|buffer| buffer.length).sum()
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

/// Guest buffers as the host sees them; each is in guest memory for its whole length.
fn vectors(buffers: &[Buffer], memory: &GuestMemoryMmap) -> Result<Vec<libc::iovec>, Failure> {
    let mut vectors = Vec::with_capacity(buffers.len());
    for buffer in buffers {
        let length = usize::try_from(buffer.length).map_err(|_| Failure::Invalid)?;
        // A buffer may cross from one memory region into the next.
        for slice in memory.get_slices(buffer.address, length) {
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
    if length == 0 || !length.is_multiple_of(RANGE_BYTES) || length / RANGE_BYTES > u64::from(MAX_RANGES) {
        return Err(Failure::Invalid);
    }
    let mut bytes = vec![0; length as usize];
    gather(data, memory, &mut bytes)?;
    let (segments, _) = bytes.as_chunks::<{ RANGE_BYTES as usize }>();
    segments.iter().map(|segment| Range::parse(segment, disk)).collect()
}

impl Range {
    fn parse(segment: &[u8; RANGE_BYTES as usize], disk: &Disk) -> Result<Self, Failure> {
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
        // Unmap is reserved in a discard, and so is every other bit (virtio 1.3 §5.2.6.2).
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
                // Unmapping is a wish; the zeroes are not.
                Err(failure) if failure.raw_os_error() == Some(libc::EOPNOTSUPP) => false,
                Err(failure) => return Err(Failure::Host("write zeroes", failure)),
            };
        if !unmapped {
            disk.write_zeroes(self.offset, self.length).map_err(|failure| Failure::Host("write zeroes", failure))?;
        }
        Ok(())
    }
}
