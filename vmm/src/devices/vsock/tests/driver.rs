//! A guest's driver: rings in guest memory as Linux lays them out, and notifications only if the device asks for them.
//!
//! The mock queue of virtio-queue lays the used ring over the second half of the available ring and never wraps, so it
//! carries only a few packets. These rings are made here.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{Ordering, fence};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::super::VsockDevice;
use super::super::device::{RX, TX};
use super::super::packet::{Closed, HEADER_BYTES, HOST_CID, Header, Operation, TYPE_STREAM};
use crate::confinement::tests::as_device;
use crate::devices::counters::Counters;
use crate::devices::{DeviceError, DeviceQueues, VirtioDevice};

pub(super) const GUEST_CID: u64 = 3;
/// Chains each ring of the driver holds at once.
const CHAINS: u16 = 64;
const MAX_DESCRIPTORS_PER_CHAIN: u16 = 4;
const RING_SIZE: u16 = CHAINS * MAX_DESCRIPTORS_PER_CHAIN;
const MEMORY_BYTES: usize = 24 << 20;
const TX_SLOT_BYTES: u64 = 80 * 1024;
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// How a receive buffer is divided into descriptors.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Layout {
    /// One descriptor, as in Linux 6.
    #[default]
    One,
    /// Header and data apart, as in Linux 5.
    Two,
    /// The header cut in the middle, the data in pieces.
    Four,
}

impl Layout {
    fn cut(self, bytes: u32) -> Vec<u32> {
        match self {
            Self::One => vec![bytes],
            Self::Two => vec![44, bytes - 44],
            Self::Four => vec![10, 50, 1, bytes - 61],
        }
    }
}

/// How a guest behaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) event_idx: bool,
    pub(super) layout: Layout,
    /// Size of each receive buffer, header included.
    pub(super) buffer_bytes: u32,
    /// Receive buffers posted; 0 leaves the queue empty.
    pub(super) buffers: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self { event_idx: true, layout: Layout::One, buffer_bytes: 3776, buffers: CHAINS }
    }
}

struct Queues {
    memory: GuestMemoryMmap,
    rings: Vec<Queue>,
    signals: [u64; 3],
}

impl DeviceQueues for Queues {
    fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    fn count(&self) -> usize {
        self.rings.len()
    }

    fn queue(&mut self, index: usize) -> &mut Queue {
        &mut self.rings[index]
    }

    fn signal(&mut self, index: usize) {
        self.signals[index] += 1;
    }
}

/// The driver's side of a split ring.
struct Ring {
    base: u64,
    available: u16,
    kicked: u16,
    used: u16,
    /// Chain slots that the device does not hold; slot n owns the nth group of descriptors.
    free: Vec<u16>,
}

impl Ring {
    fn descriptors(&self) -> u64 {
        self.base
    }

    fn available_ring(&self) -> u64 {
        self.base + 0x2000
    }

    fn used_ring(&self) -> u64 {
        self.base + 0x3000
    }
}

/// A packet the guest received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
}

impl Packet {
    pub(super) fn operation(&self) -> Operation {
        Operation::from_wire(self.header.op).unwrap()
    }
}

/// A guest with a vsock driver, and the directory its sockets are in.
pub(super) struct Guest {
    pub(super) device: VsockDevice,
    pub(super) options: Options,
    queues: Queues,
    rings: [Ring; 2],
    pub(super) received: VecDeque<Packet>,
    /// Packets may come from CIDs other than the host's, because they answer invalid ones.
    pub(super) allow_any_source: bool,
    directory: tempfile::TempDir,
}

