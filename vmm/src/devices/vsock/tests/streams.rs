//! How streams begin, carry data and end.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use super::super::VsockDevice;
use super::super::credit::OWN_BUFFER_BYTES;
use super::super::packet::{Closed, HOST_CID, Header, Operation};
use super::driver::{GUEST_CID, Guest, Layout, Options};
use super::{connect_to_guest, guest, read_line};
use crate::devices::VirtioDevice;

/// A stream the guest opened to a listener of the host: the host's socket.
fn connect_to_host(guest: &mut Guest, host_port: u32, guest_port: u32) -> UnixStream {
    let listener = UnixListener::bind(guest.port_path(host_port)).unwrap();
    guest.send_control(Operation::Request, host_port, guest_port);
    let response = guest.next_packet();
    assert_eq!(response.operation(), Operation::Response);
    assert_eq!((response.header.src_port, response.header.dst_port), (host_port, guest_port));
    assert_eq!(response.header.buf_alloc, OWN_BUFFER_BYTES);
    std::fs::remove_file(guest.port_path(host_port)).unwrap();
    listener.accept().unwrap().0
}

fn read_end(mut socket: &UnixStream) {
    assert_eq!(socket.read(&mut [0; 1]).unwrap(), 0, "end of the stream");
}

#[test]
fn the_host_reaches_a_port_of_the_guest() {
    let mut guest = guest();
    let (mut socket, host_port) = connect_to_guest(&mut guest, 1024);
    socket.write_all(b"hello guest").unwrap();
    let packet = guest.next_packet();
    assert_eq!((packet.operation(), packet.payload.as_slice()), (Operation::ReadWrite, b"hello guest".as_slice()));
    guest.send_data(host_port, 1024, b"hello host");
    let mut answer = [0; 10];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello host");
    assert_eq!((guest.statistic("bytes_to_guest"), guest.statistic("bytes_to_host")), (11, 10));
    assert_eq!((guest.statistic("connections_open"), guest.statistic("connections_from_host")), (1, 1));
}

#[test]
fn bytes_after_the_connect_line_are_the_beginning_of_the_stream() {
    let mut guest = guest();
    let mut socket = guest.connect();
    socket.write_all(b"CONNECT 7\nGET / HTTP/1.1\n").unwrap();
    let request = guest.next_packet();
    assert_eq!(request.operation(), Operation::Request);
    guest.expect_silence();
    guest.send_control(Operation::Response, request.header.src_port, 7);
    assert_eq!(guest.next_packet().payload, b"GET / HTTP/1.1\n");
    assert_eq!(read_line(&socket), format!("OK {}\n", request.header.src_port));
}

#[test]
fn a_connect_line_may_come_byte_by_byte() {
    let mut guest = guest();
    let mut socket = guest.connect();
    for byte in b"CONNECT 99\n" {
        guest.expect_silence();
        socket.write_all(&[*byte]).unwrap();
    }
    assert_eq!(guest.next_packet().header.dst_port, 99);
}

#[test]
fn a_first_line_that_is_not_connect_closes_the_socket() {
    for line in
        ["GET / HTTP/1.1\r\n", "CONNECT\n", "CONNECT 4294967296\n", "CONNECT 00000000000000000000000000000000001\n"]
    {
        let mut guest = guest();
        let mut socket = guest.connect();
        socket.write_all(line.as_bytes()).unwrap();
        guest.run_until("the handshake fails", |guest| guest.statistic("handshakes_failed") == 1);
        // The line was not read from the socket, so the end may appear as a reset.
        assert!(matches!(socket.read(&mut [0; 1]), Ok(0) | Err(_)));
        guest.expect_silence();
    }
}

#[test]
fn a_handshake_that_ends_in_the_middle_is_forgotten() {
    for rest in ["", "CONN"] {
        let mut guest = guest();
        let mut socket = guest.connect();
        socket.write_all(rest.as_bytes()).unwrap();
        guest.expect_silence();
        drop(socket);
        guest.run_until("the handshake fails", |guest| guest.statistic("handshakes_failed") == 1);
    }
}

#[test]
fn a_port_nobody_listens_on_in_the_guest_ends_the_hosts_socket() {
    let mut guest = guest();
    let mut socket = guest.connect();
    socket.write_all(b"CONNECT 5\n").unwrap();
    let request = guest.next_packet();
    guest.send_control(Operation::Reset, request.header.src_port, 5);
    read_end(&socket);
    guest.expect_silence();
    assert_eq!((guest.statistic("connections_refused"), guest.statistic("connections_open")), (1, 0));
}

