//! The balloon with test queues: dropped memory is really gone, and a guest that names memory it does not have stops
//! the device.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::json;
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

use super::device::{ACTUAL, DEFLATE, FREE_PAGE_REPORTING, INFLATE, QUEUE_SIZES, REPORTING};
use super::*;
use crate::devices::counters::Counters;
use crate::devices::tests::queues::{Descriptor, TestQueues};
use crate::devices::{DeviceError, DeviceQueues, VirtioDevice};

const MEMORY_BYTES: usize = 64 << 20;
/// Away from the rings and the memory of chains.
const FREE: u64 = 40 << 20;
const FREE_BYTES: u32 = 4 << 20;

fn file() -> File {
    let file = File::from(memfd_create("balloon-test", MFdFlags::MFD_CLOEXEC).unwrap());
    file.set_len(MEMORY_BYTES as u64).unwrap();
    file
}

/// Queues in memory that is a mapping of `file`.
fn queues_in(file: &File, flags: i32) -> TestQueues {
    let offset = FileOffset::new(file.try_clone().unwrap(), 0);
    let mapping =
        MmapRegion::build(Some(offset), MEMORY_BYTES, libc::PROT_READ | libc::PROT_WRITE, flags | libc::MAP_NORESERVE)
            .unwrap();
    let region = GuestRegionMmap::new(mapping, GuestAddress(0)).unwrap();
    TestQueues::with_memory(&QUEUE_SIZES, GuestMemoryMmap::from_regions(vec![region]).unwrap())
}

fn fill(queues: &TestQueues, byte: u8) {
    queues.memory().write_slice(&vec![byte; FREE_BYTES as usize], GuestAddress(FREE)).unwrap();
}

fn at(queues: &TestQueues, address: u64) -> u8 {
    queues.memory().read_obj(GuestAddress(address)).unwrap()
}

fn counter(device: &BalloonDevice, name: &str) -> u64 {
    device.size().snapshot().into_iter().find(|(key, _)| *key == name).unwrap().1
}

fn reported(address: u64, bytes: u32) -> Descriptor {
    Descriptor { address: Some(address), ..Descriptor::writable(bytes) }
}

fn numbers(pages: &[u32]) -> Vec<u8> {
    pages.iter().flat_map(|page| page.to_le_bytes()).collect()
}

fn kick_numbers(
    device: &mut BalloonDevice,
    queues: &mut TestQueues,
    index: usize,
    pages: &[u32],
) -> Result<(), DeviceError> {
    queues.add_with(index, &[Descriptor::readable(pages.len() as u32 * 4)], &numbers(pages));
    device.queue_kicked(index, queues)
}

#[test]
fn reported_pages_are_the_host_s_again_before_the_report_is_answered() {
    for queue in REPORTING {
        let file = file();
        let mut queues = queues_in(&file, libc::MAP_SHARED);
        fill(&queues, 7);
        let before = file.metadata().unwrap().blocks();
        let mut device = BalloonDevice::new();
        let half = FREE_BYTES / 2;
        queues.add(queue, &[reported(FREE + u64::from(half), half), reported(FREE, half)]);
        device.queue_kicked(queue, &mut queues).unwrap();
        assert_eq!(queues.used(queue).len(), 1);
        assert_eq!(queues.signals(queue), 1);
        // The rings have taken some pages in the meantime.
        assert!((before - file.metadata().unwrap().blocks()) * 512 > u64::from(FREE_BYTES) * 9 / 10);
        assert_eq!(at(&queues, FREE), 0);
        assert_eq!((counter(&device, "reported_bytes"), counter(&device, "reports")), (FREE_BYTES.into(), 1));
    }
}

#[test]
fn a_snapshot_s_file_is_not_touched_by_reports() {
    let file = file();
    file.write_all_at(&vec![3; FREE_BYTES as usize], FREE).unwrap();
    let mut queues = queues_in(&file, libc::MAP_PRIVATE);
    fill(&queues, 7);
    let mut device = BalloonDevice::new();
    queues.add(2, &[reported(FREE, FREE_BYTES)]);
    device.queue_kicked(2, &mut queues).unwrap();
    assert_eq!(at(&queues, FREE), 3, "the private copy is gone");
    let mut kept = vec![0; FREE_BYTES as usize];
    file.read_exact_at(&mut kept, FREE).unwrap();
    assert!(kept.iter().all(|byte| *byte == 3));
}

#[test]
fn memory_without_a_file_is_given_back_too() {
    let mut queues = TestQueues::new(&QUEUE_SIZES);
    fill(&queues, 7);
    let mut device = BalloonDevice::new();
    queues.add(2, &[reported(FREE, FREE_BYTES)]);
    device.queue_kicked(2, &mut queues).unwrap();
    assert_eq!(at(&queues, FREE), 0);
}

#[test]
fn a_page_reported_in_part_is_kept() {
    let mut queues = TestQueues::new(&QUEUE_SIZES);
    fill(&queues, 7);
    let mut device = BalloonDevice::new();
    queues.add(2, &[reported(FREE + 1, 0x2000)]);
    device.queue_kicked(2, &mut queues).unwrap();
    assert_eq!([FREE, FREE + 0x1000, FREE + 0x2000].map(|address| at(&queues, address)), [7, 0, 7]);
}

