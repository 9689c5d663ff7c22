//! The device, driven by a model of a guest, with a network that keeps frames in lists.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::eventfd::EventFd;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF,
};
use virtio_queue::QueueT;

use super::backend::{Accepts, Backend, Checksum, Offload, Segmentation, Transmit};
use super::device::QUEUE_SIZES;
use super::receive_queue::{RECEIVED_CREDIT, RECEIVED_WAIT};
use super::transmit_queue::MAX_SENT;
use super::unsignalled::SMALL_BYTES;
use super::*;
use crate::devices::counters::Counters;
use crate::devices::span::Span;
use crate::devices::tests::queues::{Descriptor, TestQueues};
use crate::devices::{DeviceError, DeviceQueues, VirtioDevice};

/// Queues of the first pair.
const RX: usize = 0;
const TX: usize = 1;
/// Queues of the second pair.
const RX_SECOND: usize = 2;
const TX_SECOND: usize = 3;
/// The control queue of two pairs.
const CONTROL: usize = 4;

#[derive(Default)]
struct Frames {
    from_guest: Vec<(Vec<u8>, Offload)>,
    to_guest: VecDeque<(Vec<u8>, Offload)>,
    accepts: Accepts,
    called_again: usize,
    /// Pairs of the frames from the guest, and the pair of the next frame for it.
    pairs_from_guest: Vec<usize>,
    next_pair: usize,
    /// The last deadline the device asked for.
    deadline: Option<Instant>,
}

/// A network whose frames the test sees.
struct Network {
    frames: Arc<Mutex<Frames>>,
    event: EventFd,
}

impl Backend for Network {
    fn event_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    fn host_events(&mut self, _now: Instant) -> io::Result<()> {
        Ok(())
    }

    fn receive(&mut self, frame: Span<'_, '_>, offload: &Offload, _now: Instant) {
        let mut bytes = vec![0; frame.len()];
        frame.copy_to(&mut bytes);
        self.frames.lock().unwrap().from_guest.push((bytes, *offload));
    }

    fn set_pair(&mut self, number: usize) {
        self.frames.lock().unwrap().pairs_from_guest.push(number);
    }

    fn next_pair(&mut self, _now: Instant) -> usize {
        self.frames.lock().unwrap().next_pair
    }

    fn has_frames(&self) -> bool {
        !self.frames.lock().unwrap().to_guest.is_empty()
    }

    fn transmit(&mut self, room: Span<'_, '_>, _now: Instant) -> Transmit {
        let frames = &mut self.frames.lock().unwrap().to_guest;
        let Some((frame, offload)) = frames.front() else { return Transmit::Nothing };
        if frame.len() > room.len() {
            return Transmit::NeedsRoom;
        }
        let (length, offload) = (room.copy_from(frame), *offload);
        frames.pop_front();
        Transmit::Frame(length, offload)
    }

    fn settle(&mut self, _now: Instant, deadline: Option<Instant>) {
        self.frames.lock().unwrap().deadline = deadline;
    }

    fn call_again(&mut self) {
        self.frames.lock().unwrap().called_again += 1;
    }

    fn accepts(&mut self, accepts: Accepts) {
        self.frames.lock().unwrap().accepts = accepts;
    }

    fn reset(&mut self) {
        self.frames.lock().unwrap().to_guest.clear();
    }
}

/// A device whose driver has accepted all features except `without`.
fn device_without(without: u64) -> (NetDevice, Arc<Mutex<Frames>>, TestQueues) {
    let frames = Arc::new(Mutex::new(Frames::default()));
    let network = Network { frames: frames.clone(), event: EventFd::new().unwrap() };
    let mut device =
        NetDevice::new(Settings { mac: [2, 0, 0, 0, 0, 7], mtu: 9000, pairs: MAX_PAIRS }, Box::new(network), None);
    device.acknowledge_features(device.offered_features() & !without);
    (device, frames, TestQueues::new(&QUEUE_SIZES))
}

fn device() -> (NetDevice, Arc<Mutex<Frames>>, TestQueues) {
    device_without(0)
}

fn counter(device: &NetDevice, name: &str) -> u64 {
    device.statistics().snapshot().into_iter().find(|(key, _)| *key == name).unwrap().1
}

fn frame(length: usize) -> Vec<u8> {
    (0..length).map(|index| index as u8).collect()
}

fn give(frames: &Arc<Mutex<Frames>>, frame: Vec<u8>) {
    frames.lock().unwrap().to_guest.push_back((frame, Offload::default()));
}

