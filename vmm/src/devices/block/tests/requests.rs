//! Single requests of all kinds, valid and invalid, done one after the other and by a ring.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use virtio_bindings::bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_bindings::virtio_blk::VIRTIO_BLK_F_RO;
use virtio_queue::Queue;
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::mock::MockSplitQueue;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::super::*;
use crate::confinement::tests::as_device;
use crate::devices::counters::Counters;
use crate::devices::{DeviceError, DeviceQueues, VirtioDevice};

const DISK_BYTES: usize = 1 << 20;
const HEADER: u64 = 0x10_0000;
const DATA: u64 = 0x11_0000;
const STATUS: u64 = 0x13_0000;
const MEMORY_BYTES: usize = 0x20_0000;

struct Queues<'a> {
    memory: &'a GuestMemoryMmap,
    queue: Queue,
    signals: usize,
}

impl DeviceQueues for Queues<'_> {
    fn memory(&self) -> &GuestMemoryMmap {
        self.memory
    }
    fn count(&self) -> usize {
        1
    }
    fn queue(&mut self, _index: usize) -> &mut Queue {
        &mut self.queue
    }
    fn signal(&mut self, _index: usize) {
        self.signals += 1;
    }
}

/// How a device does its requests. Where the host has no `io_uring`, both ways are the first one.
#[derive(Clone, Copy)]
enum Way {
    InTurn,
    ByRing,
}

struct Bench {
    way: Way,
    _directory: TempDir,
    path: PathBuf,
    disk: Arc<Disk>,
    memory: GuestMemoryMmap,
}

#[derive(Debug, Eq, PartialEq)]
struct Answer {
    status: u8,
    used: u32,
    signals: usize,
}

impl Bench {
    fn new(read_only: bool, way: Way) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.img");
        let pattern: Vec<u8> = (0..DISK_BYTES).map(|at| (at / 512 + at) as u8).collect();
        fs::write(&path, pattern).unwrap();
        let disk = Arc::new(Disk::open(&path, read_only).unwrap());
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).unwrap();
        Self { way, _directory: directory, path, disk, memory }
    }

    fn header(&self, kind: u32, sector: u64) {
        self.memory.write_obj(kind.to_le(), GuestAddress(HEADER)).unwrap();
        self.memory.write_obj(sector.to_le(), GuestAddress(HEADER + 8)).unwrap();
        self.memory.write_obj(0xaau8, GuestAddress(STATUS)).unwrap();
    }

    /// Sends one request through the whole device.
    fn chain(&self, descriptors: &[(u64, u32, bool)]) -> Result<Answer, DeviceError> {
        let mock = MockSplitQueue::new(&self.memory, 16);
        let last = descriptors.len() - 1;
        let descriptors: Vec<RawDescriptor> = descriptors
            .iter()
            .enumerate()
            .map(|(index, &(address, length, writable))| {
                let next = if index < last { VRING_DESC_F_NEXT } else { 0 };
                let flags = next | if writable { VRING_DESC_F_WRITE } else { 0 };
                Descriptor::new(address, length, flags as u16, index as u16 + 1).into()
            })
            .collect();
        mock.add_desc_chains(&descriptors, 0).unwrap();
        self.kick(mock.create_queue().unwrap())?;
        Ok(self.answer(&mock))
    }

    fn kick(&self, queue: Queue) -> Result<usize, DeviceError> {
        let mut queues = Queues { memory: &self.memory, queue, signals: 0 };
        let mut device = self.device();
        as_device(device.device_type(), || {
            device.queue_kicked(0, &mut queues)?;
            device.quiesce(&mut queues)
        })?;
        Ok(queues.signals)
    }

    fn device(&self) -> BlockDevice {
        let device = BlockDevice::new(self.disk.clone(), "data");
        match self.way {
            Way::InTurn => device,
            Way::ByRing => device.at_once(1),
        }
    }

    fn answer(&self, mock: &MockSplitQueue<'_, GuestMemoryMmap>) -> Answer {
        let used = mock.used().ring().ref_at(0).unwrap().load();
        assert_eq!(u16::from_le(mock.used().idx().load()), 1);
        Answer { status: self.memory.read_obj(GuestAddress(STATUS)).unwrap(), used: used.len(), signals: 1 }
    }

    fn request(&self, kind: u32, sector: u64, data: &[(u64, u32, bool)]) -> Answer {
        self.header(kind, sector);
        let mut descriptors = vec![(HEADER, 16, false)];
        descriptors.extend(data);
        descriptors.push((STATUS, 1, true));
        self.chain(&descriptors).unwrap()
    }

    fn ranges(&self, kind: u32, ranges: &[(u64, u32, u32)]) -> Answer {
        for (index, (sector, sectors, flags)) in ranges.iter().enumerate() {
            let at = DATA + index as u64 * 16;
            self.memory.write_obj(sector.to_le(), GuestAddress(at)).unwrap();
            self.memory.write_obj(sectors.to_le(), GuestAddress(at + 8)).unwrap();
            self.memory.write_obj(flags.to_le(), GuestAddress(at + 12)).unwrap();
        }
        self.request(kind, 0, &[(DATA, ranges.len() as u32 * 16, false)])
    }

    fn counter(&self, name: &str) -> u64 {
        self.disk.snapshot().into_iter().find(|(known, _)| *known == name).unwrap().1
    }
}

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;
const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

