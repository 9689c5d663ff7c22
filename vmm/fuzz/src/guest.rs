//! A guest as a device sees it: memory, queues, and the rules a device must keep whatever the guest does.
//!
//! Before each call of the device, independent code here walks the chains that the device may take. After the call, no
//! more buffers are used than were available; each used element names one of them and at most as many bytes as are
//! writable; and no byte of the guest's memory has changed outside those buffers and the used rings. A guest whose
//! buffers or rings overlap undermines its own queues: then only panics and endless loops are findings.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rorqual_vmm::devices::{DeviceQueues, VirtioDevice};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::program::Program;

/// Memory: two regions without a gap, then one far away.
const REGIONS: [(u64, usize); 3] = [(0, 0xc000), (0xc000, 0x4000), (0x4_0000, 0x1000)];
/// Each queue's rings begin at a multiple of this, from it.
const RINGS_BYTES: u64 = 0x2000;
/// Where buffers are usually.
const BUFFERS: u64 = 0x8000;
const BUFFERS_END: u64 = 0xf000;
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// Operations of one program.
const MAX_OPERATIONS: usize = 256;
/// A device that asks to be called more often than this without the guest loops forever.
const MAX_CALLS: usize = 4096;

/// A device under attack.
pub trait Subject {
    /// The device.
    fn device(&mut self) -> &mut dyn VirtioDevice;
    /// Makes a well-formed request, more or less.
    fn request(&mut self, program: &mut Program, guest: &mut Guest);
    /// Something happens on the host.
    fn host(&mut self, program: &mut Program);
    /// What must be true after each call.
    fn check(&mut self);
    /// Whether the device may take pages of the guest's memory away, which then change.
    fn takes_memory(&self) -> bool {
        false
    }
}

/// The guest's memory and queues.
pub struct Guest {
    memory: GuestMemoryMmap,
    queues: Vec<Queue>,
    /// The guest's own count of what it made available, and the next descriptor and buffer it takes.
    available: Vec<u16>,
    descriptor: Vec<u16>,
    buffer: u64,
    broken: bool,
}

impl DeviceQueues for Guest {
    fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    fn count(&self) -> usize {
        self.queues.len()
    }

    fn queue(&mut self, index: usize) -> &mut Queue {
        &mut self.queues[index]
    }

    fn signal(&mut self, index: usize) {
        assert!(index < self.queues.len());
    }
}

/// A chain the device may take: bytes it can be written, and its writable pieces.
#[derive(Clone, Debug, Default)]
struct Expected {
    writable: u64,
    pieces: Vec<(u64, u64)>,
}

/// What a queue has for the device.
struct Available {
    /// The used index before.
    used: u16,
    /// How many chains are available.
    count: u16,
    /// These, by head.
    heads: HashMap<u16, Vec<Expected>>,
}

/// What a call of the device may do.
struct Expectation {
    image: Vec<Vec<u8>>,
    /// None: the queue is not ready.
    queues: Vec<Option<Available>>,
    /// Writable stretches.
    allowed: Vec<(u64, u64)>,
    undermined: bool,
}

impl Guest {
    /// A guest with a driver for `device`, its queues set up.
    fn new(device: &dyn VirtioDevice) -> Self {
        let ranges = REGIONS.map(|(start, bytes)| (GuestAddress(start), bytes));
        let memory = GuestMemoryMmap::from_ranges(&ranges).unwrap();
        let count = device.queue_sizes().len();
        let queues = device.queue_sizes().iter().map(|size| Queue::new(*size).unwrap()).collect();
        let mut guest = Self {
            memory,
            queues,
            available: vec![0; count],
            descriptor: vec![0; count],
            buffer: BUFFERS,
            broken: false,
        };
        guest.set_up(64, false);
        guest
    }

