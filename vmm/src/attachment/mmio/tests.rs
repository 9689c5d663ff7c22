//! The registers driven as a driver would, and as a hostile one would.

use std::sync::Arc;
use std::thread;

use virtio_queue::QueueT;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::attachment::{CONFIGURATION_CHANGED, DRIVER_OK, FEATURES_OK, MmioAttachment, NEEDS_RESET, USED_BUFFER};
use super::registers::{MAGIC, QUEUE_NOTIFY};
use crate::devices::counters::Counters;
use crate::devices::rng::RngDevice;

const SIZE: u32 = 64;
const DESCRIPTORS: u32 = 0x1000;
const AVAILABLE: u32 = 0x2000;
const USED: u32 = 0x3000;
const BUFFER: u64 = 0x8000;

struct Driver {
    device: Arc<MmioAttachment>,
    memory: GuestMemoryMmap,
}

impl Driver {
    fn new() -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let device = MmioAttachment::new("rng", Box::new(RngDevice::new().unwrap()), memory.clone()).unwrap();
        Self { device: Arc::new(device), memory }
    }

    fn read(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.device.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn write(&self, offset: u64, value: u32) {
        self.device.write(offset, &value.to_le_bytes());
    }

    /// Up to `FEATURES_OK`, taking all that is offered; true if the device agrees.
    fn negotiate(&self) -> bool {
        self.write(0x70, 1);
        self.write(0x70, 3);
        for page in 0..2 {
            self.write(0x14, page);
            self.write(0x24, page);
            self.write(0x20, self.read(0x10));
        }
        self.write(0x70, 11);
        self.read(0x70) & FEATURES_OK != 0
    }

    fn set_up(&self, size: u32, descriptors: u32) -> bool {
        self.write(0x30, 0);
        self.write(0x38, size);
        for (offset, address) in [(0x80, descriptors), (0x90, AVAILABLE), (0xa0, USED)] {
            self.write(offset, address);
            self.write(offset + 4, 0);
        }
        self.write(0x44, 1);
        self.read(0x44) == 1
    }

    /// Makes a writable buffer available.
    fn offer(&self, number: u16, address: u64, bytes: u32) {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&address.to_le_bytes());
        raw[8..12].copy_from_slice(&bytes.to_le_bytes());
        raw[12] = 2;
        self.memory.write_slice(&raw, GuestAddress(u64::from(DESCRIPTORS) + u64::from(number) * 16)).unwrap();
        self.memory.write_obj(number, GuestAddress(u64::from(AVAILABLE) + 4 + u64::from(number) * 2)).unwrap();
        self.memory.write_obj(number + 1, GuestAddress(u64::from(AVAILABLE) + 2)).unwrap();
    }

    fn used(&self) -> u16 {
        self.memory.read_obj(GuestAddress(u64::from(USED) + 2)).unwrap()
    }

    fn interrupts(&self) -> u64 {
        self.device.interrupt.event.read().unwrap_or(0)
    }
}

#[test]
fn a_driver_finds_the_device_and_is_served() {
    let driver = Driver::new();
    assert_eq!((driver.read(0), driver.read(4), driver.read(8)), (MAGIC, 2, 4));
    assert!(driver.negotiate());
    assert_eq!(driver.read(0x34), SIZE);
    assert!(driver.set_up(SIZE, DESCRIPTORS));
    driver.offer(0, BUFFER, 32);
    driver.device.call(Some(0));
    assert_eq!(driver.used(), 0, "nothing is served before DRIVER_OK");
    driver.write(0x70, 15);
    driver.device.call(Some(0));
    assert_eq!(driver.used(), 1);
    assert_eq!((driver.interrupts(), driver.read(0x60)), (1, USED_BUFFER));
    driver.write(0x64, USED_BUFFER);
    assert_eq!(driver.read(0x60), 0);
    let traffic = driver.device.traffic().snapshot();
    assert_eq!(traffic[..2], [("interrupts", 1), ("doorbells", 0)]);
    driver.read(0x60);
    assert_eq!(driver.device.traffic().snapshot()[2], ("register_exits", traffic[2].1 + 1));
}