#[test]
fn frames_of_the_guest_reach_the_network_whatever_their_descriptors() {
    let (mut device, frames, mut queues) = device();
    let offload = Offload {
        checksum: Some(Checksum { start: 34, offset: 16 }),
        segmentation: Segmentation::Tcp4,
        segment_bytes: 1460,
    };
    let mut contents = header::encode(&offload, 54, 0).to_vec();
    contents.extend(frame(3000));
    queues.add_with(TX, &[Descriptor::readable(12), Descriptor::readable(3000)], &contents);
    queues.add_with(TX, &[Descriptor::readable(7), Descriptor::readable(20), Descriptor::readable(2985)], &contents);
    device.queue_kicked(TX, &mut queues).unwrap();
    let received = &frames.lock().unwrap().from_guest;
    assert_eq!(received.len(), 2);
    for (bytes, seen) in received {
        assert_eq!((bytes, *seen), (&frame(3000), offload));
    }
    assert_eq!(queues.used(TX).len(), 2);
    assert_eq!(queues.signals(TX), 1, "one interrupt for the batch");
    assert_eq!((counter(&device, "frames_from_guest"), counter(&device, "bytes_from_guest")), (2, 6000));
}

#[test]
fn a_large_frame_takes_as_many_buffers_as_it_needs() {
    let (mut device, frames, mut queues) = device();
    let heads: Vec<_> = (0..4).map(|_| queues.add(RX, &[Descriptor::writable(1000)])).collect();
    give(&frames, frame(2500));
    give(&frames, frame(60));
    device.host_event(&mut queues).unwrap();
    let used = queues.used(RX);
    assert_eq!(used, [(heads[0], 1000), (heads[1], 1000), (heads[2], 512), (heads[3], 72)]);
    let first = queues.read(heads[0], 1000);
    assert_eq!((first[10], first[11], &first[12..]), (3, 0, &frame(2500)[..988]), "three buffers");
    assert_eq!(queues.read(heads[2], 512), frame(2500)[1988..]);
    assert_eq!(queues.read(heads[3], 72)[10], 1);
    assert_eq!(counter(&device, "frames_to_guest"), 2);
}

#[test]
fn what_the_guest_has_no_room_for_waits_and_nothing_is_lost() {
    let (mut device, frames, mut queues) = device();
    let first = queues.add(RX, &[Descriptor::writable(1000)]);
    give(&frames, frame(1500));
    device.host_event(&mut queues).unwrap();
    assert_eq!(queues.used(RX), []);
    assert_eq!((counter(&device, "rx_starved"), frames.lock().unwrap().called_again), (1, 0));
    let second = queues.add(RX, &[Descriptor::writable(1000)]);
    device.queue_kicked(RX, &mut queues).unwrap();
    assert_eq!(queues.used(RX), [(first, 1000), (second, 512)]);
    assert!(frames.lock().unwrap().to_guest.is_empty());
}

#[test]
fn buffers_that_were_looked_at_and_not_used_are_used_next_time() {
    let (mut device, frames, mut queues) = device();
    let heads: Vec<_> = (0..64).map(|_| queues.add(RX, &[Descriptor::writable(4000)])).collect();
    for index in 0..5 {
        give(&frames, frame(60 + index));
        device.host_event(&mut queues).unwrap();
    }
    let expected: Vec<_> = (0..5).map(|index| (heads[index], 72 + index as u32)).collect();
    assert_eq!(queues.used(RX), expected);
}

#[test]
fn a_driver_that_does_not_merge_gets_each_frame_in_one_buffer() {
    let (mut device, frames, mut queues) = device_without(1 << VIRTIO_NET_F_MRG_RXBUF);
    let small = queues.add(RX, &[Descriptor::writable(100)]);
    let large = queues.add(RX, &[Descriptor::writable(12), Descriptor::writable(2000)]);
    give(&frames, frame(1500));
    device.host_event(&mut queues).unwrap();
    assert_eq!(queues.used(RX), [(small, 0), (large, 1512)]);
    assert_eq!(queues.read(large, 1512)[12..], frame(1500));
}

#[test]
fn a_flood_is_handled_in_portions() {
    let (mut device, frames, mut queues) = device();
    for _ in 0..BUDGET + 10 {
        give(&frames, frame(60));
    }
    // One less than the queue holds, and than the budget of one call.
    for _ in 0..BUDGET - 1 {
        queues.add(RX, &[Descriptor::writable(2000)]);
    }
    device.host_event(&mut queues).unwrap();
    assert_eq!(queues.used(RX).len(), BUDGET - 1);
    assert!(queues.signals(RX) >= 4, "the guest works on the first while the last are filled");
    // The device is starved: the guest has to act.
    assert_eq!(frames.lock().unwrap().called_again, 0);
}

