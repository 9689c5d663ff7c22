//! Guests that break the rules cause an error or a reset, never a panic, and no byte outside their memory.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use vm_memory::{Bytes, GuestAddress};

use super::super::device::{RX, TX};
use super::super::fuzzing::vsock_held;
use super::super::packet::{HEADER_BYTES, HOST_CID, Header, Operation};

use super::driver::{GUEST_CID, Guest, Options};
use super::{connect_to_guest, guest};
use crate::devices::{DeviceError, VirtioDevice};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const PACKET: u64 = 0xf0_0000;
const MEMORY_BYTES: u64 = 24 << 20;

fn rejected(result: Result<(), DeviceError>, queue: usize, word: &str) {
    match result {
        Err(DeviceError::Guest { queue: found, reason }) => {
            assert_eq!(found, queue);
            assert!(reason.contains(word), "{reason:?} does not say {word:?}");
        }
        other => panic!("{word}: {other:?}"),
    }
}

/// A word of the reason, descriptors (index, address, bytes, flags, next), head.
type Case = (&'static str, Vec<(u16, u64, u32, u16, u16)>, u16);

#[test]
fn malformed_chains_on_tx_stop_the_device_with_the_reason() {
    let header = Guest::header(Operation::Request, 1, 1);
    let half = (HEADER_BYTES / 2) as u32;
    let whole = HEADER_BYTES as u32;
    let cases: Vec<Case> = vec![
        ("less than a header", vec![(0, PACKET, half, 0, 0)], 0),
        ("less than a header", vec![(0, PACKET, 0, 0, 0)], 0),
        ("device-writable", vec![(0, PACKET, whole, WRITE, 0)], 0),
        ("device-writable", vec![(0, PACKET, whole, NEXT, 1), (1, PACKET, 10, WRITE, 0)], 0),
        ("loops", vec![(0, PACKET, 44, NEXT, 0)], 0),
        ("loops", vec![(0, PACKET, 0, NEXT, 1), (1, PACKET, 0, NEXT, 0)], 0),
        ("leaves its table", vec![(0, PACKET, whole, NEXT, 5000)], 0),
        ("leaves its table", vec![], 5000),
        ("descriptor of 44 bytes at 0x1800000", vec![(0, MEMORY_BYTES, whole, 0, 0)], 0),
        ("descriptor of 44 bytes", vec![(0, u64::MAX - 20, whole, 0, 0)], 0),
        ("descriptor of 4096 bytes", vec![(0, PACKET, whole, NEXT, 1), (1, MEMORY_BYTES - 10, 4096, 0, 0)], 0),
        ("descriptor of 4294967295 bytes", vec![(0, PACKET, u32::MAX, 0, 0)], 0),
        ("empty", vec![(0, PACKET, 7, INDIRECT, 0)], 0),
        ("empty", vec![(0, MEMORY_BYTES, 16, INDIRECT, 0)], 0),
    ];
    for (word, descriptors, head) in cases {
        let mut guest = guest();
        guest.memory().write_slice(&header.encode(), GuestAddress(PACKET)).unwrap();
        rejected(guest.send_raw(TX, &descriptors, head), TX, word);
    }
}

#[test]
fn a_chain_of_too_many_descriptors_is_rejected() {
    // An indirect table of 1000 descriptors.
    for bytes in [0_u32, 1] {
        let mut guest = guest();
        for index in 0..1000_u64 {
            let mut raw = [0; 16];
            raw[0..8].copy_from_slice(&PACKET.to_le_bytes());
            raw[8..12].copy_from_slice(&bytes.to_le_bytes());
            raw[12..14].copy_from_slice(&(if index == 999 { 0 } else { NEXT }).to_le_bytes());
            raw[14..16].copy_from_slice(&(index as u16 + 1).to_le_bytes());
            guest.memory().write_slice(&raw, GuestAddress(PACKET + 0x1000 + index * 16)).unwrap();
        }
        rejected(guest.send_raw(TX, &[(0, PACKET + 0x1000, 16000, INDIRECT, 0)], 0), TX, "more than 256");
    }
}

#[test]
fn an_indirect_chain_is_as_good_as_any() {
    let mut guest = guest();
    let header = Guest::header(Operation::CreditRequest, 1, 1);
    guest.memory().write_slice(&header.encode(), GuestAddress(PACKET)).unwrap();
    let mut raw = [0; 16];
    raw[0..8].copy_from_slice(&PACKET.to_le_bytes());
    raw[8] = HEADER_BYTES as u8;
    guest.memory().write_slice(&raw, GuestAddress(PACKET + 0x1000)).unwrap();
    guest.send_raw(TX, &[(0, PACKET + 0x1000, 16, INDIRECT, 0)], 0).unwrap();
    assert_eq!(guest.next_packet().operation(), Operation::Reset);
}

#[test]
fn a_length_beyond_the_packet_is_rejected() {
    for len in [1, 64 * 1024, 64 * 1024 + 1, u32::MAX] {
        let mut guest = guest();
        let header = Header { len, ..Guest::header(Operation::ReadWrite, 1, 1) };
        rejected(guest.try_send(&header, &[]), TX, "claims");
    }
}

#[test]
fn an_available_index_far_ahead_is_rejected() {
    let mut guest = guest();
    let available = GuestAddress(0x20000 + 0x2000 + 2);
    guest.memory().write_obj(5000_u16, available).unwrap();
    rejected(guest.kick(TX), TX, "available");
}

#[test]
fn malformed_receive_buffers_stop_the_device_with_the_reason() {
    let cases = [
        ("less than a header", vec![(0, PACKET, 20, WRITE, 0)]),
        ("device-readable", vec![(0, PACKET, 4096, 0, 0)]),
        ("device-readable", vec![(0, PACKET, 44, NEXT, 1), (1, PACKET, 4096, WRITE, 0)]),
        ("loops", vec![(0, PACKET, 44, WRITE | NEXT, 0)]),
        ("descriptor of 4096 bytes", vec![(0, MEMORY_BYTES - 100, 4096, WRITE, 0)]),
    ];
    for (word, descriptors) in cases {
        let mut guest = Guest::new(Options { buffers: 0, ..Options::default() });
        guest.send_control(Operation::CreditRequest, 1, 1);
        rejected(guest.send_raw(RX, &descriptors, 0), RX, word);
    }
}

#[test]
fn a_receive_buffer_for_a_header_alone_cannot_take_data() {
    let mut guest = Guest::new(Options { buffer_bytes: HEADER_BYTES as u32, ..Options::default() });
    let mut socket = guest.connect();
    socket.write_all(b"CONNECT 80\n").unwrap();
    // Control packets fit.
    let host_port = guest.next_packet().header.src_port;
    let response = Guest::header(Operation::Response, host_port, 80);
    rejected(guest.try_send(&response, &[]), RX, "no room");
}

#[test]
fn packets_that_are_not_the_guests_are_dropped() {
    let mut guest = guest();
    let (mut socket, host_port) = connect_to_guest(&mut guest, 80);
    for src_cid in [0, 1, HOST_CID, GUEST_CID + 1, u64::MAX] {
        let header = Header { src_cid, len: 4, ..Guest::header(Operation::ReadWrite, host_port, 80) };
        guest.send(&header, b"evil");
    }
    guest.expect_silence();
    assert_eq!(guest.statistic("packets_dropped"), 5);
    socket.set_nonblocking(true).unwrap();
    assert!(socket.read(&mut [0; 4]).is_err(), "nothing arrived");
}

#[test]
fn packets_for_another_cid_or_of_another_type_are_answered_with_a_reset() {
    let mut guest = Guest::new(Options::default());
    let request = Guest::header(Operation::Request, 9, 80);
    let _listener = UnixListener::bind(guest.port_path(9)).unwrap();
    guest.send(&Header { kind: 2, ..request }, &[]);
    let reset = guest.next_packet();
    assert_eq!((reset.operation(), reset.header.src_port, reset.header.dst_port), (Operation::Reset, 9, 80));
    guest.send(&Header { kind: 2, op: Operation::Reset.to_wire(), ..request }, &[]);
    guest.expect_silence();
    // The answer comes from the address that was asked, or the driver would not find its socket.
    guest.allow_any_source = true;
    guest.send(&Header { dst_cid: 77, ..request }, &[]);
    let reset = guest.next_packet();
    assert_eq!((reset.operation(), reset.header.src_cid, reset.header.dst_cid), (Operation::Reset, 77, GUEST_CID));
}

#[test]
fn late_packets_are_answered_with_a_reset_and_a_reset_is_not() {
    let mut guest = guest();
    for operation in [
        Operation::Response,
        Operation::Shutdown,
        Operation::ReadWrite,
        Operation::CreditUpdate,
        Operation::CreditRequest,
    ] {
        guest.send_control(operation, 12, 34);
        let reset = guest.next_packet();
        assert_eq!((reset.operation(), reset.header.src_port, reset.header.dst_port), (Operation::Reset, 12, 34));
    }
    guest.send_control(Operation::Reset, 12, 34);
    guest.expect_silence();
}

#[test]
fn an_operation_out_of_place_or_unknown_resets_the_stream() {
    for op in [0, 1, 2, 8, 0xffff] {
        let mut guest = guest();
        let (mut socket, host_port) = connect_to_guest(&mut guest, 80);
        guest.send(&Header { op, ..Guest::header(Operation::Request, host_port, 80) }, &[]);
        let reset = guest.next_packet();
        assert_eq!((reset.operation(), reset.header.src_port), (Operation::Reset, host_port), "op {op}");
        assert_eq!(socket.read(&mut [0; 1]).unwrap(), 0);
    }
}

#[test]
fn data_before_the_answer_resets_the_request() {
    let mut guest = guest();
    let mut socket = guest.connect();
    socket.write_all(b"CONNECT 80\n").unwrap();
    let host_port = guest.next_packet().header.src_port;
    guest.send_data(host_port, 80, b"too early");
    assert_eq!(guest.next_packet().operation(), Operation::Reset);
    let mut all = Vec::new();
    socket.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"");
}