#[test]
fn the_device_s_thread_serves_doorbells_and_ends() {
    let driver = Driver::new();
    assert!(driver.negotiate() && driver.set_up(SIZE, DESCRIPTORS));
    driver.write(0x70, 15);
    let thread = driver.device.serve().unwrap();
    driver.offer(0, BUFFER, 32);
    driver.write(QUEUE_NOTIFY, 0);
    while driver.used() == 0 {
        thread::yield_now();
    }
    driver.device.end();
    thread.join().unwrap();
}

#[test]
fn the_driver_hears_only_of_the_event_it_asked_for() {
    let driver = Driver::new();
    assert!(driver.negotiate() && driver.set_up(SIZE, DESCRIPTORS));
    driver.write(0x70, 15);
    // used_event is behind the available ring: tell after the second buffer.
    driver.memory.write_obj(1u16, GuestAddress(u64::from(AVAILABLE) + 4 + u64::from(SIZE) * 2)).unwrap();
    driver.offer(0, BUFFER, 32);
    driver.device.call(Some(0));
    assert_eq!(driver.interrupts(), 0);
    driver.offer(1, BUFFER, 32);
    driver.device.call(Some(0));
    assert_eq!(driver.interrupts(), 1);
}

#[test]
fn features_that_were_not_offered_are_not_agreed_to() {
    let driver = Driver::new();
    driver.write(0x70, 3);
    driver.write(0x24, 0);
    driver.write(0x20, u32::MAX);
    driver.write(0x24, 1);
    driver.write(0x20, 1);
    driver.write(0x70, 11);
    assert_eq!(driver.read(0x70), 3);
    driver.write(0x70, 15);
    assert_eq!(driver.read(0x70) & DRIVER_OK, 0);
}

#[test]
fn a_driver_without_version_1_is_refused() {
    let driver = Driver::new();
    driver.write(0x70, 11);
    assert_eq!(driver.read(0x70) & FEATURES_OK, 0);
}

#[test]
fn a_queue_without_valid_size_or_addresses_does_not_become_ready() {
    let driver = Driver::new();
    assert!(driver.negotiate());
    driver.write(0x44, 1);
    assert_eq!(driver.read(0x44), 0, "all addresses are zero");
    assert!(!driver.set_up(SIZE, 0xffff_fff0), "the descriptors are outside of memory");
    for size in [0, 3, 128, 65_536, u32::MAX] {
        driver.write(0x38, size);
        assert_eq!(driver.device.state().queues[0].size(), 64, "{size} is no size");
    }
}

#[test]
fn queues_that_are_not_there_and_odd_widths_change_nothing() {
    let driver = Driver::new();
    assert!(driver.negotiate());
    driver.write(0x30, u32::MAX);
    assert_eq!((driver.read(0x34), driver.read(0x44)), (0, 0));
    driver.write(0x44, 1);
    driver.write(QUEUE_NOTIFY, 7);
    driver.write(QUEUE_NOTIFY, u32::MAX);
    driver.device.write(0x70, &[0]);
    driver.device.write(0x70, &[0; 8]);
    assert_eq!(driver.read(0x70), 11);
    let mut one = [0xff];
    driver.device.read(0, &mut one);
    assert_eq!(one, [0]);
}

#[test]
fn a_ready_queue_is_not_moved() {
    let driver = Driver::new();
    assert!(driver.negotiate() && driver.set_up(SIZE, DESCRIPTORS));
    driver.write(0x80, 0x7000);
    assert_eq!(driver.device.state().queues[0].desc_table(), u64::from(DESCRIPTORS));
}

#[test]
fn a_guest_that_breaks_the_rules_sees_needs_reset_and_can_reset() {
    let driver = Driver::new();
    assert!(driver.negotiate() && driver.set_up(SIZE, DESCRIPTORS));
    driver.write(0x70, 15);
    driver.offer(0, 1 << 40, 32);
    driver.device.call(Some(0));
    assert_eq!(driver.read(0x70) & NEEDS_RESET, NEEDS_RESET);
    assert_eq!(driver.read(0x60), CONFIGURATION_CHANGED);
    driver.write(0x70, 0);
    assert_eq!((driver.read(0x70), driver.read(0x44), driver.read(0x60)), (0, 0, 0));
    assert!(driver.negotiate());
}