#[test]
fn a_host_that_gives_up_before_the_answer_resets_the_request() {
    let mut guest = guest();
    let mut socket = guest.connect();
    socket.write_all(b"CONNECT 5\n").unwrap();
    let request = guest.next_packet();
    drop(socket);
    let reset = guest.next_packet();
    assert_eq!((reset.operation(), reset.header.src_port), (Operation::Reset, request.header.src_port));
    // The answer crossed the end: the stream does not exist any more.
    guest.send_control(Operation::Response, request.header.src_port, 5);
    assert_eq!(guest.next_packet().operation(), Operation::Reset);
}

#[test]
fn the_guest_reaches_a_listener_of_the_host() {
    let mut guest = guest();
    let mut socket = connect_to_host(&mut guest, 1024, 40000);
    guest.send_data(1024, 40000, b"ping");
    let mut bytes = [0; 4];
    socket.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"ping");
    socket.write_all(b"pong").unwrap();
    assert_eq!(guest.next_packet().payload, b"pong");
    assert_eq!(guest.statistic("connections_from_guest"), 1);
}

#[test]
fn a_port_nobody_listens_on_on_the_host_is_refused() {
    let mut guest = guest();
    // Once without a file, once with a stale one.
    for _ in 0..2 {
        guest.send_control(Operation::Request, 1024, 40000);
        let reset = guest.next_packet();
        assert_eq!(reset.operation(), Operation::Reset);
        assert_eq!((reset.header.src_port, reset.header.dst_port), (1024, 40000));
        drop(UnixListener::bind(guest.port_path(1024)));
    }
    assert_eq!(guest.statistic("connections_refused"), 2);
}

#[test]
fn a_listener_that_ends_a_stream_at_once_is_accepted_first() {
    let mut guest = guest();
    let listener = UnixListener::bind(guest.port_path(1024)).unwrap();
    let acceptor = std::thread::spawn(move || drop(listener.accept().unwrap()));
    guest.send_control(Operation::Request, 1024, 40000);
    acceptor.join().unwrap();
    assert_eq!(guest.next_packet().operation(), Operation::Response);
    loop {
        let packet = guest.next_packet();
        assert_eq!(packet.operation(), Operation::Shutdown);
        if packet.header.flags == Closed::BOTH.to_wire() {
            break;
        }
    }
}

#[test]
fn the_hosts_half_close_reaches_the_guest_after_the_data() {
    let mut guest = guest();
    let (mut socket, host_port) = connect_to_guest(&mut guest, 80);
    socket.write_all(b"request").unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(guest.next_packet().payload, b"request");
    let shutdown = guest.next_packet();
    assert_eq!((shutdown.operation(), shutdown.header.flags), (Operation::Shutdown, Closed::SEND.to_wire()));
    // The other direction stays open.
    guest.send_data(host_port, 80, b"response");
    let mut response = [0; 8];
    socket.read_exact(&mut response).unwrap();
    guest.expect_silence();
    // Linux closes the rest with both flags and waits for a reset.
    guest.send_shutdown(host_port, 80, Closed::BOTH);
    assert_eq!(guest.next_packet().operation(), Operation::Reset);
    read_end(&socket);
    assert_eq!(guest.statistic("connections_open"), 0);
}

#[test]
fn the_guests_half_close_reaches_the_host_after_the_data() {
    let mut guest = guest();
    let (mut socket, host_port) = connect_to_guest(&mut guest, 80);
    guest.send_data(host_port, 80, b"all of it");
    guest.send_shutdown(host_port, 80, Closed::SEND);
    let mut all = Vec::new();
    socket.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"all of it");
    // The host may still send; its own end completes the close.
    socket.write_all(b"late").unwrap();
    assert_eq!(guest.next_packet().payload, b"late");
    socket.shutdown(Shutdown::Write).unwrap();
    let shutdown = guest.next_packet();
    assert_eq!((shutdown.operation(), shutdown.header.flags), (Operation::Shutdown, Closed::BOTH.to_wire()));
    guest.send_control(Operation::Reset, host_port, 80);
    guest.expect_silence();
    assert_eq!(guest.statistic("connections_open"), 0);
}

