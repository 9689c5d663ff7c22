//! Descriptor chains: the one walker for all devices.
//!
//! The guest writes the chains, and may write them to loop, to leave their table or never to end. [`walk`] visits a
//! bounded number of descriptors and reports a chain that does not end by itself; the other functions build on it.

use virtio_queue::DescriptorChain;
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryMmap, Permissions};

use super::DeviceError;
use super::span::Slice;

/// Most descriptors of a chain, empty ones included: the size of the largest queue (virtio 1.3 §2.7.5.3.1). An indirect
/// table could hold 65,535, enough to keep a device busy for long.
const MAX_DESCRIPTORS: usize = 256;

/// A descriptor chain in guest memory.
pub(crate) type Chain<'m> = DescriptorChain<&'m GuestMemoryMmap>;

/// What is wrong with a chain or its contents, for the log.
#[derive(Debug)]
pub(crate) struct Malformed(pub(crate) String);

impl Malformed {
    /// The error of the device whose queue at `index` held the chain.
    pub(crate) fn on(self, index: usize) -> DeviceError {
        DeviceError::Guest { queue: index, reason: self.0 }
    }
}

/// Which side writes a descriptor's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The driver wrote it and the device reads it.
    FromGuest,
    /// The device writes it.
    ToGuest,
}

/// The memory a descriptor names. It may lie outside guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buffer {
    pub(crate) address: GuestAddress,
    /// Length in bytes; zero is allowed.
    pub(crate) length: usize,
}

/// Calls `visit` for every descriptor of `chain`, in order.
///
/// # Errors
/// What `visit` returns, or what is wrong with the chain: more than [`MAX_DESCRIPTORS`], or no end of its own.
fn walk(chain: Chain<'_>, mut visit: impl FnMut(Direction, Buffer) -> Result<(), Malformed>) -> Result<(), Malformed> {
    let mut ended = false;
    for (number, descriptor) in chain.enumerate() {
        if number == MAX_DESCRIPTORS {
            return Err(Malformed(format!("a chain of more than {MAX_DESCRIPTORS} descriptors")));
        }
        let direction = if descriptor.is_write_only() { Direction::ToGuest } else { Direction::FromGuest };
        visit(direction, Buffer { address: descriptor.addr(), length: descriptor.len() as usize })?;
        ended = !descriptor.has_next();
    }
    // The iterator also stops at a loop or at an index outside the table; only the last descriptor can end the chain.
    if ended { Ok(()) } else { Err(Malformed("a descriptor chain that is empty, loops or leaves its table".into())) }
}

/// Splits `chain` into the buffers the device reads and those it writes, which must follow the former
/// (virtio 1.3 §2.7.4.2). Their memory is not checked.
pub(crate) fn split(chain: Chain<'_>) -> Result<(Vec<Buffer>, Vec<Buffer>), Malformed> {
    let (mut readable, mut writable) = (Vec::new(), Vec::new());
    walk(chain, |direction, buffer| {
        match direction {
            Direction::ToGuest => writable.push(buffer),
            Direction::FromGuest if writable.is_empty() => readable.push(buffer),
            Direction::FromGuest => {
                return Err(Malformed("a descriptor for the device to read follows one for it to write".into()));
            }
        }
        Ok(())
    })?;
    Ok((readable, writable))
}

/// Appends the memory of `chain` to `pieces` and returns its length in bytes. Every descriptor must be of the given
/// direction; how the driver divides the chain into descriptors does not matter (virtio 1.3 §2.7.4).
pub(crate) fn pieces<'m>(
    memory: &'m GuestMemoryMmap,
    chain: Chain<'m>,
    direction: Direction,
    pieces: &mut Vec<Slice<'m>>,
) -> Result<usize, Malformed> {
    let mut bytes = 0;
    walk(chain, |of, buffer| {
        if of != direction {
            let is = if of == Direction::ToGuest { "device-writable" } else { "device-readable" };
            return Err(Malformed(format!("a {is} descriptor where the other kind belongs")));
        }
        // The chain's iterator ends a chain of more than 2^32 bytes, so this cannot overflow.
        bytes += buffer.length;
        append(memory, buffer, direction, pieces)
    })?;
    Ok(bytes)
}