#[test]
fn data_after_the_guests_own_half_close_resets_the_stream() {
    let mut guest = guest();
    let (mut socket, host_port) = connect_to_guest(&mut guest, 80);
    guest.send_data(host_port, 80, b"done");
    guest.send_shutdown(host_port, 80, super::super::packet::Closed::SEND);
    guest.send_data(host_port, 80, b"no, more");
    assert_eq!(guest.next_packet().operation(), Operation::Reset);
    let mut all = Vec::new();
    socket.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"done");
}

#[test]
fn a_guest_that_takes_no_answers_is_not_listened_to_for_ever() {
    let mut guest = Guest::new(Options { buffers: 0, ..Options::default() });
    // Each of these needs an answer, and there is no room for any.
    let mut sent = 0;
    while guest.can_send() {
        guest.send_control(Operation::CreditRequest, 12, 34);
        sent += 1;
        assert!(sent < 10_000, "the answers are not bounded");
    }
    // As soon as the guest makes room, every one is answered.
    let mut answered = 0;
    guest.add_buffers(32);
    guest.run_until("every packet is answered", |guest| {
        answered += guest.received.drain(..).count();
        answered == sent
    });
    assert!(guest.can_send());
}

#[test]
fn a_kick_of_a_queue_that_is_not_ready_does_not_keep_the_device_busy() {
    let mut guest = guest();
    guest.set_ready(TX, false);
    guest.kick(TX).unwrap();
    assert!(!guest.host_event(0), "the device wants to be called again for nothing");
}