#[test]
fn a_guest_that_receives_no_more_ends_the_hosts_writing() {
    let mut guest = guest();
    let (mut socket, host_port) = connect_to_guest(&mut guest, 80);
    guest.send_shutdown(host_port, 80, Closed::RECEIVE);
    guest.run(5);
    assert_eq!(socket.write_all(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    guest.send_data(host_port, 80, b"still here");
    let mut bytes = [0; 10];
    socket.read_exact(&mut bytes).unwrap();
    guest.send_shutdown(host_port, 80, Closed::SEND);
    assert_eq!(guest.next_packet().operation(), Operation::Reset);
    read_end(&socket);
}

#[test]
fn a_host_that_closes_is_told_with_both_flags_and_the_guests_reset_ends_it() {
    let mut guest = guest();
    let (mut socket, host_port) = connect_to_guest(&mut guest, 80);
    socket.write_all(b"last words").unwrap();
    drop(socket);
    assert_eq!(guest.next_packet().payload, b"last words");
    let shutdown = guest.next_packet();
    assert_eq!((shutdown.operation(), shutdown.header.flags), (Operation::Shutdown, Closed::BOTH.to_wire()));
    assert_eq!((guest.statistic("connections_open"), guest.statistic("connections_closing")), (0, 1));
    // What the guest sent before it knew is not answered.
    guest.send_data(host_port, 80, b"crossed");
    guest.send_control(Operation::CreditUpdate, host_port, 80);
    guest.expect_silence();
    guest.send_control(Operation::Reset, host_port, 80);
    guest.expect_silence();
    assert_eq!(guest.statistic("connections_closing"), 0);
    // Now the stream is unknown.
    guest.send_data(host_port, 80, b"much too late");
    assert_eq!(guest.next_packet().operation(), Operation::Reset);
}

#[test]
fn both_sides_closing_at_once_is_a_clean_end() {
    let mut guest = guest();
    let (socket, host_port) = connect_to_guest(&mut guest, 80);
    drop(socket);
    assert_eq!(guest.next_packet().operation(), Operation::Shutdown);
    guest.send_shutdown(host_port, 80, Closed::BOTH);
    assert_eq!(guest.next_packet().operation(), Operation::Reset);
    guest.expect_silence();
}

#[test]
fn a_reader_that_goes_away_is_reported_to_the_guest() {
    let mut guest = guest();
    let (socket, host_port) = connect_to_guest(&mut guest, 80);
    socket.shutdown(Shutdown::Read).unwrap();
    guest.send_data(host_port, 80, b"into the void");
    let shutdown = guest.next_packet();
    assert_eq!((shutdown.operation(), shutdown.header.flags), (Operation::Shutdown, Closed::RECEIVE.to_wire()));
}

#[test]
fn a_guest_that_closes_with_data_on_the_way_delivers_it_and_is_let_go_at_once() {
    let mut guest = guest();
    let (mut socket, host_port) = connect_to_guest(&mut guest, 80);
    let data: Vec<u8> = (0..OWN_BUFFER_BYTES).map(|n| (n % 251) as u8).collect();
    for part in data.chunks(32 * 1024) {
        guest.send_data(host_port, 80, part);
    }
    assert!(guest.statistic("bytes_to_host") < data.len() as u64, "some of it has to wait");
    guest.run(0);
    guest.received.clear();
    guest.send_shutdown(host_port, 80, Closed::BOTH);
    assert_eq!(guest.next_packet().operation(), Operation::Reset);
    // The ports are free again while the host still reads.
    guest.send_data(host_port, 80, b"unknown");
    assert_eq!(guest.next_packet().operation(), Operation::Reset);
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        socket.read_to_end(&mut all).unwrap();
        all
    });
    guest.run_until("the host has read all", |_| reader.is_finished());
    assert_eq!(reader.join().unwrap(), data);
    assert_eq!(guest.statistic("bytes_to_host"), u64::from(OWN_BUFFER_BYTES));
}

#[test]
fn the_guests_credit_bounds_what_is_sent_and_more_credit_resumes_it() {
    let mut guest = guest();
    let mut socket = guest.connect();
    socket.write_all(b"CONNECT 80\n").unwrap();
    let host_port = guest.next_packet().header.src_port;
    let word = |operation, fwd_cnt| Header { buf_alloc: 1000, fwd_cnt, ..Guest::header(operation, host_port, 80) };
    guest.send(&word(Operation::Response, 0), &[]);
    socket.write_all(&[7; 2500]).unwrap();
    assert_eq!(guest.next_packet().payload.len(), 1000);
    // Out of credit with more to send: it asks once.
    assert_eq!(guest.next_packet().operation(), Operation::CreditRequest);
    guest.expect_silence();
    guest.send(&word(Operation::CreditUpdate, 0), &[]);
    guest.expect_silence();
    guest.send(&word(Operation::CreditUpdate, 300), &[]);
    assert_eq!(guest.next_packet().payload.len(), 300);
    assert_eq!(guest.next_packet().operation(), Operation::CreditRequest);
    guest.send(&word(Operation::CreditUpdate, 1300), &[]);
    assert_eq!(guest.next_packet().payload.len(), 1000);
    guest.send(&word(Operation::CreditUpdate, 2300), &[]);
    let mut rest = guest.next_packet();
    while rest.operation() == Operation::CreditRequest {
        rest = guest.next_packet();
    }
    assert_eq!(rest.payload.len(), 200);
    guest.expect_silence();
}

