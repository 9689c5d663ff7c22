//! What every device does with its queues: the next chain, its memory, interrupts, errors.

use std::sync::atomic::Ordering;

use virtio_bindings::bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, Permissions, VolatileSlice};

use super::{DeviceError, DeviceQueues};

/// Most descriptors a chain may have, those of no bytes included: the largest of our queues (virtio 1.3 §2.7.5.3.1). A table
/// elsewhere could have 65535, which is an attack on our time.
pub(crate) const MAX_DESCRIPTORS: usize = 256;
/// Flags and index at the start of an available ring.
const AVAILABLE_HEADER_BYTES: usize = 4;

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
    let next = queue.iter(memory).map_err(|error| broken(index, &error))?.next();
    if next.is_none() {
        // The iterator ends at an entry outside of memory, too; the index before it says that there is more, for ever.
        // With virtio-mmio a ring is looked at before it is ready, with vhost-user nobody has.
        let (ring, size) = (GuestAddress(queue.avail_ring()), usize::from(queue.size()));
        if !GuestMemory::check_range(memory, ring, AVAILABLE_HEADER_BYTES + 2 * size, Permissions::Read) {
            let reason = format!("the available ring at {:#x} is outside of memory", ring.0);
            return Err(DeviceError::Guest { queue: index, reason });
        }
    }
    Ok(next)
}

/// Interrupts the guest for used buffers on the queue at `index`, if it wants to hear of them; whether it does.
pub(crate) fn interrupt(
    index: usize,
    queues: &mut dyn DeviceQueues,
    memory: &GuestMemoryMmap,
) -> Result<bool, DeviceError> {
    let wanted = interrupt_wanted(index, queues.queue(index), memory)?;
    if wanted {
        queues.signal(index);
    }
    Ok(wanted)
}

/// Whether the guest wants to hear of used buffers. `Queue` knows the event index; without it the driver has a flag
/// (virtio 1.3 §2.7.7).
fn interrupt_wanted(index: usize, queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<bool, DeviceError> {
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
    walk(memory, chain, |of, slice| {
        if of != direction {
            let is = if of == Direction::ToGuest { "device-writable" } else { "device-readable" };
            return Err(Malformed(format!("a {is} descriptor where the other kind belongs")));
        }
        pieces.extend(slice);
        Ok(())
    })
}

/// The memory of a request: what the device reads, and behind it what it writes (virtio 1.3 §2.7.4.2).
pub(crate) fn request<'m>(
    memory: &'m GuestMemoryMmap,
    chain: Chain<'m>,
) -> Result<(Vec<Slice<'m>>, Vec<Slice<'m>>), Malformed> {
    let (mut asked, mut answer) = (Vec::new(), Vec::new());
    let mut answering = false;
    walk(memory, chain, |of, slice| {
        answering |= of == Direction::ToGuest;
        if answering && of == Direction::FromGuest {
            return Err(Malformed("a descriptor for the device to read follows one for it to write".into()));
        }
        if answering { &mut answer } else { &mut asked }.extend(slice);
        Ok(())
    })?;
    Ok((asked, answer))
}

/// Hands every descriptor of `chain` to `take`, first by itself and then its memory, and returns their bytes in total.
fn walk<'m>(
    memory: &'m GuestMemoryMmap,
    chain: Chain<'m>,
    mut take: impl FnMut(Direction, Option<Slice<'m>>) -> Result<(), Malformed>,
) -> Result<usize, Malformed> {
    let mut bytes = 0;
    let mut ended = false;
    for (number, descriptor) in chain.enumerate() {
        if number == MAX_DESCRIPTORS {
            return Err(Malformed(format!("a chain of more than {MAX_DESCRIPTORS} descriptors")));
        }
        // The iterator stops without a word at a loop or at an index outside of the table.
        ended = !descriptor.has_next();
        let (direction, access) = if descriptor.is_write_only() {
            (Direction::ToGuest, Permissions::Write)
        } else {
            (Direction::FromGuest, Permissions::Read)
        };
        take(direction, None)?;
        let length = descriptor.len() as usize;
        let invalid = |error| Malformed(format!("descriptor of {length} bytes at {:#x}: {error}", descriptor.addr().0));
        for slice in GuestMemory::get_slices(memory, descriptor.addr(), length, access).map_err(invalid)? {
            take(direction, Some(slice.map_err(invalid)?))?;
        }
        // The chain iterator ends a chain of more than 2^32 bytes, so this cannot overflow.
        bytes += length;
    }
    if ended { Ok(bytes) } else { Err(Malformed("a descriptor chain that is empty, loops or leaves its table".into())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_available_ring_that_leaves_memory_is_an_error_and_not_an_empty_queue() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
        let mut queue = Queue::new(64).unwrap();
        queue.set_desc_table_address(Some(0x1000), Some(0));
        // Flags and index are there, the entries are not.
        queue.set_avail_ring_address(Some(0xfffc), Some(0));
        queue.set_used_ring_address(Some(0x2000), Some(0));
        queue.set_ready(true);
        memory.write_obj(1u16, GuestAddress(0xfffe)).unwrap();
        assert!(matches!(pop(3, &mut queue, &memory), Err(DeviceError::Guest { queue: 3, .. })));
    }
}