#[test]
fn streams_that_end_unheard_leave_nothing_behind() {
    let mut guest = Guest::new(Options { buffers: 0, ..Options::default() });
    let listener = UnixListener::bind(guest.port_path(9)).unwrap();
    for port in 0..500 {
        guest.send_control(Operation::Request, 9, port);
        drop(listener.accept().unwrap());
        guest.send_control(Operation::Reset, 9, port);
    }
    let held = vsock_held(&guest.device);
    assert!(held.turns < 100, "{held:?}");
}

/// Marsaglia's xorshift, for reproducible noise.
pub(super) struct Noise(pub(super) u64);

impl Noise {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

#[test]
fn arbitrary_headers_and_chains_never_panic() {
    for seed in 1..=20_u64 {
        let mut noise = Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut guest = guest();
        guest.allow_any_source = true;
        let listener = UnixListener::bind(guest.port_path(9)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut sockets = Vec::new();
        for step in 0..400_u32 {
            match noise.below(10) {
                0 => {
                    let mut socket = guest.connect();
                    socket.set_nonblocking(true).unwrap();
                    let line = noise.pick(&["CONNECT 80\n", "CONNECT 81\nhello", "CONN", "\n", "nonsense\n"]);
                    socket.write_all(line.as_bytes()).unwrap();
                    sockets.push(socket);
                }
                1 => {
                    if let Ok((socket, _)) = listener.accept() {
                        socket.set_nonblocking(true).unwrap();
                        sockets.push(socket);
                    }
                }
                2 if !sockets.is_empty() => {
                    let index = noise.below(sockets.len() as u64) as usize;
                    drop(sockets.swap_remove(index));
                }
                3 if !sockets.is_empty() => {
                    let index = noise.below(sockets.len() as u64) as usize;
                    let _ = sockets[index].write(&vec![step as u8; noise.below(100_000) as usize]);
                }
                _ => {
                    let payload = vec![step as u8; noise.below(2000) as usize];
                    let header = Header {
                        src_cid: noise.pick(&[GUEST_CID, GUEST_CID, GUEST_CID, GUEST_CID, 2, u64::MAX]),
                        dst_cid: noise.pick(&[HOST_CID, HOST_CID, HOST_CID, 3, 0]),
                        src_port: noise.pick(&[80, 81, 1000, u32::MAX]),
                        dst_port: noise.pick(&[9, 10, 1 << 30, (1 << 30) + 1, (1 << 30) + 2]),
                        len: payload.len() as u32,
                        kind: noise.pick(&[1, 1, 1, 1, 2]),
                        op: noise.below(9) as u16,
                        flags: noise.below(5) as u32,
                        buf_alloc: noise.pick(&[0, 1, 5000, 262_144, u32::MAX]),
                        fwd_cnt: noise.next() as u32,
                    };
                    guest.send(&header, &payload);
                }
            }
            guest.run(0);
        }
        // Whole chains of noise: the device may stop, but only with an error.
        for _ in 0..200 {
            let descriptors: Vec<_> = (0..4)
                .map(|index| {
                    let address = noise.pick(&[PACKET, 0, MEMORY_BYTES - 20, u64::MAX - 20]) + noise.below(20);
                    (
                        index,
                        address,
                        noise.pick(&[0, 20, 44, 100, u32::MAX]),
                        noise.below(8) as u16,
                        noise.below(6) as u16,
                    )
                })
                .collect();
            let index = noise.pick(&[RX, TX]);
            let _ = guest.send_raw(index, &descriptors, noise.below(5) as u16);
        }
        guest.device.reset();
        assert_eq!(guest.statistic("connections_open"), 0);
    }
}