    fn set_up(&mut self, size: u16, event_index: bool) {
        for (index, queue) in self.queues.iter_mut().enumerate() {
            queue.reset();
            queue.set_size(size.min(queue.max_size()));
            let base = RINGS_BYTES as u32 * (index as u32 + 1);
            queue.set_desc_table_address(Some(base), Some(0));
            queue.set_avail_ring_address(Some(base + 0x1000), Some(0));
            queue.set_used_ring_address(Some(base + 0x1400), Some(0));
            queue.set_event_idx(event_index);
            queue.set_ready(true);
            self.memory.write_slice(&[0; RINGS_BYTES as usize], GuestAddress(base.into())).unwrap();
        }
        self.available.fill(0);
        self.descriptor.fill(0);
    }

    /// Writes what lies within memory, as much as does.
    fn store(&self, bytes: &[u8], address: u64) {
        let _ = self.memory.write(bytes, GuestAddress(address));
    }

    fn load<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).ok()?;
        Some(bytes)
    }

    fn load_short(&self, address: u64) -> Option<u16> {
        self.load(address).map(u16::from_le_bytes)
    }

    fn write_descriptor(&self, table: u64, index: u16, address: u64, length: u32, flags: u16, next: u16) {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&address.to_le_bytes());
        raw[8..12].copy_from_slice(&length.to_le_bytes());
        raw[12..14].copy_from_slice(&flags.to_le_bytes());
        raw[14..].copy_from_slice(&next.to_le_bytes());
        self.store(&raw, table.wrapping_add(u64::from(index) * 16));
    }

    /// Makes `head` the next available one of a queue.
    fn make_available(&mut self, index: usize, head: u16, more: u16) {
        let queue = &self.queues[index];
        let ring = queue.avail_ring();
        let place = self.available[index] % queue.size();
        self.store(&head.to_le_bytes(), ring.wrapping_add(4 + u64::from(place) * 2));
        self.available[index] = self.available[index].wrapping_add(more);
        self.store(&self.available[index].to_le_bytes(), ring.wrapping_add(2));
    }

    /// Makes a chain of these lengths (true: the device writes) with `contents` available.
    pub fn offer(&mut self, index: usize, lengths: &[(u32, bool)], contents: &[u8]) {
        let queue = &self.queues[index];
        let (size, table) = (queue.size(), queue.desc_table());
        let first = self.descriptor[index];
        let total: u64 = lengths.iter().map(|(length, _)| u64::from(*length)).sum();
        if self.buffer + total > BUFFERS_END {
            self.buffer = BUFFERS;
        }
        self.store(contents, self.buffer);
        for (position, (length, writable)) in lengths.iter().enumerate() {
            let here = first.wrapping_add(position as u16) % size;
            let last = position + 1 == lengths.len();
            let flags = if last { 0 } else { NEXT } | if *writable { WRITE } else { 0 };
            self.write_descriptor(table, here, self.buffer, *length, flags, (here + 1) % size);
            self.buffer = self.buffer.wrapping_add(u64::from(*length));
        }
        if self.buffer > BUFFERS_END {
            self.buffer = BUFFERS;
        }
        self.descriptor[index] = first.wrapping_add(lengths.len() as u16) % size;
        self.make_available(index, first % size, 1);
    }

    /// Makes `header` available, followed by `length` bytes that every such chain has in common.
    pub fn offer_over(&mut self, index: usize, header: &[u8], length: u32) {
        let (size, table, first) = (self.queues[index].size(), self.queues[index].desc_table(), self.descriptor[index]);
        self.offer(index, &[(header.len() as u32, false), (0, false)], header);
        self.write_descriptor(table, first.wrapping_add(1) % size, BUFFERS, length, 0, 0);
    }

    fn address(program: &mut Program) -> u64 {
        match program.byte() {
            0..=159 => BUFFERS + u64::from(program.short()) % (BUFFERS_END - BUFFERS),
            // The end of the first region, and the end of memory.
            160..=175 => 0xc000 - u64::from(program.byte()),
            176..=191 => 0x1_0000 - u64::from(program.byte()),
            192..=207 => 0x4_1000 - u64::from(program.byte()),
            208..=223 => u64::from(program.short()),
            224..=239 => u64::MAX - u64::from(program.byte()),
            _ => program.long(),
        }
    }

    /// Walks the chain with this head (virtio 1.3 §2.7). None: the device must refuse it.
    fn walk(&self, index: usize, head: u16) -> Option<Expected> {
        let queue = &self.queues[index];
        let (mut table, mut entries, mut left) = (queue.desc_table(), u64::from(queue.size()), u32::from(queue.size()));
        let (mut at, mut indirect, mut expected) = (u64::from(head), false, Expected::default());
        while left > 0 && at < entries {
            let raw: [u8; 16] = self.load(table.checked_add(at * 16)?)?;
            let address = u64::from_le_bytes(raw[..8].try_into().unwrap());
            let length = u32::from_le_bytes(raw[8..12].try_into().unwrap());
            let flags = u16::from_le_bytes(raw[12..14].try_into().unwrap());
            let next = u16::from_le_bytes(raw[14..].try_into().unwrap());
            if flags & INDIRECT != 0 {
                if indirect || !length.is_multiple_of(16) || length / 16 > u32::from(u16::MAX) {
                    return None;
                }
                (indirect, table, entries, left, at) = (true, address, u64::from(length / 16), length / 16, 0);
                continue;
            }
            if flags & WRITE != 0 {
                expected.writable += u64::from(length);
                expected.pieces.push((address, address.saturating_add(length.into())));
            }
            if flags & NEXT == 0 {
                return Some(expected);
            }
            left -= 1;
            at = u64::from(next);
        }
        // It loops, or leaves its table: the device may have written to what came before.
        Some(expected)
    }

    fn expect(&self) -> Expectation {
        let image = REGIONS.map(|(start, bytes)| {
            let mut image = vec![0; bytes];
            self.memory.read_slice(&mut image, GuestAddress(start)).unwrap();
            image
        });
        let mut expectation =
            Expectation { image: image.into(), queues: Vec::new(), allowed: Vec::new(), undermined: false };
        let mut structures = Vec::new();
        for (index, queue) in self.queues.iter().enumerate() {
            if !queue.ready() {
                expectation.queues.push(None);
                continue;
            }
            let size = u64::from(queue.size());
            let stretch = |at: u64, bytes: u64| (at, at.saturating_add(bytes));
            structures.push(stretch(queue.desc_table(), 16 * size));
            structures.push(stretch(queue.avail_ring(), 6 + 2 * size));
            let used_ring = stretch(queue.used_ring(), 6 + 8 * size);
            structures.push(used_ring);
            expectation.allowed.push(used_ring);
            let (used, available) = (queue.next_used(), self.load_short(queue.avail_ring().wrapping_add(2)));
            let count = available.map_or(0, |available| available.wrapping_sub(queue.next_avail()));
            let mut heads: HashMap<u16, Vec<Expected>> = HashMap::new();
            if count <= queue.size() {
                for number in 0..count {
                    let place = u64::from(queue.next_avail().wrapping_add(number) % queue.size());
                    let Some(head) = self.load_short(queue.avail_ring().wrapping_add(4 + place * 2)) else { break };
                    if let Some(expected) = self.walk(index, head) {
                        expectation.allowed.extend(&expected.pieces);
                        heads.entry(head).or_default().push(expected);
                    }
                }
            }
            let count = if count <= queue.size() { count } else { 0 };
            expectation.queues.push(Some(Available { used, count, heads }));
        }
        // Buffers over rings, or rings over rings.
        let overlap = |a: &(u64, u64), b: &(u64, u64)| a.0 < b.1 && b.0 < a.1;
        let buffers = &expectation.allowed;
        expectation.undermined = structures.iter().enumerate().any(|(index, one)| {
            structures[index + 1..].iter().any(|other| overlap(one, other))
                || buffers.iter().any(|buffer| buffer != one && overlap(one, buffer))
        });
        // Indirect tables lie among the buffers: where those are written, tables may be.
        expectation.undermined |= self.has_indirect_tables() && expectation.allowed.len() > structures.len() / 3;
        expectation
    }

    fn has_indirect_tables(&self) -> bool {
        self.queues.iter().filter(|queue| queue.ready()).any(|queue| {
            (0..u64::from(queue.size()))
                .filter_map(|entry| self.load_short(queue.desc_table().wrapping_add(entry * 16 + 12)))
                .any(|flags| flags & INDIRECT != 0)
        })
    }

    fn verify(&self, expectation: &Expectation) {
        for (queue, expected) in self.queues.iter().zip(&expectation.queues) {
            let Some(Available { used: before, count, heads }) = expected else { continue };
            let used = queue.next_used().wrapping_sub(*before);
            if expectation.undermined {
                continue;
            }
            assert!(used <= *count, "{used} buffers were used, {count} were available");
            for number in 0..used {
                let place = u64::from(before.wrapping_add(number) % queue.size());
                let raw: [u8; 8] = self.load(queue.used_ring() + 4 + place * 8).expect("a used ring outside of memory");
                let head = u32::from_le_bytes(raw[..4].try_into().unwrap());
                let bytes = u64::from(u32::from_le_bytes(raw[4..].try_into().unwrap()));
                let chains = u16::try_from(head).ok().and_then(|head| heads.get(&head));
                let Some(chains) = chains else { panic!("{head} was used and never available") };
                let most = chains.iter().map(|chain| chain.writable).max().unwrap_or(0);
                assert!(bytes <= most, "{bytes} bytes of chain {head} were used, {most} can be written");
            }
        }
        if expectation.undermined {
            return;
        }
        for ((start, bytes), image) in REGIONS.iter().zip(&expectation.image) {
            let mut now = vec![0; *bytes];
            self.memory.read_slice(&mut now, GuestAddress(*start)).unwrap();
            // By stretches: a loop over bytes is traced byte by byte and would be most of the work.
            let within = |address: u64| (address.clamp(*start, start + *bytes as u64) - start) as usize;
            for (from, to) in &expectation.allowed {
                let stretch = within(*from)..within(*to).max(within(*from));
                now[stretch.clone()].copy_from_slice(&image[stretch]);
            }
            if now != *image {
                let offset = now.iter().zip(image).position(|(now, before)| now != before).unwrap_or(0);
                panic!("memory at {:#x} changed that no buffer covers", start + offset as u64);
            }
        }
    }

    /// Calls the device: for a queue's kick, or for its own descriptor.
    fn call(&mut self, subject: &mut dyn Subject, kicked: Option<usize>) {
        if self.broken {
            return;
        }
        let mut expectation = self.expect();
        expectation.undermined |= subject.takes_memory();
        let answer = match kicked {
            Some(index) => subject.device().queue_kicked(index, self),
            None => subject.device().host_event(self),
        };
        self.broken = answer.is_err();
        self.verify(&expectation);
        subject.check();
    }

    /// Calls the device as long as it asks for it.
    fn settle(&mut self, subject: &mut dyn Subject) {
        for _ in 0..MAX_CALLS {
            if self.broken || !subject.device().host_event_fd().is_some_and(readable) {
                return;
            }
            self.call(subject, None);
        }
        panic!("the device calls itself without end");
    }
}