impl Guest {
    pub(super) fn new(options: Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let device = VsockDevice::new(GUEST_CID, &directory.path().join("vsock.sock")).unwrap();
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).unwrap();
        let ring =
            |index: u64| Ring { base: 0x10000 * (index + 1), available: 0, kicked: 0, used: 0, free: Vec::new() };
        let queues = Queues { memory, rings: Vec::new(), signals: [0; 3] };
        let mut guest = Self {
            device,
            options,
            queues,
            rings: [ring(0), ring(1)],
            received: VecDeque::new(),
            allow_any_source: false,
            directory,
        };
        guest.set_up_rings();
        guest
    }

    fn set_up_rings(&mut self) {
        self.queues.rings.clear();
        for ring in &mut self.rings {
            let mut queue = Queue::new(RING_SIZE).unwrap();
            queue.set_size(RING_SIZE);
            queue.set_desc_table_address(Some(ring.descriptors() as u32), Some(0));
            queue.set_avail_ring_address(Some(ring.available_ring() as u32), Some(0));
            queue.set_used_ring_address(Some(ring.used_ring() as u32), Some(0));
            queue.set_event_idx(self.options.event_idx);
            queue.set_ready(true);
            self.queues.rings.push(queue);
            self.queues.memory.write_slice(&[0; 0x4000], GuestAddress(ring.base)).unwrap();
            (ring.available, ring.kicked, ring.used) = (0, 0, 0);
            ring.free = (0..CHAINS).rev().collect();
        }
        self.queues.rings.push(Queue::new(64).unwrap());
        self.rings[RX].free.truncate(usize::from(self.options.buffers));
        self.post_buffers();
    }

    /// Resets the device and sets the queues up again, as a reloaded driver does.
    pub(super) fn reset(&mut self) {
        self.device.reset();
        self.received.clear();
        self.set_up_rings();
    }

    pub(super) fn memory(&self) -> &GuestMemoryMmap {
        &self.queues.memory
    }

    pub(super) fn signals(&self, index: usize) -> u64 {
        self.queues.signals[index]
    }

    pub(super) fn statistic(&self, name: &str) -> u64 {
        self.device.statistics().snapshot().into_iter().find(|(key, _)| *key == name).unwrap().1
    }

    pub(super) fn socket_path(&self) -> PathBuf {
        self.directory.path().join("vsock.sock")
    }

    pub(super) fn port_path(&self, port: u32) -> PathBuf {
        self.directory.path().join(format!("vsock.sock_{port}"))
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket_path()).unwrap()
    }

    // Rings.

    fn rx_slot_address(slot: u16) -> u64 {
        0x10_0000 + u64::from(slot) * 0x1_0000
    }

    fn tx_slot_address(slot: u16) -> u64 {
        0x80_0000 + u64::from(slot) * TX_SLOT_BYTES
    }

    /// Makes every free receive buffer available, and notifies the device if it wants that.
    pub(super) fn post_buffers(&mut self) {
        while let Some(slot) = self.rings[RX].free.pop() {
            let mut address = Self::rx_slot_address(slot);
            let mut pieces = Vec::new();
            for bytes in self.options.layout.cut(self.options.buffer_bytes) {
                pieces.push((address, bytes, WRITE));
                address += u64::from(bytes);
            }
            self.make_available(RX, slot, &pieces);
        }
        self.kick_if_wanted(RX).unwrap();
    }

    /// Gives the device this many more receive buffers.
    pub(super) fn add_buffers(&mut self, count: u16) {
        self.rings[RX].free.extend(0..count);
        self.post_buffers();
    }

    /// Writes the chain of `slot` and makes it available, without a notification.
    fn make_available(&mut self, index: usize, slot: u16, pieces: &[(u64, u32, u16)]) {
        let first = slot * MAX_DESCRIPTORS_PER_CHAIN;
        let base = self.rings[index].descriptors();
        for (position, &(address, bytes, flags)) in pieces.iter().enumerate() {
            let descriptor = first + position as u16;
            let last = position + 1 == pieces.len();
            let flags = if last { flags } else { flags | NEXT };
            self.write_descriptor(base, descriptor, address, bytes, flags, descriptor + 1);
        }
        self.publish(index, first);
    }

    fn write_descriptor(&self, table: u64, index: u16, address: u64, bytes: u32, flags: u16, next: u16) {
        let mut raw = [0; 16];
        raw[0..8].copy_from_slice(&address.to_le_bytes());
        raw[8..12].copy_from_slice(&bytes.to_le_bytes());
        raw[12..14].copy_from_slice(&flags.to_le_bytes());
        raw[14..16].copy_from_slice(&next.to_le_bytes());
        self.queues.memory.write_slice(&raw, GuestAddress(table + u64::from(index) * 16)).unwrap();
    }

    fn publish(&mut self, index: usize, head: u16) {
        let ring = &mut self.rings[index];
        let entry = ring.available_ring() + 4 + u64::from(ring.available % RING_SIZE) * 2;
        self.queues.memory.write_obj(head.to_le(), GuestAddress(entry)).unwrap();
        ring.available = ring.available.wrapping_add(1);
        let index_address = GuestAddress(ring.available_ring() + 2);
        self.queues.memory.store(ring.available.to_le(), index_address, Ordering::Release).unwrap();
    }

    fn kick_if_wanted(&mut self, index: usize) -> Result<(), DeviceError> {
        fence(Ordering::SeqCst);
        let ring = &mut self.rings[index];
        let (old, new) = (ring.kicked, ring.available);
        ring.kicked = new;
        let read = |address| u16::from_le(self.queues.memory.read_obj(GuestAddress(address)).unwrap());
        let wanted = if self.options.event_idx {
            let event: u16 = read(ring.used_ring() + 4 + u64::from(RING_SIZE) * 8);
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            old != new && read(ring.used_ring()) & 1 == 0
        };
        if wanted { self.kick(index) } else { Ok(()) }
    }

    pub(super) fn set_ready(&mut self, index: usize, ready: bool) {
        self.queues.rings[index].set_ready(ready);
    }

    /// Notifies the device of a queue, whether or not it wants that.
    pub(super) fn kick(&mut self, index: usize) -> Result<(), DeviceError> {
        as_device(self.device.device_type(), || self.device.queue_kicked(index, &mut self.queues))
    }

    /// Takes used elements: the slots with the bytes written.
    fn take_used(&mut self, index: usize) -> Vec<(u16, u32)> {
        let ring = &mut self.rings[index];
        let memory = &self.queues.memory;
        let device_index: u16 =
            u16::from_le(memory.load(GuestAddress(ring.used_ring() + 2), Ordering::Acquire).unwrap());
        let mut taken = Vec::new();
        while ring.used != device_index {
            let entry = ring.used_ring() + 4 + u64::from(ring.used % RING_SIZE) * 8;
            let id = u32::from_le(memory.read_obj(GuestAddress(entry)).unwrap());
            let bytes = u32::from_le(memory.read_obj(GuestAddress(entry + 4)).unwrap());
            taken.push((id as u16 / MAX_DESCRIPTORS_PER_CHAIN, bytes));
            ring.used = ring.used.wrapping_add(1);
        }
        // used_event: asks for an interrupt for the next one.
        let event = ring.available_ring() + 4 + u64::from(RING_SIZE) * 2;
        memory.write_obj(ring.used.to_le(), GuestAddress(event)).unwrap();
        fence(Ordering::SeqCst);
        taken
    }

    /// Takes what the device has put into receive buffers, without posting the buffers again.
    pub(super) fn take_packets(&mut self) {
        for (slot, bytes) in self.take_used(RX) {
            self.rings[RX].free.push(slot);
            let mut packet = vec![0; bytes as usize];
            self.queues.memory.read_slice(&mut packet, GuestAddress(Self::rx_slot_address(slot))).unwrap();
            let header = Header::decode(packet[..HEADER_BYTES].try_into().unwrap());
            assert_eq!(header.len as usize, packet.len() - HEADER_BYTES, "length of a packet and of its buffer");
            assert_eq!((header.dst_cid, header.kind), (GUEST_CID, TYPE_STREAM));
            assert!(self.allow_any_source || header.src_cid == HOST_CID, "from CID {}", header.src_cid);
            self.received.push_back(Packet { header, payload: packet.split_off(HEADER_BYTES) });
        }
    }

    // Running.

    /// Has the device handle its host events, waiting up to `timeout` milliseconds for the first, then takes and posts
    /// receive buffers until nothing moves any more.
    pub(super) fn run(&mut self, timeout: u16) {
        if self.wait_for_host(timeout) {
            self.serve_host();
        }
        loop {
            let before = self.received.len();
            self.take_packets();
            self.post_buffers();
            if self.received.len() == before {
                break;
            }
        }
    }

    /// Handles one host event, if there is one.
    pub(super) fn host_event(&mut self, timeout: u16) -> bool {
        let ready = self.wait_for_host(timeout);
        if ready {
            self.serve_host();
        }
        ready
    }

    fn serve_host(&mut self) {
        as_device(self.device.device_type(), || self.device.host_event(&mut self.queues)).unwrap();
    }

    fn wait_for_host(&self, timeout: u16) -> bool {
        let mut descriptors = [PollFd::new(self.device.host_event_fd().unwrap(), PollFlags::POLLIN)];
        poll(&mut descriptors, PollTimeout::from(timeout)).unwrap() > 0
    }

    /// Runs until `done`. Fails the test if the condition does not become true in time.
    pub(super) fn run_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..2000 {
            if done(self) {
                return;
            }
            self.run(10);
        }
        panic!("never happened: {what}");
    }

    /// The next packet for the guest.
    pub(super) fn next_packet(&mut self) -> Packet {
        self.run_until("a packet for the guest", |guest| !guest.received.is_empty());
        self.received.pop_front().unwrap()
    }

    /// Checks that no packet comes, however often the device is called.
    pub(super) fn expect_silence(&mut self) {
        for _ in 0..5 {
            self.run(2);
        }
        assert_eq!(self.received, [], "packets where none were expected");
    }

    /// Puts a packet on the transmit queue, and notifies the device if it wants that.
    pub(super) fn send(&mut self, header: &Header, payload: &[u8]) {
        self.try_send(header, payload).unwrap();
    }

    pub(super) fn try_send(&mut self, header: &Header, payload: &[u8]) -> Result<(), DeviceError> {
        for (slot, _) in self.take_used(TX) {
            self.rings[TX].free.push(slot);
        }
        let slot = self.rings[TX].free.pop().expect("the tx queue is full");
        let address = Self::tx_slot_address(slot);
        self.queues.memory.write_slice(&header.encode(), GuestAddress(address)).unwrap();
        self.queues.memory.write_slice(payload, GuestAddress(address + HEADER_BYTES as u64)).unwrap();
        let mut pieces = Vec::new();
        let mut address = address;
        let total = (HEADER_BYTES + payload.len()) as u32;
        let cut = if payload.len() < 64 { vec![total] } else { self.options.layout.cut(total) };
        for bytes in cut {
            pieces.push((address, bytes, 0));
            address += u64::from(bytes);
        }
        self.make_available(TX, slot, &pieces);
        self.kick_if_wanted(TX)
    }

    /// Whether the transmit queue has room for another packet.
    pub(super) fn can_send(&mut self) -> bool {
        for (slot, _) in self.take_used(TX) {
            self.rings[TX].free.push(slot);
        }
        !self.rings[TX].free.is_empty()
    }

    /// Puts raw descriptors (index, address, bytes, flags, next) on a queue, makes `head` available and notifies the
    /// device.
    pub(super) fn send_raw(
        &mut self,
        index: usize,
        descriptors: &[(u16, u64, u32, u16, u16)],
        head: u16,
    ) -> Result<(), DeviceError> {
        let table = self.rings[index].descriptors();
        for &(position, address, bytes, flags, next) in descriptors {
            self.write_descriptor(table, position, address, bytes, flags, next);
        }
        self.publish(index, head);
        self.kick(index)
    }

    // Ordinary packets.

    /// A packet from the guest's port to the host's.
    pub(super) fn header(operation: Operation, host_port: u32, guest_port: u32) -> Header {
        Header {
            src_cid: GUEST_CID,
            dst_cid: HOST_CID,
            src_port: guest_port,
            dst_port: host_port,
            kind: TYPE_STREAM,
            op: operation.to_wire(),
            buf_alloc: 256 * 1024,
            ..Header::default()
        }
    }

    pub(super) fn send_control(&mut self, operation: Operation, host_port: u32, guest_port: u32) {
        self.send(&Self::header(operation, host_port, guest_port), &[]);
    }

    pub(super) fn send_data(&mut self, host_port: u32, guest_port: u32, payload: &[u8]) {
        let header = Header { len: payload.len() as u32, ..Self::header(Operation::ReadWrite, host_port, guest_port) };
        self.send(&header, payload);
    }

    pub(super) fn send_shutdown(&mut self, host_port: u32, guest_port: u32, closed: Closed) {
        let header = Header { flags: closed.to_wire(), ..Self::header(Operation::Shutdown, host_port, guest_port) };
        self.send(&header, &[]);
    }
}