fn status(answer: &Answer) -> u8 {
    answer.status
}

fn a_read_fills_every_buffer_of_the_chain(way: Way) {
    let bench = Bench::new(false, way);
    let answer = bench.request(IN, 3, &[(DATA, 512, true), (DATA + 0x5000, 1024, true)]);
    assert_eq!((answer.status, answer.used), (OK, 1537));
    let file = fs::read(&bench.path).unwrap();
    let mut read = vec![0; 1536];
    bench.memory.read_slice(&mut read[..512], GuestAddress(DATA)).unwrap();
    bench.memory.read_slice(&mut read[512..], GuestAddress(DATA + 0x5000)).unwrap();
    assert_eq!(read, file[3 * 512..6 * 512]);
    assert_eq!(bench.counter("read_bytes"), 1536);
}

fn a_write_lands_where_it_should_and_nowhere_else(way: Way) {
    let bench = Bench::new(false, way);
    let before = fs::read(&bench.path).unwrap();
    bench.memory.write_slice(&[0x5a; 1024], GuestAddress(DATA)).unwrap();
    let answer = bench.request(OUT, 7, &[(DATA, 512, false), (DATA + 512, 512, false)]);
    assert_eq!((answer.status, answer.used), (OK, 1));
    let after = fs::read(&bench.path).unwrap();
    assert_eq!(after[7 * 512..9 * 512], [0x5a; 1024]);
    assert_eq!(after[..7 * 512], before[..7 * 512]);
    assert_eq!(after[9 * 512..], before[9 * 512..]);
    assert_eq!(status(&bench.request(FLUSH, 0, &[])), OK);
    assert_eq!(bench.counter("flushes"), 1);
}

fn the_framing_of_a_request_does_not_matter(way: Way) {
    let bench = Bench::new(false, way);
    bench.header(IN, 1);
    // The header in three pieces, the status byte behind the data in one buffer.
    let answer =
        bench.chain(&[(HEADER, 4, false), (HEADER + 4, 4, false), (HEADER + 8, 8, false), (DATA, 513, true)]).unwrap();
    assert_eq!(answer.used, 513);
    let mut read = vec![0xff; 513];
    bench.memory.read_slice(&mut read, GuestAddress(DATA)).unwrap();
    assert_eq!(read[..512], fs::read(&bench.path).unwrap()[512..1024]);
    assert_eq!(read[512], OK);
}

fn what_is_outside_the_disk_or_not_whole_sectors_is_an_io_error(way: Way) {
    let bench = Bench::new(false, way);
    let last = (DISK_BYTES / 512) as u64;
    for (kind, writable) in [(IN, true), (OUT, false)] {
        assert_eq!(status(&bench.request(kind, last, &[(DATA, 512, writable)])), IOERR);
        assert_eq!(status(&bench.request(kind, last - 1, &[(DATA, 1024, writable)])), IOERR);
        assert_eq!(status(&bench.request(kind, u64::MAX, &[(DATA, 512, writable)])), IOERR);
        assert_eq!(status(&bench.request(kind, u64::MAX / 512, &[(DATA, 512, writable)])), IOERR);
        assert_eq!(status(&bench.request(kind, 0, &[(DATA, 100, writable)])), IOERR);
    }
    assert_eq!(bench.counter("invalid_requests"), 10);
}

