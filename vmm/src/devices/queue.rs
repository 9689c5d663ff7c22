//! What every device does with its queues: the next chain, its memory, interrupts, errors.

use std::sync::atomic::Ordering;

use virtio_bindings::bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, Permissions, VolatileSlice};

use super::DeviceError;

/// Most pieces a chain may have. Linux sends at most some dozens; a chain of thousands is an attack on our time.
const MAX_PIECES: usize = 256;

/// A piece of guest memory.
pub(crate) type Slice<'m> = VolatileSlice<'m, ()>;
/// A descriptor chain in guest memory.
pub(crate) type Chain<'m> = DescriptorChain<&'m GuestMemoryMmap>;

/// What is wrong with a chain, for the log.
#[derive(Debug)]
pub(crate) struct Malformed(pub(crate) String);

impl Malformed {
    /// The error of a device whose queue at `index` had such a chain.
    pub(crate) fn on(self, index: usize) -> DeviceError {
        DeviceError::Guest { queue: index, reason: self.0 }
    }
}

/// Which way the bytes of a chain go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The device reads them.
    FromGuest,
    /// The device writes them.
    ToGuest,
}

/// The error of a queue that cannot be used.
pub(crate) fn broken(index: usize, error: &virtio_queue::Error) -> DeviceError {
    DeviceError::Guest { queue: index, reason: error.to_string() }
}

/// The next chain the guest made available on the queue at `index`.
pub(crate) fn pop<'m>(
    index: usize,
    queue: &mut Queue,
    memory: &'m GuestMemoryMmap,
) -> Result<Option<Chain<'m>>, DeviceError> {
    Ok(queue.iter(memory).map_err(|error| broken(index, &error))?.next())
}

/// Whether the guest wants to hear of used buffers. `Queue` knows the event index; without it the driver has a flag
/// (virtio 1.3 §2.7.7).
pub(crate) fn interrupt_wanted(index: usize, queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<bool, DeviceError> {
    let needed = queue.needs_notification(memory).map_err(|error| broken(index, &error))?;
    if !needed || queue.event_idx_enabled() {
        return Ok(needed);
    }
    let flags: u16 = memory
        .load(GuestAddress(queue.avail_ring()), Ordering::Relaxed)
        .map_err(|error| DeviceError::Guest { queue: index, reason: format!("available ring: {error}") })?;
    Ok(u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT == 0)
}

/// Appends the memory of `chain` to `pieces` and returns its bytes in total. Every descriptor must be of the given
/// direction; how the chain is cut into descriptors is the driver's business (virtio 1.3 §2.7.4).
pub(crate) fn pieces<'m>(
    memory: &'m GuestMemoryMmap,
    chain: Chain<'m>,
    direction: Direction,
    pieces: &mut Vec<Slice<'m>>,
) -> Result<usize, Malformed> {
    let writable = direction == Direction::ToGuest;
    let access = if writable { Permissions::Write } else { Permissions::Read };
    let first = pieces.len();
    let mut bytes = 0;
    let mut ended = false;
    for descriptor in chain {
        // The iterator stops without a word at a loop or at an index outside of the table.
        ended = !descriptor.has_next();
        if descriptor.is_write_only() != writable {
            let is = if writable { "device-readable" } else { "device-writable" };
            return Err(Malformed(format!("a {is} descriptor where the other kind belongs")));
        }
        let length = descriptor.len() as usize;
        let invalid = |error| Malformed(format!("descriptor of {length} bytes at {:#x}: {error}", descriptor.addr().0));
        for slice in GuestMemory::get_slices(memory, descriptor.addr(), length, access).map_err(invalid)? {
            pieces.push(slice.map_err(invalid)?);
        }
        if pieces.len() - first > MAX_PIECES {
            return Err(Malformed(format!("a descriptor chain of more than {MAX_PIECES} pieces")));
        }
        // The chain iterator ends a chain of more than 2^32 bytes, so this cannot overflow.
        bytes += length;
    }
    if ended { Ok(bytes) } else { Err(Malformed("a descriptor chain that is empty, loops or leaves its table".into())) }
}
