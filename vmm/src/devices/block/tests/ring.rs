//! Several requests at once: each is answered once, on its own queue, and none outlives its device. Where the host has
//! no `io_uring`, the same holds for requests one after the other.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tempfile::TempDir;
use virtio_bindings::virtio_blk::VIRTIO_BLK_F_MQ;

use super::super::config::QUEUE_SIZE;
use super::super::ring::{InFlight, Ring};
use super::super::*;
use crate::devices::counters::Counters;
use crate::devices::queue::ServedQueue;
use crate::devices::tests::queues::{Descriptor, TestQueues};
use crate::devices::{DeviceError, DeviceQueues, VirtioDevice};

const DISK_BYTES: u64 = 4 << 20;
const SIZES: [u16; 4] = [QUEUE_SIZE; 4];
const HEADER_BYTES: u32 = 16;
/// The chains of the test queues have 4 descriptors each.
const CHAINS: usize = QUEUE_SIZE as usize / 4;

struct Bench {
    _directory: TempDir,
    path: PathBuf,
    disk: Arc<Disk>,
    device: BlockDevice,
    queues: TestQueues,
}

impl Bench {
    fn new(queues: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.img");
        let sectors = (0..DISK_BYTES / SECTOR_BYTES).flat_map(|sector| [sector as u8; SECTOR_BYTES as usize]);
        fs::write(&path, sectors.collect::<Vec<u8>>()).unwrap();
        let disk = Arc::new(Disk::open(&path, false).unwrap());
        let device = BlockDevice::new(disk.clone(), "data").at_once(queues);
        Self { _directory: directory, path, disk, device, queues: TestQueues::new(&SIZES[..queues.into()]) }
    }