#[test]
fn chains_that_break_the_rules_stop_the_device() {
    let header = Descriptor::readable(12);
    let tx = [
        vec![Descriptor::readable(11)],
        vec![Descriptor::writable(100)],
        vec![header.clone(), Descriptor::writable(100)],
        vec![header.clone(), Descriptor { address: Some(u64::MAX - 10), ..Descriptor::readable(100) }],
        vec![header.clone(), Descriptor { address: Some(0), ..Descriptor::readable(u32::MAX) }],
        vec![header.clone(), Descriptor { address: Some(0), ..Descriptor::readable(70_000) }],
    ];
    let rx = [
        vec![Descriptor::writable(11)],
        vec![Descriptor::readable(1000)],
        vec![Descriptor { address: Some(u64::MAX - 10), ..Descriptor::writable(1000) }],
    ];
    for (index, cases) in [(TX, tx.as_slice()), (RX, rx.as_slice())] {
        for descriptors in cases {
            let (mut device, frames, mut queues) = device();
            give(&frames, frame(60));
            queues.add(index, descriptors);
            let error = device.queue_kicked(index, &mut queues).unwrap_err();
            assert!(matches!(error, DeviceError::Guest { queue, .. } if queue == index), "{descriptors:?}: {error}");
        }
    }
}

#[test]
fn a_header_that_asks_for_what_was_not_offered_drops_its_frame() {
    let (mut device, frames, mut queues) = device();
    for header in [[0xff; 12], [1, 0, 0, 0, 0, 0, 90, 0, 16, 0, 0, 0]] {
        let mut contents = header.to_vec();
        contents.extend(frame(100));
        queues.add_with(TX, &[Descriptor::readable(112)], &contents);
    }
    queues.add_with(TX, &[Descriptor::readable(12 + 13)], &[0; 25]);
    device.queue_kicked(TX, &mut queues).unwrap();
    assert!(frames.lock().unwrap().from_guest.is_empty());
    assert_eq!((counter(&device, "frames_dropped"), queues.used(TX).len()), (3, 3));
}

#[test]
fn the_configuration_space_has_address_and_mtu() {
    let (device, _, _) = device();
    let mut config = [0xff; 16];
    device.read_config(0, &mut config);
    assert_eq!(config, [2, 0, 0, 0, 0, 7, 0, 0, 2, 0, 0x28, 0x23, 0, 0, 0, 0]);
    let mut beyond = [0xff; 4];
    device.read_config(u64::MAX, &mut beyond);
    assert_eq!(beyond, [0; 4]);
}

#[test]
fn the_network_hears_what_the_driver_takes() {
    let (_, frames, _) = device_without(1 << VIRTIO_NET_F_GUEST_TSO6);
    assert_eq!(frames.lock().unwrap().accepts, Accepts { checksum: true, tcp4: true, tcp6: false, udp: true });
}

#[test]
fn queues_that_are_not_set_up_are_left_alone() {
    let (mut device, frames, mut queues) = device();
    give(&frames, frame(60));
    for index in [RX, TX] {
        queues.queue(index).set_ready(false);
        device.queue_kicked(index, &mut queues).unwrap();
    }
    assert_eq!((queues.used(RX).len(), queues.used(TX).len()), (0, 0));
}

/// Sends a frame of this length from the guest.
fn send(queues: &mut TestQueues, length: usize) {
    send_by(TX, queues, length);
}

fn send_by(tx: usize, queues: &mut TestQueues, length: usize) {
    let contents = [header::encode(&Offload::default(), 0, 0).to_vec(), frame(length)].concat();
    queues.add_with(tx, &[Descriptor::readable(contents.len() as u32)], &contents);
}

#[test]
fn the_interrupt_for_a_small_frame_waits_until_its_time_or_many() {
    let (mut device, frames, mut queues) = device();
    send(&mut queues, 100);
    device.queue_kicked(TX, &mut queues).unwrap();
    assert_eq!((queues.used(TX).len(), queues.signals(TX)), (1, 0), "it is sent at once, and told later");
    let due = frames.lock().unwrap().deadline.expect("the device wants to be called");
    // Waits for the clock itself.
    while Instant::now() < due {
        std::thread::yield_now();
    }
    device.host_event(&mut queues).unwrap();
    assert_eq!(queues.signals(TX), 1);
    assert_eq!(frames.lock().unwrap().deadline, None);
    for _ in 0..MAX_SENT {
        send(&mut queues, 100);
    }
    device.queue_kicked(TX, &mut queues).unwrap();
    assert_eq!((queues.signals(TX), frames.lock().unwrap().deadline), (2, None), "as many as this are told at once");
}