fn readable(descriptor: BorrowedFd<'_>) -> bool {
    poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Runs a program against a device.
pub fn attack(subject: &mut dyn Subject, program: &mut Program) {
    let mut guest = Guest::new(subject.device());
    for _ in 0..MAX_OPERATIONS {
        if program.ended() {
            break;
        }
        step(&mut guest, subject, program);
    }
    guest.settle(subject);
    subject.device().reset();
    subject.check();
}

fn step(guest: &mut Guest, subject: &mut dyn Subject, program: &mut Program) {
    let operation = program.byte();
    let index = usize::from(operation >> 4) % guest.queues.len();
    match operation & 15 {
        0..=2 => subject.request(program, guest),
        3 => guest.call(subject, Some(index)),
        4 => guest.settle(subject),
        5 => subject.host(program),
        6 => {
            // A chain of descriptors from the program.
            let count = 1 + program.below(4);
            let lengths: Vec<_> = (0..count).map(|_| (program.length(), program.flag())).collect();
            guest.offer(index, &lengths, &[]);
        }
        7 => {
            let (size, table) = (guest.queues[index].size(), guest.queues[index].desc_table());
            let place = program.byte() as u16 % size;
            let (address, length) = (Guest::address(program), program.length());
            let flags = program.byte();
            let flags = u16::from(if flags < 224 { flags & 3 } else { flags & 7 });
            let next = if program.flag() { (place + 1) % size } else { program.byte().into() };
            guest.write_descriptor(table, place, address, length, flags, next);
        }
        8 => {
            let head = if program.flag() { program.byte().into() } else { program.short() };
            let more = if program.byte() < 200 { 1 } else { program.short() };
            guest.make_available(index, head, more);
        }
        9 => {
            // An indirect table, and the descriptor that names it.
            let entries = program.short() % 512;
            let table = Guest::address(program);
            for entry in 0..entries.min(8) {
                let (length, flags) = (program.length(), u16::from(program.byte() & 3));
                let next = if program.byte() < 250 { entry + 1 } else { program.short() };
                let address = Guest::address(program);
                guest.write_descriptor(table, entry, address, length, flags, next);
            }
            let (size, main) = (guest.queues[index].size(), guest.queues[index].desc_table());
            let place = program.byte() as u16 % size;
            guest.write_descriptor(main, place, table, u32::from(entries) * 16, INDIRECT, 0);
            guest.make_available(index, place, 1);
        }
        10 => {
            let address = Guest::address(program);
            let count = program.below(64);
            guest.store(program.bytes(count), address);
        }
        11 => {
            let value = program.short();
            let queue = &guest.queues[index];
            let place = match program.below(4) {
                0 => queue.avail_ring(),
                1 => queue.avail_ring().wrapping_add(2),
                2 => queue.avail_ring().wrapping_add(4 + 2 * u64::from(queue.size())),
                _ => queue.used_ring().wrapping_add(2),
            };
            guest.store(&value.to_le_bytes(), place);
        }
        12 => {
            let (offset, count) =
                (if program.flag() { program.byte().into() } else { program.long() }, program.below(256));
            let mut data = vec![0; count];
            subject.device().read_config(offset, &mut data);
            subject.device().write_config(offset, &data);
        }
        13 => {
            subject.device().reset();
            let (size, event_index) = (1 << program.below(9), program.flag());
            guest.set_up(size, event_index);
            let features = program.long() & subject.device().offered_features();
            subject.device().acknowledge_features(features);
            guest.broken = false;
        }
        14 => {
            // As vhost-user sets it up, without a check that it is in memory.
            let (descriptors, available, used) =
                (Guest::address(program), Guest::address(program), Guest::address(program));
            let queue = &mut guest.queues[index];
            queue.set_size(1 << program.below(9));
            match program.below(4) {
                0 => queue.set_desc_table_address(Some(descriptors as u32), Some((descriptors >> 32) as u32)),
                1 => queue.set_avail_ring_address(Some(available as u32), Some((available >> 32) as u32)),
                2 => queue.set_used_ring_address(Some(used as u32), Some((used >> 32) as u32)),
                _ => {}
            }
        }
        _ => {
            let ready = program.flag();
            guest.queues[index].set_ready(ready);
        }
    }
}