    fn add(&mut self, queue: usize, kind: u32, sector: u64, data: Option<Descriptor>, contents: &[u8]) -> u16 {
        let mut bytes = Vec::new();
        bytes.extend(kind.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(sector.to_le_bytes());
        bytes.extend(contents);
        let mut descriptors = vec![Descriptor::readable(HEADER_BYTES)];
        descriptors.extend(data);
        descriptors.push(Descriptor::writable(1));
        self.queues.add_with(queue, &descriptors, &bytes)
    }

    fn add_read(&mut self, queue: usize, sector: u64) -> u16 {
        self.add(queue, 0, sector, Some(Descriptor::writable(SECTOR_BYTES as u32)), &[])
    }

    fn add_write(&mut self, queue: usize, sector: u64, byte: u8) -> u16 {
        let contents = [byte; SECTOR_BYTES as usize];
        self.add(queue, 1, sector, Some(Descriptor::readable(SECTOR_BYTES as u32)), &contents)
    }

    fn add_flush(&mut self, queue: usize) -> u16 {
        self.add(queue, 4, 0, None, &[])
    }

    /// Calls the device for its own descriptor until nothing is in flight.
    fn run(&mut self) {
        while self.device.ring.as_ref().is_some_and(|ring| !ring.is_idle()) {
            let descriptor = self.device.host_event_fd().unwrap();
            poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
            self.device.host_event(&mut self.queues).unwrap();
        }
    }

    fn counter(&self, name: &str) -> u64 {
        self.disk.snapshot().into_iter().find(|(known, _)| *known == name).unwrap().1
    }
}

#[test]
fn every_read_of_a_batch_gets_its_own_sector() {
    let mut bench = Bench::new(1);
    let heads: Vec<u16> = (0..CHAINS as u64).map(|number| bench.add_read(0, number * 7)).collect();
    bench.device.queue_kicked(0, &mut bench.queues).unwrap();
    bench.run();
    let mut used = bench.queues.used(0);
    used.sort_unstable();
    let expected: Vec<(u16, u32)> = heads.iter().map(|head| (*head, SECTOR_BYTES as u32 + 1)).collect();
    assert_eq!(used, expected);
    for (number, head) in heads.iter().enumerate() {
        let memory = bench.queues.read(*head, 16 + SECTOR_BYTES as usize + 1);
        assert!(memory[16..16 + 512].iter().all(|byte| *byte == (number * 7) as u8), "request {number}");
        assert_eq!(memory[16 + 512], 0);
    }
    assert_eq!(bench.counter("reads"), CHAINS as u64);
    assert!(bench.queues.signals(0) <= used.len() as u64 / 2, "one interrupt for many requests");
}

#[test]
fn more_requests_than_the_ring_holds_are_all_answered() {
    let mut bench = Bench::new(4);
    for queue in 0..4 {
        for _ in 0..CHAINS {
            bench.add_flush(queue);
        }
    }
    // The ring has room for half of the requests.
    if let Some(ring) = &mut bench.device.ring {
        ring.keep_room(128);
    }
    for queue in 0..4 {
        bench.device.queue_kicked(queue, &mut bench.queues).unwrap();
    }
    bench.run();
    for queue in 0..4 {
        let mut heads: Vec<u16> = bench.queues.used(queue).iter().map(|(head, _)| *head).collect();
        heads.sort_unstable();
        heads.dedup();
        assert_eq!(heads.len(), CHAINS, "queue {queue}");
    }
    assert_eq!(bench.counter("flushes"), 4 * CHAINS as u64);
}

#[test]
fn short_writes_are_answered_together_and_need_no_ring() {
    let mut bench = Bench::new(1);
    for number in 0..CHAINS as u64 {
        bench.add_write(0, number, 3);
    }
    bench.device.queue_kicked(0, &mut bench.queues).unwrap();
    assert!(bench.device.ring.as_ref().is_none_or(Ring::is_idle));
    assert_eq!(bench.queues.used(0).len(), CHAINS);
    assert_eq!(bench.queues.signals(0), 1);
    assert!(fs::read(&bench.path).unwrap()[..CHAINS * 512].iter().all(|byte| *byte == 3));
}

#[test]
fn a_flush_is_answered_like_the_writes_around_it() {
    let mut bench = Bench::new(1);
    for sector in 0..8 {
        bench.add_write(0, sector, 0xee);
    }
    let flush = bench.add_flush(0);
    bench.device.queue_kicked(0, &mut bench.queues).unwrap();
    bench.run();
    assert_eq!(bench.queues.used(0).len(), 9);
    assert_eq!(bench.queues.read(flush, 17)[16], 0);
    assert_eq!((bench.counter("writes"), bench.counter("flushes")), (8, 1));
    let mut read = [0; 8 * 512];
    fs::File::open(&bench.path).unwrap().read_exact_at(&mut read, 0).unwrap();
    assert_eq!(read, [0xee; 8 * 512]);
}

#[test]
fn a_device_at_rest_has_nothing_in_flight() {
    let mut bench = Bench::new(1);
    for number in 0..CHAINS as u64 / 2 {
        bench.add_read(0, number);
        bench.add_write(0, 100 + number, 1);
    }
    bench.device.queue_kicked(0, &mut bench.queues).unwrap();
    bench.device.quiesce(&mut bench.queues).unwrap();
    assert!(bench.device.ring.as_ref().is_none_or(Ring::is_idle));
    assert_eq!(bench.queues.used(0).len(), CHAINS);
    assert_eq!((bench.counter("reads"), bench.counter("writes")), (CHAINS as u64 / 2, CHAINS as u64 / 2));
}

#[test]
fn a_reset_waits_for_what_is_in_flight_and_answers_none_of_it() {
    let mut bench = Bench::new(1);
    for number in 0..CHAINS as u64 - 1 {
        bench.add_write(0, number, 9);
    }
    bench.add_flush(0);
    let memory = bench.queues.memory().clone();
    let (batch, fault) = bench.device.take(CHAINS, &mut ServedQueue::of(0, &mut bench.queues, &memory));
    fault.unwrap();
    let Some(ring) = &mut bench.device.ring else { return };
    let memory = Arc::new(memory);
    for (head, request) in batch {
        assert!(ring.start(InFlight { queue: 0, head, request, memory: memory.clone() }).is_ok());
    }
    ring.submit().unwrap();
    bench.device.reset();
    assert!(bench.device.ring.as_ref().unwrap().is_idle());
    assert_eq!(Arc::strong_count(&memory), 1, "nothing holds the guest's memory any more");
    assert_eq!(bench.queues.used(0), []);
    // The writes are done all the same.
    let mut read = vec![0; (CHAINS - 1) * 512];
    fs::File::open(&bench.path).unwrap().read_exact_at(&mut read, 0).unwrap();
    assert!(read.iter().all(|byte| *byte == 9));
}

#[test]
fn good_requests_before_a_bad_one_are_carried_out() {
    let mut bench = Bench::new(1);
    bench.add_write(0, 0, 0x77);
    bench.queues.add(0, &[Descriptor::readable(16)]);
    let error = bench.device.queue_kicked(0, &mut bench.queues).unwrap_err();
    assert!(matches!(error, DeviceError::Guest { queue: 0, .. }), "{error}");
    drop(bench.device);
    assert_eq!(fs::read(&bench.path).unwrap()[..512], [0x77; 512]);
}

#[test]
fn several_queues_are_told_of_in_features_and_configuration() {
    let read = |device: &BlockDevice| {
        let mut bytes = [0; 2];
        device.read_config(34, &mut bytes);
        (u16::from_le_bytes(bytes), device.queue_sizes().len(), device.offered_features() >> VIRTIO_BLK_F_MQ & 1)
    };
    assert_eq!(read(&Bench::new(4).device), (4, 4, 1));
    assert_eq!(read(&Bench::new(1).device), (1, 1, 0));
    let bench = Bench::new(1);
    assert_eq!(read(&BlockDevice::new(bench.disk.clone(), "data").at_once(64)), (4, 4, 1));
}