#[test]
fn a_changed_configuration_has_a_new_generation_and_interrupts_a_ready_driver() {
    let driver = Driver::new();
    driver.device.configuration_changed();
    assert_eq!((driver.read(0xfc), driver.interrupts()), (1, 0));
    assert!(driver.negotiate() && driver.set_up(SIZE, DESCRIPTORS));
    driver.write(0x70, 15);
    driver.device.configuration_changed();
    assert_eq!((driver.read(0xfc), driver.interrupts(), driver.read(0x60)), (2, 1, CONFIGURATION_CHANGED));
}

#[test]
fn a_removed_device_leaves_nothing_on_the_host() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("vsock.sock");
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
    let vsock = crate::devices::vsock::VsockDevice::new(3, &socket).unwrap();
    let device = MmioAttachment::new("vsock", Box::new(vsock), memory).unwrap();
    assert!(socket.exists());
    device.remove_device();
    assert!(!socket.exists());
}

/// A driver of the same guest after a restore: another device over the same memory.
fn restored(driver: &Driver, saved: &serde_json::Value) -> Result<Driver, String> {
    let device =
        MmioAttachment::new("rng", Box::new(RngDevice::new().unwrap()), driver.memory.clone()).map(Arc::new).unwrap();
    device.restore(saved)?;
    Ok(Driver { device, memory: driver.memory.clone() })
}

#[test]
fn a_saved_device_goes_on_in_another_one() {
    let driver = Driver::new();
    assert!(driver.negotiate() && driver.set_up(SIZE, DESCRIPTORS));
    driver.write(0x70, 15);
    driver.offer(0, BUFFER, 32);
    driver.device.call(Some(0));
    driver.device.pause();
    driver.offer(1, BUFFER, 32);
    driver.device.call(Some(0));
    assert_eq!(driver.used(), 1, "a paused device does nothing");
    let saved = driver.device.save().unwrap();
    let again = restored(&driver, &saved).unwrap();
    again.device.call(Some(0));
    assert_eq!((again.used(), again.read(0x70)), (1, 15), "it stays paused until it is resumed");
    again.device.resume();
    assert_eq!(again.interrupts(), 1, "the interrupt that was not acknowledged comes again");
    assert!(again.device.doorbells[0].read().is_ok(), "what waits is looked for");
    again.device.call(Some(0));
    assert_eq!(again.used(), 2);
}

#[test]
fn a_paused_device_that_resumes_finds_what_it_was_given_meanwhile() {
    let driver = Driver::new();
    assert!(driver.negotiate() && driver.set_up(SIZE, DESCRIPTORS));
    driver.write(0x70, 15);
    driver.device.pause();
    driver.offer(0, BUFFER, 32);
    let thread = driver.device.serve().unwrap();
    driver.device.resume();
    while driver.used() == 0 {
        thread::yield_now();
    }
    driver.device.end();
    thread.join().unwrap();
}

#[test]
fn a_saved_device_that_does_not_fit_is_refused_with_the_reason() {
    let driver = Driver::new();
    assert!(driver.negotiate() && driver.set_up(SIZE, DESCRIPTORS));
    driver.write(0x70, 15);
    driver.device.pause();
    let saved = driver.device.save().unwrap();
    let refused = |key: &str, value: serde_json::Value| {
        let mut changed = saved.clone();
        *changed.pointer_mut(key).unwrap() = value;
        restored(&driver, &changed).err().unwrap()
    };
    assert!(refused("/name", "data".into()).contains("saved device is data"));
    assert!(refused("/device_type", 2.into()).contains("type 2"));
    assert!(refused("/driver_features", u64::MAX.into()).contains("features"));
    assert!(refused("/queues", serde_json::json!([])).contains("number of queues"));
    assert!(refused("/queues/0/size", 3.into()).contains("is invalid"));
    assert!(refused("/queues/0/maximum", 32.into()).contains("queue"));
    assert!(refused("/queues/0/descriptors", (1u64 << 40).into()).contains("place"));
    assert!(refused("/queues/0/ready", "yes".into()).contains("is invalid"));
}