#[test]
fn a_report_of_what_is_no_memory_stops_the_device() {
    for descriptor in [
        reported(MEMORY_BYTES as u64 - 0x1000, 0x2000),
        reported(1 << 40, 0x1000),
        reported(u64::MAX - 0xfff, 0x2000),
        Descriptor { address: Some(FREE), ..Descriptor::readable(0x1000) },
    ] {
        let mut queues = TestQueues::new(&QUEUE_SIZES);
        fill(&queues, 7);
        let mut device = BalloonDevice::new();
        queues.add(2, &[reported(FREE, FREE_BYTES), descriptor]);
        let error = device.queue_kicked(2, &mut queues).unwrap_err();
        assert!(matches!(error, DeviceError::Guest { queue: 2, .. }), "{error}");
        assert_eq!(at(&queues, FREE), 7, "nothing of a bad report is carried out");
    }
}

#[test]
fn inflated_pages_are_given_back_and_deflated_ones_usable() {
    let file = file();
    let mut queues = queues_in(&file, libc::MAP_SHARED);
    fill(&queues, 7);
    let mut device = BalloonDevice::new();
    let first = (FREE / PAGE_BYTES) as u32;
    // Two adjacent pages in the driver's order, which may be any, and a separate one.
    kick_numbers(&mut device, &mut queues, INFLATE, &[first + 1, first, first + 9]).unwrap();
    let seen = [0, 1, 2, 8, 9, 10].map(|page| at(&queues, FREE + page * PAGE_BYTES));
    assert_eq!(seen, [0, 0, 7, 7, 0, 7]);
    queues.memory().write_obj(5u8, GuestAddress(FREE)).unwrap();
    kick_numbers(&mut device, &mut queues, DEFLATE, &[first]).unwrap();
    assert_eq!(at(&queues, FREE), 5);
    assert_eq!((counter(&device, "inflated_bytes"), counter(&device, "deflated_bytes")), (3 * 4096, 4096));
    assert_eq!((queues.used(INFLATE).len(), queues.used(DEFLATE).len()), (1, 1));
}

#[test]
fn a_page_number_outside_of_memory_stops_the_device() {
    let end = (MEMORY_BYTES as u64 / PAGE_BYTES) as u32;
    for index in [INFLATE, DEFLATE] {
        for page in [end, u32::MAX] {
            let mut queues = TestQueues::new(&QUEUE_SIZES);
            let error = kick_numbers(&mut BalloonDevice::new(), &mut queues, index, &[1000, page]).unwrap_err();
            assert!(matches!(error, DeviceError::Guest { .. }), "{error}");
        }
        let mut queues = TestQueues::new(&QUEUE_SIZES);
        queues.add(index, &[Descriptor::readable(7)]);
        assert!(BalloonDevice::new().queue_kicked(index, &mut queues).is_err(), "half a number");
        let mut queues = TestQueues::new(&QUEUE_SIZES);
        queues.add(index, &[Descriptor::writable(8)]);
        assert!(BalloonDevice::new().queue_kicked(index, &mut queues).is_err(), "nothing to read");
    }
}

#[test]
fn the_host_asks_for_a_size_and_the_guest_tells_the_one_it_has() {
    let mut device = BalloonDevice::new();
    let size = device.size();
    assert_eq!(size.want((10 << 20) + 5), 10 << 20);
    let mut space = [0xff; 12];
    device.read_config(0, &mut space);
    assert_eq!(space[..4], 2560u32.to_le_bytes());
    assert_eq!(space[8..], [0; 4]);
    device.write_config(4, &100u32.to_le_bytes());
    device.write_config(0, &1u32.to_le_bytes());
    device.write_config(5, &[1, 2, 3]);
    device.write_config(u64::MAX, &[1; 4]);
    assert_eq!(size.actual(), 100 * PAGE_BYTES);
    assert_eq!(counter(&device, "wanted_bytes"), 10 << 20);
    device.reset();
    assert_eq!((size.actual(), counter(&device, "wanted_bytes")), (0, 10 << 20));
}

#[test]
fn the_sizes_outlive_a_snapshot_and_a_damaged_one_is_refused() {
    let mut device = BalloonDevice::new();
    device.size().want(1 << 20);
    device.write_config(ACTUAL, &7u32.to_le_bytes());
    let state = device.save();
    let (mut restored, mut queues) = (BalloonDevice::new(), TestQueues::new(&QUEUE_SIZES));
    restored.restore(&state, &mut queues).unwrap();
    assert_eq!(restored.save(), state);
    for damaged in [json!(null), json!({"wanted_pages": 1}), json!({"wanted_pages": -1, "actual_pages": 1u64 << 40})] {
        assert!(restored.restore(&damaged, &mut queues).is_err());
    }
    assert_eq!(restored.save(), state);
}

#[test]
fn page_poisoning_is_not_offered() {
    const PAGE_POISON: u64 = 1 << 4;
    let offered = BalloonDevice::new().offered_features();
    assert_eq!(offered & (PAGE_POISON | FREE_PAGE_REPORTING), FREE_PAGE_REPORTING);
}