#[test]
fn the_interrupt_for_a_large_frame_does_not_wait_and_counts_for_those_before() {
    let (mut device, frames, mut queues) = device();
    send(&mut queues, 100);
    send(&mut queues, SMALL_BYTES);
    device.queue_kicked(TX, &mut queues).unwrap();
    assert_eq!((queues.signals(TX), frames.lock().unwrap().deadline), (1, None));
}

#[test]
fn a_reset_forgets_the_interrupt_that_was_due() {
    let (mut device, frames, mut queues) = device();
    send(&mut queues, 100);
    device.queue_kicked(TX, &mut queues).unwrap();
    device.reset();
    device.host_event(&mut queues).unwrap();
    assert_eq!((queues.signals(TX), frames.lock().unwrap().deadline), (0, None));
}

#[test]
fn interrupts_for_small_received_frames_keep_a_distance_and_those_for_large_ones_do_not() {
    let (mut device, frames, mut queues) = device();
    for _ in 0..4 {
        queues.add(RX, &[Descriptor::writable(40_000)]);
    }
    let before = Instant::now();
    give(&frames, frame(60));
    device.host_event(&mut queues).unwrap();
    assert_eq!(queues.signals(RX), 1, "the first at once");
    assert!(device.pairs[0].receive.taken_until >= Some(before + RECEIVED_WAIT));
    // As if there had been many a moment ago, however long this test takes.
    let next = Instant::now() + Duration::from_hours(1);
    device.pairs[0].receive.taken_until = Some(next + RECEIVED_CREDIT);
    give(&frames, frame(60));
    device.host_event(&mut queues).unwrap();
    assert_eq!((queues.used(RX).len(), queues.signals(RX)), (2, 1), "it is there, and told later");
    assert_eq!(frames.lock().unwrap().deadline, Some(next));
    device.pairs[0].receive.received.due = Some(Instant::now());
    device.host_event(&mut queues).unwrap();
    assert_eq!((queues.signals(RX), frames.lock().unwrap().deadline), (2, None), "its time has come");
    device.pairs[0].receive.taken_until = Some(next + RECEIVED_CREDIT);
    give(&frames, frame(SMALL_BYTES + 1));
    device.host_event(&mut queues).unwrap();
    assert_eq!((queues.signals(RX), frames.lock().unwrap().deadline), (3, None));
}

#[test]
fn a_long_frame_after_short_ones_is_given_whole() {
    let (mut device, frames, mut queues) = device();
    for _ in 0..60 {
        queues.add(RX, &[Descriptor::writable(1536)]);
    }
    for length in [60, 60, 60, 30_000] {
        give(&frames, frame(length));
    }
    device.host_event(&mut queues).unwrap();
    assert_eq!(queues.used(RX).len(), 3 + 20, "three of one buffer each, and 30,012 bytes in 20");
    assert_eq!(counter(&device, "bytes_to_guest"), 30_180);
}

/// Gives the device a command by the control queue at `index`, and returns the answer.
fn command(device: &mut NetDevice, queues: &mut TestQueues, index: usize, bytes: &[u8]) -> u8 {
    let head = queues.add_with(
        index,
        &[Descriptor::readable(2), Descriptor::readable(bytes.len() as u32 - 2), Descriptor::writable(1)],
        bytes,
    );
    device.queue_kicked(index, queues).unwrap();
    assert_eq!(queues.used(index).last(), Some(&(head, 1)));
    queues.read(head, bytes.len() + 1)[bytes.len()]
}

#[test]
fn the_second_pair_is_used_once_the_driver_says_so() {
    let (mut device, frames, mut queues) = device();
    send_by(TX_SECOND, &mut queues, 100);
    device.queue_kicked(TX_SECOND, &mut queues).unwrap();
    assert_eq!(queues.used(TX_SECOND), []);
    assert_eq!(command(&mut device, &mut queues, CONTROL, &[4, 0, 2, 0]), 0);
    assert_eq!(queues.signals(CONTROL), 1);
    assert_eq!(queues.used(TX_SECOND).len(), 1, "what waited there is sent");
    send(&mut queues, 100);
    device.queue_kicked(TX, &mut queues).unwrap();
    assert_eq!(frames.lock().unwrap().pairs_from_guest, [1, 0]);
    // Chains of two queues share the memory of these tests, so this one has its own.
    queues.add(RX, &[Descriptor::writable(1000)]);
    queues.add(RX_SECOND, &[Descriptor { address: Some(0x200_0000), ..Descriptor::writable(1000) }]);
    frames.lock().unwrap().next_pair = 1;
    give(&frames, frame(60));
    device.host_event(&mut queues).unwrap();
    assert_eq!((queues.used(RX).len(), queues.used(RX_SECOND).len()), (0, 1));
    assert_eq!((queues.signals(RX), queues.signals(RX_SECOND)), (0, 1));
    frames.lock().unwrap().next_pair = 0;
    give(&frames, frame(60));
    device.host_event(&mut queues).unwrap();
    assert_eq!((queues.used(RX).len(), queues.used(RX_SECOND).len()), (1, 1));
    assert_eq!(command(&mut device, &mut queues, CONTROL, &[4, 0, 1, 0]), 0);
    frames.lock().unwrap().next_pair = 1;
    queues.add(RX, &[Descriptor::writable(1000)]);
    give(&frames, frame(60));
    device.host_event(&mut queues).unwrap();
    assert_eq!((queues.used(RX).len(), queues.used(RX_SECOND).len()), (2, 1), "one pair again");
}