/// The memory of a request: what the device reads, and what it writes.
pub(crate) fn request<'m>(
    memory: &'m GuestMemoryMmap,
    chain: Chain<'m>,
) -> Result<(Vec<Slice<'m>>, Vec<Slice<'m>>), Malformed> {
    let (readable, writable) = split(chain)?;
    let (mut question, mut answer) = (Vec::new(), Vec::new());
    for buffer in readable {
        append(memory, buffer, Direction::FromGuest, &mut question)?;
    }
    for buffer in writable {
        append(memory, buffer, Direction::ToGuest, &mut answer)?;
    }
    Ok((question, answer))
}

/// Appends the memory of `buffer` to `pieces`; more than one piece if it crosses regions of guest memory.
fn append<'m>(
    memory: &'m GuestMemoryMmap,
    buffer: Buffer,
    direction: Direction,
    pieces: &mut Vec<Slice<'m>>,
) -> Result<(), Malformed> {
    let access = match direction {
        Direction::ToGuest => Permissions::Write,
        Direction::FromGuest => Permissions::Read,
    };
    let Buffer { address, length } = buffer;
    let invalid = |error| Malformed(format!("descriptor of {length} bytes at {:#x}: {error}", address.0));
    for slice in GuestMemory::get_slices(memory, address, length, access).map_err(invalid)? {
        pieces.push(slice.map_err(invalid)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestMemoryBackend};

    use super::*;
    use crate::devices::DeviceQueues;
    use crate::devices::queue::ServedQueue;
    use crate::devices::tests::queues::{Descriptor, TestQueues};

    /// A descriptor in a table of the test's own (virtio 1.3 §2.7.5).
    struct Raw {
        address: u64,
        bytes: u32,
        flags: u16,
        next: u16,
    }

    const NEXT: u16 = 1;
    const WRITE: u16 = 2;
    const INDIRECT: u16 = 4;
    /// An indirect table, away from rings and chains.
    const TABLE: u64 = 0x300_0000;

    fn write(queues: &TestQueues, table: u64, number: u64, raw: &Raw) {
        let address = GuestAddress(table + number * 16);
        let memory = queues.memory();
        memory.write_obj(raw.address.to_le(), address).unwrap();
        memory.write_obj(raw.bytes.to_le(), GuestAddress(address.0 + 8)).unwrap();
        memory.write_obj(raw.flags.to_le(), GuestAddress(address.0 + 12)).unwrap();
        memory.write_obj(raw.next.to_le(), GuestAddress(address.0 + 14)).unwrap();
    }

    /// Makes an indirect table of `count` descriptors available, whose last one has the given flags and next.
    fn indirect(count: u16, flags: u16, next: u16) -> TestQueues {
        let mut queues = TestQueues::new(&[16]);
        queues.add(0, &[Descriptor::readable(0)]);
        write(&queues, 0, 0, &Raw { address: TABLE, bytes: u32::from(count) * 16, flags: INDIRECT, next: 0 });
        for number in 0..count {
            let last = number + 1 == count;
            let (flags, next) = if last { (flags, next) } else { (NEXT, number + 1) };
            write(&queues, TABLE, u64::from(number), &Raw { address: 0x1000, bytes: 1, flags, next });
        }
        queues
    }

    /// Descriptors of the next chain until the walk ends, and how it ends.
    fn walked(queues: &mut TestQueues) -> (usize, Result<(), Malformed>) {
        let memory = queues.memory().clone();
        let chain = ServedQueue::of(0, queues, &memory).pop().unwrap().unwrap();
        let mut count = 0;
        let outcome = walk(chain, |_, _| {
            count += 1;
            Ok(())
        });
        (count, outcome)
    }

    #[test]
    fn a_chain_may_be_as_long_as_the_largest_queue_and_no_longer() {
        let most = MAX_DESCRIPTORS as u16;
        let (count, outcome) = walked(&mut indirect(most, 0, 0));
        assert_eq!(count, MAX_DESCRIPTORS);
        outcome.unwrap();
        let (count, outcome) = walked(&mut indirect(most + 1, 0, 0));
        assert_eq!(count, MAX_DESCRIPTORS);
        assert!(outcome.unwrap_err().0.contains("more than 256"));
    }

    #[test]
    fn a_chain_that_loops_or_leaves_its_table_is_malformed_after_a_bounded_walk() {
        for next in [0, 2, 3, 4, u16::MAX] {
            let (count, outcome) = walked(&mut indirect(3, NEXT, next));
            assert!(count <= MAX_DESCRIPTORS, "{count} descriptors for next {next}");
            assert!(outcome.is_err(), "next {next}");
        }
        // A table within a table, and one outside of memory.
        assert!(walked(&mut indirect(2, INDIRECT, 0)).1.is_err());
        let mut queues = TestQueues::new(&[16]);
        queues.add(0, &[Descriptor::readable(0)]);
        write(&queues, 0, 0, &Raw { address: u64::MAX - 15, bytes: 16, flags: INDIRECT, next: 0 });
        assert!(walked(&mut queues).1.is_err());
    }

    #[test]
    fn the_visitor_ends_the_walk() {
        let mut queues = indirect(8, 0, 0);
        let memory = queues.memory().clone();
        let chain = ServedQueue::of(0, &mut queues, &memory).pop().unwrap().unwrap();
        let mut count = 0;
        let outcome = walk(chain, |_, _| {
            count += 1;
            if count == 2 { Err(Malformed("enough".into())) } else { Ok(()) }
        });
        assert_eq!((count, outcome.unwrap_err().0.as_str()), (2, "enough"));
    }

    #[test]
    fn what_the_device_reads_comes_before_what_it_writes() {
        let split_of = |descriptors: &[Descriptor]| {
            let mut queues = TestQueues::new(&[16]);
            queues.add(0, descriptors);
            let memory = queues.memory().clone();
            let chain = ServedQueue::of(0, &mut queues, &memory).pop().unwrap().unwrap();
            split(chain).map(|(readable, writable)| (readable.len(), writable.len()))
        };
        let (readable, writable) = (Descriptor::readable(4), Descriptor::writable(4));
        assert_eq!(split_of(&[readable.clone(), readable.clone(), writable.clone()]).unwrap(), (2, 1));
        assert_eq!(split_of(std::slice::from_ref(&writable)).unwrap(), (0, 1));
        assert!(split_of(&[writable, readable]).is_err());
    }

    #[test]
    fn pieces_are_of_one_direction_and_lie_in_memory() {
        let pieces_of = |descriptors: &[Descriptor]| {
            let mut queues = TestQueues::new(&[16]);
            queues.add(0, descriptors);
            let memory = queues.memory().clone();
            let end = memory.last_addr().0;
            let chain = ServedQueue::of(0, &mut queues, &memory).pop().unwrap().unwrap();
            let mut found = Vec::new();
            pieces(&memory, chain, Direction::ToGuest, &mut found).map(|bytes| (bytes, found.len(), end))
        };
        let at = |address, bytes| Descriptor { address: Some(address), ..Descriptor::writable(bytes) };
        let (bytes, count, end) = pieces_of(&[at(0x1000, 10), at(0x1000, 0), at(0x2000, 5)]).unwrap();
        assert_eq!((bytes, count), (15, 2), "an empty descriptor has no memory");
        assert!(pieces_of(&[Descriptor::readable(4)]).is_err());
        assert!(pieces_of(&[at(end, 2)]).is_err());
        assert!(pieces_of(&[at(u64::MAX - 10, 64)]).is_err());
    }

    #[test]
    fn a_buffer_is_what_its_descriptor_names() {
        let mut queues = indirect(1, WRITE, 0);
        let memory = queues.memory().clone();
        let chain = ServedQueue::of(0, &mut queues, &memory).pop().unwrap().unwrap();
        assert_eq!(split(chain).unwrap(), (vec![], vec![Buffer { address: GuestAddress(0x1000), length: 1 }]));
    }
}