fn buffers_outside_guest_memory_are_an_io_error(way: Way) {
    let bench = Bench::new(false, way);
    let end = MEMORY_BYTES as u64;
    for (kind, writable) in [(IN, true), (OUT, false), (GET_ID, true), (DISCARD, false)] {
        assert_eq!(status(&bench.request(kind, 0, &[(end, 512, writable)])), IOERR);
        if kind != GET_ID {
            assert_eq!(status(&bench.request(kind, 0, &[(end - 256, 512, writable)])), IOERR);
        }
        assert_eq!(status(&bench.request(kind, 0, &[(u64::MAX - 10, 512, writable)])), IOERR);
    }
}

fn a_chain_without_a_place_for_the_answer_is_an_error_of_the_device(way: Way) {
    let bench = Bench::new(false, way);
    bench.header(IN, 0);
    for descriptors in [
        // No writable byte at all; only empty ones; a status outside memory, and beyond the end of addresses.
        &[(HEADER, 16, false)][..],
        &[(HEADER, 16, false), (STATUS, 0, true)],
        &[(HEADER, 16, false), (MEMORY_BYTES as u64, 1, true)],
        &[(HEADER, 16, false), (u64::MAX, 8, true)],
        // A readable descriptor after a writable one.
        &[(STATUS, 1, true), (HEADER, 16, false)],
    ] {
        assert!(matches!(bench.chain(descriptors), Err(DeviceError::Guest { queue: 0, .. })), "{descriptors:?}");
    }
}

fn a_chain_that_runs_in_a_circle_or_out_of_the_table_is_an_error_of_the_device(way: Way) {
    let bench = Bench::new(false, way);
    bench.header(IN, 0);
    for next in [0, 15, 16, u16::MAX] {
        let mock = MockSplitQueue::new(&bench.memory, 16);
        let chained: RawDescriptor = Descriptor::new(HEADER, 16, VRING_DESC_F_NEXT as u16, next).into();
        mock.desc_table().store(0, chained).unwrap();
        let zero: RawDescriptor = Descriptor::new(0, 0, VRING_DESC_F_NEXT as u16, 15).into();
        mock.desc_table().store(15, zero).unwrap();
        mock.avail().ring().ref_at(0).unwrap().store(0u16.to_le());
        mock.avail().idx().store(1u16.to_le());
        assert!(bench.kick(mock.create_queue().unwrap()).is_err(), "next {next}");
    }
}

fn an_indirect_table_longer_than_the_queue_is_an_error_of_the_device(way: Way) {
    let bench = Bench::new(false, way);
    bench.header(IN, 0);
    for count in [256u64, 257] {
        for index in 0..count {
            let (address, length, flags) = match index {
                0 => (HEADER, 16, VRING_DESC_F_NEXT),
                last if last == count - 1 => (STATUS, 1, VRING_DESC_F_WRITE),
                _ => (DATA, 0, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE),
            };
            let descriptor: RawDescriptor = Descriptor::new(address, length, flags as u16, index as u16 + 1).into();
            bench.memory.write_obj(descriptor, GuestAddress(0x18_0000 + index * 16)).unwrap();
        }
        let mock = MockSplitQueue::new(&bench.memory, 16);
        let table = Descriptor::new(0x18_0000, count as u32 * 16, VRING_DESC_F_INDIRECT as u16, 0);
        mock.desc_table().store(0, RawDescriptor::from(table)).unwrap();
        mock.avail().ring().ref_at(0).unwrap().store(0u16.to_le());
        mock.avail().idx().store(1u16.to_le());
        assert_eq!(bench.kick(mock.create_queue().unwrap()).is_ok(), count == 256);
    }
}

fn an_available_ring_that_leaps_is_an_error_of_the_device(way: Way) {
    let bench = Bench::new(false, way);
    let mock = MockSplitQueue::new(&bench.memory, 16);
    mock.avail().idx().store(1000u16.to_le());
    assert!(matches!(bench.kick(mock.create_queue().unwrap()), Err(DeviceError::Guest { .. })));
}

fn a_short_header_is_an_io_error(way: Way) {
    let bench = Bench::new(false, way);
    bench.header(IN, 0);
    assert_eq!(status(&bench.chain(&[(HEADER, 15, false), (STATUS, 1, true)]).unwrap()), IOERR);
    assert_eq!(status(&bench.chain(&[(STATUS, 1, true)]).unwrap()), IOERR);
}