#[test]
fn a_host_that_does_not_read_stops_the_guest_and_reading_lets_it_go_on() {
    let mut guest = guest();
    let (mut socket, host_port) = connect_to_guest(&mut guest, 80);
    // What the socket takes is forwarded at once and comes back as credit, so this sends until none comes back.
    let (mut sent, mut acknowledged) = (0_u32, 0_u32);
    loop {
        while sent - acknowledged < OWN_BUFFER_BYTES {
            let bytes = (OWN_BUFFER_BYTES - (sent - acknowledged)).min(16 * 1024);
            guest.send_data(host_port, 80, &vec![(sent / 16 / 1024) as u8; bytes as usize]);
            sent += bytes;
            guest.run(0);
        }
        guest.send_control(Operation::CreditRequest, host_port, 80);
        guest.run(0);
        let before = acknowledged;
        while let Some(update) = guest.received.pop_front() {
            assert_eq!(update.operation(), Operation::CreditUpdate);
            acknowledged = update.header.fwd_cnt;
        }
        if acknowledged == before {
            break;
        }
    }
    guest.expect_silence();
    // Reading all of it returns all of the credit, without a request.
    let mut all = vec![0; sent as usize];
    let reader = std::thread::spawn(move || {
        socket.read_exact(&mut all).unwrap();
        (socket, all)
    });
    guest.run_until("the host has read all", |_| reader.is_finished());
    let (_socket, all) = reader.join().unwrap();
    assert!(all.iter().enumerate().all(|(position, byte)| *byte == (position / 16 / 1024) as u8));
    guest.run(0);
    let update = guest.received.pop_back().expect("a credit update");
    assert_eq!(update.operation(), Operation::CreditUpdate);
    assert!(sent - update.header.fwd_cnt <= OWN_BUFFER_BYTES / 2, "the guest may send half a buffer at least");
    assert_eq!(guest.statistic("bytes_to_host"), u64::from(sent));
}

#[test]
fn a_guest_that_overruns_its_credit_is_reset() {
    let mut guest = guest();
    let (mut socket, host_port) = connect_to_guest(&mut guest, 80);
    let part = vec![0; 64 * 1024];
    guest.run_until("the overrun", |guest| {
        if guest.received.is_empty() && guest.statistic("credit_overruns") == 0 {
            guest.send_data(host_port, 80, &part);
        }
        guest.received.retain(|packet| packet.operation() != Operation::CreditUpdate);
        !guest.received.is_empty()
    });
    assert_eq!(guest.next_packet().operation(), Operation::Reset);
    assert_eq!(guest.statistic("credit_overruns"), 1);
    // What was within the credit still arrives; then the stream ends.
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        socket.read_to_end(&mut all).map(|_| all.len())
    });
    guest.run_until("the end of the host's socket", |_| reader.is_finished());
    assert!(reader.join().unwrap().unwrap() >= OWN_BUFFER_BYTES as usize);
}