#[test]
fn a_pair_without_buffers_waits_for_its_own_kick() {
    let (mut device, frames, mut queues) = device();
    command(&mut device, &mut queues, CONTROL, &[4, 0, 2, 0]);
    frames.lock().unwrap().next_pair = 1;
    queues.add(RX, &[Descriptor::writable(1000)]);
    give(&frames, frame(60));
    device.host_event(&mut queues).unwrap();
    assert_eq!((queues.used(RX).len(), frames.lock().unwrap().called_again), (0, 0));
    queues.add(RX_SECOND, &[Descriptor::writable(1000)]);
    device.queue_kicked(RX_SECOND, &mut queues).unwrap();
    assert_eq!((queues.used(RX).len(), queues.used(RX_SECOND).len()), (0, 1));
}

#[test]
fn commands_that_are_not_possible_change_nothing() {
    let (mut device, _, mut queues) = device();
    command(&mut device, &mut queues, CONTROL, &[4, 0, 2, 0]);
    for bytes in [&[4, 0, 0, 0], &[4, 0, 3, 0], &[4, 0, 0xff, 0xff], &[4, 1, 1, 0], &[0, 0, 1, 0], &[4, 0, 1][..]] {
        assert_eq!(command(&mut device, &mut queues, CONTROL, bytes), 1, "{bytes:?}");
        assert_eq!(device.used_pairs, 2);
    }
    for descriptors in [
        vec![Descriptor::readable(4)],
        vec![Descriptor::writable(1), Descriptor::readable(4)],
        vec![Descriptor::readable(4), Descriptor { address: Some(u64::MAX - 10), ..Descriptor::writable(100) }],
    ] {
        let (mut device, _, mut queues) = self::device();
        queues.add(CONTROL, &descriptors);
        let error = device.queue_kicked(CONTROL, &mut queues).unwrap_err();
        assert!(matches!(error, DeviceError::Guest { queue: CONTROL, .. }), "{descriptors:?}: {error}");
    }
}

#[test]
fn a_driver_of_one_pair_has_its_control_queue_behind_it() {
    let (mut device, _, mut queues) = device_without(1 << VIRTIO_NET_F_MQ);
    assert_eq!(command(&mut device, &mut queues, 2, &[4, 0, 2, 0]), 1, "it has not taken the feature");
    assert_eq!(device.used_pairs, 1);
}

#[test]
fn a_device_of_one_pair_has_two_queues_and_offers_no_more() {
    let network = Network { frames: Arc::default(), event: EventFd::new().unwrap() };
    let device = NetDevice::new(Settings { mac: [2, 0, 0, 0, 0, 7], mtu: 9000, pairs: 1 }, Box::new(network), None);
    assert_eq!(device.queue_sizes(), [256, 256]);
    assert_eq!(device.offered_features() & (1 << VIRTIO_NET_F_MQ | 1 << VIRTIO_NET_F_CTRL_VQ), 0);
}

#[test]
fn pairs_in_use_are_kept_over_a_restore_and_forgotten_by_a_reset() {
    let (mut device, _, mut queues) = device();
    command(&mut device, &mut queues, CONTROL, &[4, 0, 2, 0]);
    let saved = device.save();
    let (mut again, _, _) = self::device();
    again.restore(&saved, &mut queues).unwrap();
    assert_eq!(again.used_pairs, 2);
    for state in
        [serde_json::json!({ "used_pairs": 3 }), serde_json::json!({ "used_pairs": 0 }), serde_json::json!(null)]
    {
        assert!(again.restore(&state, &mut queues).is_err(), "{state}");
    }
    again.reset();
    assert_eq!(again.used_pairs, 1);
}