fn the_identity_is_padded_with_zeroes(way: Way) {
    let bench = Bench::new(false, way);
    let answer = bench.request(GET_ID, 0, &[(DATA, 20, true)]);
    assert_eq!((answer.status, answer.used), (OK, 21));
    let mut identity = [0xff; 20];
    bench.memory.read_slice(&mut identity, GuestAddress(DATA)).unwrap();
    assert_eq!(&identity, b"data\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
}

fn a_read_only_disk_takes_no_change(way: Way) {
    let bench = Bench::new(true, way);
    let before = fs::read(&bench.path).unwrap();
    assert_eq!(status(&bench.request(OUT, 0, &[(DATA, 512, false)])), IOERR);
    assert_eq!(status(&bench.ranges(DISCARD, &[(0, 8, 0)])), UNSUPP);
    assert_eq!(status(&bench.ranges(WRITE_ZEROES, &[(0, 8, 0)])), UNSUPP);
    assert_eq!(status(&bench.request(IN, 0, &[(DATA, 512, true)])), OK);
    assert_eq!(fs::read(&bench.path).unwrap(), before);
    assert_ne!(bench.device().offered_features() & 1 << VIRTIO_BLK_F_RO, 0);
}

fn a_discard_gives_blocks_back_and_a_write_of_zeroes_keeps_them(way: Way) {
    let bench = Bench::new(false, way);
    let blocks = || fs::metadata(&bench.path).unwrap().blocks();
    let all = blocks();
    assert_eq!(status(&bench.ranges(WRITE_ZEROES, &[(1, 15, 0)])), OK);
    assert!(blocks() >= all);
    assert_eq!(status(&bench.ranges(DISCARD, &[(0, 512, 0), (1024, 512, 0)])), OK);
    assert!(blocks() < all);
    let mut read = vec![1; 512 * 512];
    fs::File::open(&bench.path).unwrap().read_exact_at(&mut read, 1024 * 512).unwrap();
    assert!(read.iter().all(|byte| *byte == 0));
    assert_eq!(fs::metadata(&bench.path).unwrap().len(), DISK_BYTES as u64);
}

fn zeroes_with_unmap_leave_the_neighbours_alone(way: Way) {
    let bench = Bench::new(false, way);
    let before = fs::read(&bench.path).unwrap();
    assert_eq!(status(&bench.ranges(WRITE_ZEROES, &[(3, 2, 1)])), OK);
    let after = fs::read(&bench.path).unwrap();
    assert!(after[3 * 512..5 * 512].iter().all(|byte| *byte == 0));
    assert_eq!(after[..3 * 512], before[..3 * 512]);
    assert_eq!(after[5 * 512..], before[5 * 512..]);
}

fn ranges_are_checked_before_any_is_carried_out(way: Way) {
    let bench = Bench::new(false, way);
    let before = fs::read(&bench.path).unwrap();
    assert_eq!(status(&bench.ranges(WRITE_ZEROES, &[(0, 8, 0), ((DISK_BYTES / 512) as u64, 1, 0)])), IOERR);
    assert_eq!(status(&bench.ranges(DISCARD, &[(u64::MAX, 8, 0)])), IOERR);
    assert_eq!(status(&bench.ranges(DISCARD, &[(0, u32::MAX, 0)])), IOERR);
    assert_eq!(status(&bench.ranges(DISCARD, &[(0, 8, 1)])), UNSUPP);
    assert_eq!(status(&bench.ranges(WRITE_ZEROES, &[(0, 8, 2)])), UNSUPP);
    assert_eq!(status(&bench.request(DISCARD, 0, &[(DATA, 15, false)])), IOERR);
    assert_eq!(status(&bench.request(DISCARD, 0, &[])), IOERR);
    assert_eq!(fs::read(&bench.path).unwrap(), before);
}

fn an_unknown_request_is_unsupported(way: Way) {
    let bench = Bench::new(false, way);
    assert_eq!(status(&bench.request(14, 0, &[])), UNSUPP);
    assert_eq!(status(&bench.request(u32::MAX, 0, &[(DATA, 512, true)])), UNSUPP);
}

fn an_image_cut_short_on_the_host_is_an_io_error(way: Way) {
    let bench = Bench::new(false, way);
    fs::OpenOptions::new().write(true).open(&bench.path).unwrap().set_len(512).unwrap();
    assert_eq!(status(&bench.request(IN, 8, &[(DATA, 512, true)])), IOERR);
    assert_eq!(bench.counter("errors"), 1);
}

#[test]
fn an_unlocked_disk_can_be_opened_by_the_next_monitor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.img");
    fs::File::create(&path).unwrap().set_len(4096).unwrap();
    let ended = Disk::open(&path, false).unwrap();
    assert!(matches!(Disk::open(&path, false), Err(DiskError::Locked { .. })));
    ended.unlock().unwrap();
    Disk::open(&path, false).unwrap();
}

