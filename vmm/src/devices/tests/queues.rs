//! Queues for the tests of devices: each chain has its own descriptors and its own memory.
//!
//! The mock queue of virtio-queue lays the used ring over the second half of the available ring, so these rings are
//! made here.

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::devices::DeviceQueues;

const RINGS_BYTES: u64 = 0x10000;
const CHAIN_DESCRIPTORS: u16 = 4;
const CHAIN_BYTES: u64 = 0x4_0000;

/// One descriptor of a chain.
#[derive(Clone, Debug)]
pub(crate) struct Descriptor {
    pub(crate) bytes: u32,
    pub(crate) writable: bool,
    /// Where it points; None stands for memory of its own.
    pub(crate) address: Option<u64>,
}

impl Descriptor {
    pub(crate) fn readable(bytes: u32) -> Self {
        Self { bytes, writable: false, address: None }
    }

    pub(crate) fn writable(bytes: u32) -> Self {
        Self { bytes, writable: true, address: None }
    }
}

/// Queues of a device and their memory. A chain is used once.
pub(crate) struct TestQueues {
    memory: GuestMemoryMmap,
    all: Vec<Queue>,
    added: Vec<u16>,
    signals: Vec<u64>,
}

impl TestQueues {
    pub(crate) fn new(sizes: &[u16]) -> Self {
        Self::with_memory(sizes, GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 64 << 20)]).unwrap())
    }

    /// Queues in memory of 64 MiB from address 0.
    pub(crate) fn with_memory(sizes: &[u16], memory: GuestMemoryMmap) -> Self {
        let mut all = Vec::new();
        for (index, &size) in sizes.iter().enumerate() {
            let base = index as u32 * RINGS_BYTES as u32;
            let mut queue = Queue::new(size).unwrap();
            queue.set_size(size);
            queue.set_desc_table_address(Some(base), Some(0));
            queue.set_avail_ring_address(Some(base + 0x4000), Some(0));
            queue.set_used_ring_address(Some(base + 0x8000), Some(0));
            queue.set_ready(true);
            all.push(queue);
        }
        Self { memory, added: vec![0; all.len()], signals: vec![0; all.len()], all }
    }

    fn base(index: usize) -> u64 {
        index as u64 * RINGS_BYTES
    }

    /// Address of the memory of the chain with this head. The chains of one queue share none.
    fn chain_memory(head: u16) -> u64 {
        0x10_0000 + u64::from(head / CHAIN_DESCRIPTORS) * CHAIN_BYTES
    }

    /// Makes a chain available and returns its head.
    pub(crate) fn add(&mut self, index: usize, descriptors: &[Descriptor]) -> u16 {
        self.add_with(index, descriptors, &[])
    }

    /// Makes a chain available that holds `contents`.
    pub(crate) fn add_with(&mut self, index: usize, descriptors: &[Descriptor], contents: &[u8]) -> u16 {
        assert!(descriptors.len() <= usize::from(CHAIN_DESCRIPTORS));
        let size = self.all[index].size();
        let head = self.added[index] * CHAIN_DESCRIPTORS % size;
        let mut address = Self::chain_memory(head);
        self.memory.write_slice(contents, GuestAddress(address)).unwrap();
        for (position, descriptor) in descriptors.iter().enumerate() {
            let number = head + position as u16;
            let last = position + 1 == descriptors.len();
            let flags = u16::from(!last) | u16::from(descriptor.writable) << 1;
            let mut raw = [0; 16];
            raw[0..8].copy_from_slice(&descriptor.address.unwrap_or(address).to_le_bytes());
            raw[8..12].copy_from_slice(&descriptor.bytes.to_le_bytes());
            raw[12..14].copy_from_slice(&flags.to_le_bytes());
            raw[14..16].copy_from_slice(&(number + 1).to_le_bytes());
            self.memory.write_slice(&raw, GuestAddress(Self::base(index) + u64::from(number) * 16)).unwrap();
            address += u64::from(descriptor.bytes);
        }
        let available = Self::base(index) + 0x4000;
        let entry = available + 4 + u64::from(self.added[index] % size) * 2;
        self.memory.write_obj(head.to_le(), GuestAddress(entry)).unwrap();
        self.added[index] += 1;
        self.memory.write_obj(self.added[index].to_le(), GuestAddress(available + 2)).unwrap();
        head
    }

    /// Head and bytes written of every used element.
    pub(crate) fn used(&self, index: usize) -> Vec<(u16, u32)> {
        let used = Self::base(index) + 0x8000;
        let count: u16 = u16::from_le(self.memory.read_obj(GuestAddress(used + 2)).unwrap());
        let read = |address| u32::from_le(self.memory.read_obj(GuestAddress(address)).unwrap());
        (0..u64::from(count)).map(|entry| used + 4 + entry * 8).map(|at| (read(at) as u16, read(at + 4))).collect()
    }

    /// The first `bytes` of the memory of the chain with this head.
    pub(crate) fn read(&self, head: u16, bytes: usize) -> Vec<u8> {
        let mut contents = vec![0; bytes];
        self.memory.read_slice(&mut contents, GuestAddress(Self::chain_memory(head))).unwrap();
        contents
    }

    pub(crate) fn signals(&self, index: usize) -> u64 {
        self.signals[index]
    }
}

impl DeviceQueues for TestQueues {
    fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    fn count(&self) -> usize {
        self.all.len()
    }

    fn queue(&mut self, index: usize) -> &mut Queue {
        &mut self.all[index]
    }

    fn signal(&mut self, index: usize) {
        self.signals[index] += 1;
    }
}