#[test]
fn without_receive_buffers_the_host_is_not_read_until_the_guest_kicks() {
    for event_idx in [false, true] {
        let mut guest = Guest::new(Options { event_idx, ..Options::default() });
        let (socket, _) = connect_to_guest(&mut guest, 80);
        socket.set_nonblocking(true).unwrap();
        let mut written = 0;
        loop {
            match (&socket).write(&[1; 8192]) {
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // The driver takes packets but posts no buffers: the posted ones fill, and no more is read.
                    guest.host_event(0);
                    let before = guest.received.len();
                    guest.take_packets();
                    if guest.received.len() == before {
                        break;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(!guest.host_event(20), "nothing to do for a device without buffers: it must not spin");
        assert!(guest.statistic("rx_starved") > 0);
        let mut arrived = 0;
        guest.run_until("all has arrived", |guest| {
            guest.post_buffers();
            arrived += guest.received.drain(..).map(|packet| packet.payload.len()).sum::<usize>();
            arrived == written.min(256 * 1024)
        });
    }
}

#[test]
fn streams_are_served_in_turn() {
    let mut guest = Guest::new(Options { buffers: 0, ..Options::default() });
    guest.add_buffers(2);
    let (mut loud, _) = connect_to_guest(&mut guest, 1);
    let (mut quiet, _) = connect_to_guest(&mut guest, 2);
    loud.write_all(&vec![0; 150_000]).unwrap();
    guest.host_event(10);
    quiet.write_all(b"me too").unwrap();
    let mut before = 0;
    loop {
        let packet = guest.next_packet();
        if packet.header.dst_port == 2 {
            break;
        }
        before += packet.payload.len();
    }
    // Two buffers of the busy stream were posted already, and it has one turn.
    assert!(before < 6 * 3776, "{before} bytes of the loud stream came first");
}

#[test]
fn a_credit_request_of_the_guest_is_answered() {
    let mut guest = guest();
    let (_socket, host_port) = connect_to_guest(&mut guest, 80);
    guest.send_control(Operation::CreditRequest, host_port, 80);
    let update = guest.next_packet();
    assert_eq!((update.operation(), update.header.buf_alloc), (Operation::CreditUpdate, OWN_BUFFER_BYTES));
}

#[test]
fn a_reset_of_the_device_ends_every_socket_and_forgets_every_stream() {
    let mut guest = guest();
    let (established, host_port) = connect_to_guest(&mut guest, 80);
    let mut asked = guest.connect();
    asked.write_all(b"CONNECT 81\n").unwrap();
    guest.next_packet();
    let waiting = guest.connect();
    guest.run(5);
    guest.reset();
    for socket in [&established, &asked, &waiting] {
        read_end(socket);
    }
    assert_eq!(guest.statistic("connections_open"), 0);
    guest.send_data(host_port, 80, b"of a former life");
    assert_eq!(guest.next_packet().operation(), Operation::Reset);
    // The stream serves the driver's next life.
    let (mut socket, _) = connect_to_guest(&mut guest, 80);
    socket.write_all(b"again").unwrap();
    assert_eq!(guest.next_packet().payload, b"again");
}

#[test]
fn every_layout_of_buffers_and_both_kinds_of_notification_carry_data() {
    for event_idx in [false, true] {
        for layout in [Layout::One, Layout::Two, Layout::Four] {
            for buffer_bytes in [64, 4096, 60_000] {
                let mut guest = Guest::new(Options { event_idx, layout, buffer_bytes, ..Options::default() });
                let (mut socket, host_port) = connect_to_guest(&mut guest, 80);
                let data: Vec<u8> = (0..20_000_u32).map(|n| (n % 251) as u8).collect();
                let count = if buffer_bytes == 64 { 500 } else { data.len() };
                socket.write_all(&data[..count]).unwrap();
                let mut arrived = Vec::new();
                guest.run_until("all has arrived", |guest| {
                    arrived.extend(guest.received.drain(..).flat_map(|packet| packet.payload));
                    arrived.len() >= count
                });
                assert_eq!(arrived, data[..count]);
                guest.send_data(host_port, 80, &data);
                let mut back = vec![0; data.len()];
                socket.read_exact(&mut back).unwrap();
                assert_eq!(back, data);
            }
        }
    }
}

#[test]
fn one_interrupt_serves_a_batch() {
    let mut guest = Guest::new(Options { event_idx: false, ..Options::default() });
    let (mut socket, _) = connect_to_guest(&mut guest, 80);
    socket.write_all(&vec![0; 60_000]).unwrap();
    let before = guest.signals(super::super::device::RX);
    guest.host_event(100);
    guest.take_packets();
    assert!(guest.received.len() >= 16);
    assert_eq!(guest.signals(super::super::device::RX) - before, 1);
}

#[test]
fn the_socket_file_is_private_replaced_when_stale_and_removed_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vsock.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a stale file");
    let device = VsockDevice::new(GUEST_CID, &path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let error = VsockDevice::new(GUEST_CID, &path).unwrap_err().to_string();
    assert!(error.contains("vsock.sock") && error.contains("in use"), "{error}");
    UnixStream::connect(&path).expect("the first device still listens");
    drop(device);
    assert!(!path.exists());
    std::fs::write(&path, "somebody's file").unwrap();
    VsockDevice::new(GUEST_CID, &path).unwrap_err();
    assert_eq!(std::fs::read(&path).unwrap(), b"somebody's file");
}

#[test]
fn the_configuration_space_is_the_cid_and_zero_beyond() {
    let guest = guest();
    let mut bytes = [0xff; 12];
    guest.device.read_config(0, &mut bytes);
    assert_eq!(bytes, [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    guest.device.read_config(u64::MAX, &mut bytes);
    assert_eq!(bytes, [0; 12]);
    assert!(guest.directory().exists());
    for cid in [0, 1, HOST_CID, u64::from(u32::MAX), 1 << 40] {
        VsockDevice::new(cid, &guest.port_path(9)).unwrap_err();
    }
}