fn a_writable_disk_has_one_user(way: Way) {
    let bench = Bench::new(false, way);
    assert!(matches!(Disk::open(&bench.path, false), Err(DiskError::Locked { .. })));
    let path = bench.path.clone();
    let Bench { _directory: directory, disk, .. } = bench;
    drop(disk);
    assert!(Disk::open(&path, false).is_ok());
    drop(directory);
}

fn a_disk_grows_and_does_not_shrink(way: Way) {
    let bench = Bench::new(false, way);
    let device = bench.device();
    let capacity = || {
        let mut bytes = [0; 8];
        device.read_config(0, &mut bytes);
        u64::from_le_bytes(bytes) * 512
    };
    let file = fs::OpenOptions::new().write(true).open(&bench.path).unwrap();
    file.set_len(3 << 20).unwrap();
    assert_eq!(capacity(), 1 << 20);
    assert_eq!(bench.disk.reread_size().unwrap(), 3 << 20);
    assert_eq!(capacity(), 3 << 20);
    file.set_len(2 << 20).unwrap();
    assert!(matches!(bench.disk.reread_size(), Err(DiskError::Shrunk { .. })));
    assert_eq!(capacity(), 3 << 20);
}

#[test]
fn what_cannot_be_a_disk_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(Disk::open(directory.path(), true), Err(DiskError::Unsuitable { .. })));
    let path = directory.path().join("empty");
    assert!(matches!(Disk::open(&path, true), Err(DiskError::Missing { .. })));
    fs::write(&path, "short").unwrap();
    assert!(matches!(Disk::open(&path, true), Err(DiskError::Unsuitable { .. })));
}

fn configuration_reads_beyond_its_end_are_zero(way: Way) {
    let bench = Bench::new(false, way);
    let device = bench.device();
    for offset in [60, 1000, u64::MAX] {
        let mut bytes = [0xff; 4];
        device.read_config(offset, &mut bytes);
        assert_eq!(bytes, [0; 4]);
    }
    let mut bytes = [0xff; 8];
    device.read_config(56, &mut bytes);
    assert_eq!(bytes, [1, 0, 0, 0, 0, 0, 0, 0]);
}

/// Runs each test in both ways.
macro_rules! for_both_ways {
    ($($name:ident),* $(,)?) => {
        mod in_turn {
            $(#[test] fn $name() { super::$name(super::Way::InTurn); })*
        }
        mod by_ring {
            $(#[test] fn $name() { super::$name(super::Way::ByRing); })*
        }
    };
}

for_both_ways!(
    a_read_fills_every_buffer_of_the_chain,
    a_write_lands_where_it_should_and_nowhere_else,
    the_framing_of_a_request_does_not_matter,
    what_is_outside_the_disk_or_not_whole_sectors_is_an_io_error,
    buffers_outside_guest_memory_are_an_io_error,
    a_chain_without_a_place_for_the_answer_is_an_error_of_the_device,
    an_indirect_table_longer_than_the_queue_is_an_error_of_the_device,
    a_chain_that_runs_in_a_circle_or_out_of_the_table_is_an_error_of_the_device,
    an_available_ring_that_leaps_is_an_error_of_the_device,
    a_short_header_is_an_io_error,
    the_identity_is_padded_with_zeroes,
    a_read_only_disk_takes_no_change,
    a_discard_gives_blocks_back_and_a_write_of_zeroes_keeps_them,
    zeroes_with_unmap_leave_the_neighbours_alone,
    ranges_are_checked_before_any_is_carried_out,
    an_unknown_request_is_unsupported,
    an_image_cut_short_on_the_host_is_an_io_error,
    a_writable_disk_has_one_user,
    a_disk_grows_and_does_not_shrink,
    configuration_reads_beyond_its_end_are_zero,
);
