//! Large amounts of data, and many streams.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::super::packet::{Closed, Header, Operation};
use super::driver::{Guest, Options, Packet};
use super::hostile::Noise;
use super::read_line;

/// The guest's state for each stream, as Linux keeps it.
const BUFFER_BYTES: u32 = 256 * 1024;

/// The guest's end of a stream. It follows Linux's rules of credit, returns everything it receives if `echo`, and
/// closes in the end.
struct Socket {
    host_port: u32,
    guest_port: u32,
    received: u32,
    announced: u32,
    sent: u32,
    peer: Header,
    digest: DefaultHasher,
    /// Bytes to send.
    out: Vec<u8>,
    echo: bool,
    host_closed: Closed,
    closed: Closed,
    reset: bool,
    total: u64,
}

impl Socket {
    fn new(request: &Header, echo: bool) -> Self {
        Self {
            host_port: request.src_port,
            guest_port: request.dst_port,
            received: 0,
            announced: 0,
            sent: 0,
            peer: *request,
            digest: DefaultHasher::new(),
            out: Vec::new(),
            echo,
            host_closed: Closed::default(),
            closed: Closed::default(),
            reset: false,
            total: 0,
        }
    }

    fn header(&mut self, operation: Operation) -> Header {
        self.announced = self.received;
        Header {
            buf_alloc: BUFFER_BYTES,
            fwd_cnt: self.received,
            ..Guest::header(operation, self.host_port, self.guest_port)
        }
    }

    fn take(&mut self, packet: &Packet) {
        self.peer = packet.header;
        match packet.operation() {
            Operation::ReadWrite => {
                self.received = self.received.wrapping_add(packet.header.len);
                let unannounced = self.received.wrapping_sub(self.announced);
                assert!(unannounced <= BUFFER_BYTES, "the device sent beyond the guest's credit");
                self.total += u64::from(packet.header.len);
                self.digest.write(&packet.payload);
                if self.echo {
                    self.out.extend_from_slice(&packet.payload);
                }
            }
            Operation::Shutdown => self.host_closed |= Closed::from_wire(packet.header.flags),
            Operation::Reset => self.reset = true,
            Operation::CreditUpdate | Operation::CreditRequest => {}
            other => panic!("unexpected {other:?}"),
        }
    }

    fn work(&mut self, guest: &mut Guest) {
        while !self.out.is_empty() && !self.reset && guest.can_send() {
            let credit = self.peer.buf_alloc - self.sent.wrapping_sub(self.peer.fwd_cnt);
            let length = self.out.len().min(credit as usize).min(64 * 1024);
            if length == 0 {
                break;
            }
            let rest = self.out.split_off(length);
            let part = std::mem::replace(&mut self.out, rest);
            let header = Header { len: length as u32, ..self.header(Operation::ReadWrite) };
            self.sent = self.sent.wrapping_add(length as u32);
            guest.send(&header, &part);
        }
        if self.reset || !guest.can_send() {
            return;
        }
        if self.received.wrapping_sub(self.announced) > BUFFER_BYTES - 64 * 1024 {
            let header = self.header(Operation::CreditUpdate);
            guest.send(&header, &[]);
        }
        let finished = self.out.is_empty() && self.host_closed.contains(Closed::SEND);
        if finished && guest.can_send() && self.closed != Closed::BOTH {
            self.closed = Closed::BOTH;
            let closed = Header { flags: Closed::BOTH.to_wire(), ..self.header(Operation::Shutdown) };
            guest.send(&closed, &[]);
        }
    }
}

/// A guest that accepts every stream, and echoes on ports from 1000 on.
#[derive(Default)]
struct Sockets {
    all: HashMap<(u32, u32), Socket>,
    finished: Vec<Socket>,
}

impl Sockets {
    fn work(&mut self, guest: &mut Guest) {
        guest.run(2);
        while let Some(packet) = guest.received.pop_front() {
            let key = (packet.header.src_port, packet.header.dst_port);
            if packet.operation() == Operation::Request {
                let mut socket = Socket::new(&packet.header, packet.header.dst_port >= 1000);
                while !guest.can_send() {
                    guest.run(0);
                }
                let response = socket.header(Operation::Response);
                guest.send(&response, &[]);
                self.all.insert(key, socket);
            } else if let Some(socket) = self.all.get_mut(&key) {
                socket.take(&packet);
            }
        }
        for socket in self.all.values_mut() {
            socket.work(guest);
        }
        for (_, socket) in self.all.extract_if(|_, socket| socket.reset) {
            self.finished.push(socket);
        }
    }

    fn work_until_finished<T>(&mut self, guest: &mut Guest, threads: Vec<JoinHandle<T>>) -> Vec<T> {
        let mut idle = 0;
        let mut before = 0;
        while threads.iter().any(|thread| !thread.is_finished()) {
            self.work(guest);
            let now = guest.statistic("packets_to_guest") + guest.statistic("packets_to_host");
            idle = if now == before { idle + 1 } else { 0 };
            before = now;
            assert!(idle < 10_000, "nothing moves any more");
        }
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    }
}

/// Has guest and device exchange the shutdowns of every stream.
fn work_until_closed(sockets: &mut Sockets, guest: &mut Guest) {
    guest.run_until("every stream is closed", |guest| {
        sockets.work(guest);
        sockets.all.is_empty()
    });
    assert_eq!((guest.statistic("connections_open"), guest.statistic("connections_closing")), (0, 0));
}

fn connect(path: &std::path::Path, port: u32) -> UnixStream {
    let mut socket = UnixStream::connect(path).unwrap();
    socket.write_all(format!("CONNECT {port}\n").as_bytes()).unwrap();
    assert!(read_line(&socket).starts_with("OK "));
    socket
}

/// Writes `total` bytes of noise in pieces of random sizes, reads as many back, compares them, and closes.
fn exchange(path: std::path::PathBuf, port: u32, total: usize, seed: u64) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut socket = connect(&path, port);
        let mut reader = socket.try_clone().unwrap();
        let echo = thread::spawn(move || {
            let mut digest = DefaultHasher::new();
            let mut bytes = 0;
            let mut part = vec![0; 50_000];
            loop {
                match reader.read(&mut part).unwrap() {
                    0 => return (bytes, digest.finish()),
                    length => {
                        digest.write(&part[..length]);
                        bytes += length;
                    }
                }
            }
        });
        let mut noise = Noise(seed | 1);
        let mut digest = DefaultHasher::new();
        let mut left = total;
        while left > 0 {
            let length = (noise.below(100_000) as usize + 1).min(left);
            let part: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| noise.next().to_le_bytes()).take(length).collect();
            socket.write_all(&part).unwrap();
            digest.write(&part);
            left -= length;
        }
        socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(echo.join().unwrap(), (total, digest.finish()), "what came back");
    })
}

#[test]
fn megabytes_both_ways_at_once_arrive_unchanged() {
    for event_idx in [false, true] {
        let mut guest = Guest::new(Options { event_idx, ..Options::default() });
        let thread = exchange(guest.socket_path(), 1000, 24 << 20, 42);
        let mut sockets = Sockets::default();
        sockets.work_until_finished(&mut guest, vec![thread]);
        work_until_closed(&mut sockets, &mut guest);
        assert_eq!((guest.statistic("bytes_to_guest"), guest.statistic("bytes_to_host")), (24 << 20, 24 << 20));
        assert_eq!(sockets.finished.len(), 1);
    }
}

#[test]
fn two_hundred_streams_carry_data_at_once() {
    let mut guest = Guest::new(Options::default());
    let threads = (0..200).map(|n| exchange(guest.socket_path(), 1000 + n, 200_000, u64::from(n) * 77 + 5)).collect();
    let mut sockets = Sockets::default();
    sockets.work_until_finished(&mut guest, threads);
    work_until_closed(&mut sockets, &mut guest);
    assert_eq!(sockets.finished.len(), 200);
    assert_eq!(guest.statistic("bytes_to_host"), 200 * 200_000);
}

/// Raises the limit of descriptors to the hard limit; false if that is too low.
fn descriptors(wanted: u64) -> bool {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    hard >= wanted
}

/// Streams of the test below.
const STREAMS: u32 = 1500;

#[test]
fn a_thousand_streams_are_open_at_once() {
    assert!(descriptors(4096), "the hard limit of open files is too low for this test");
    let mut guest = Guest::new(Options::default());
    let mut sockets = Sockets::default();
    let path = guest.socket_path();
    let thread = thread::spawn(move || {
        // All ask before any is answered.
        let ask = |port| {
            let mut socket = UnixStream::connect(&path).unwrap();
            socket.write_all(format!("CONNECT {port}\nhello {port}").as_bytes()).unwrap();
            socket
        };
        let mut open: Vec<_> = (1000..1000 + STREAMS).map(ask).collect();
        for (socket, port) in open.iter_mut().zip(1000..) {
            assert!(read_line(socket).starts_with("OK "));
            let mut echo = vec![0; format!("hello {port}").len()];
            socket.read_exact(&mut echo).unwrap();
            assert_eq!(echo, format!("hello {port}").as_bytes());
        }
        open
    });
    let open = sockets.work_until_finished(&mut guest, vec![thread]);
    assert_eq!(guest.statistic("connections_open"), u64::from(STREAMS));
    drop(open);
    work_until_closed(&mut sockets, &mut guest);
    assert_eq!(sockets.finished.len(), STREAMS as usize);
}

#[test]
fn silent_clients_cannot_keep_others_out() {
    assert!(descriptors(4096), "the hard limit of open files is too low for this test");
    let mut guest = Guest::new(Options::default());
    let silent: Vec<_> = (0..1100)
        .map(|_| {
            let socket = guest.connect();
            guest.run(0);
            socket
        })
        .collect();
    let (_socket, _) = super::connect_to_guest(&mut guest, 80);
    // The oldest made way, and only those.
    assert_eq!(guest.statistic("handshakes_failed"), 1101 - 1024);
    let is_closed = |mut socket: &UnixStream| {
        socket.set_nonblocking(true).unwrap();
        socket.read(&mut [0; 1]).is_ok_and(|bytes| bytes == 0)
    };
    assert!(is_closed(&silent[0]) && is_closed(&silent[76]) && !is_closed(&silent[77]) && !is_closed(&silent[1099]));
}

#[test]
fn when_the_table_is_full_connections_wait_until_one_ends() {
    let mut guest = Guest::new(Options::default());
    guest.device.muxer.max_streams = 2;
    let (first, first_port) = super::connect_to_guest(&mut guest, 1);
    let (_second, _) = super::connect_to_guest(&mut guest, 2);
    let mut third = guest.connect();
    third.write_all(b"CONNECT 3\n").unwrap();
    guest.expect_silence();
    assert!(!guest.host_event(0), "it must not spin");
    let _listener = std::os::unix::net::UnixListener::bind(guest.port_path(9)).unwrap();
    guest.send_control(Operation::Request, 9, 500);
    assert_eq!(guest.next_packet().operation(), Operation::Reset);
    // The first ends. Although the guest owes its reset, the third takes its place.
    drop(first);
    let shutdown = guest.next_packet();
    assert_eq!((shutdown.operation(), shutdown.header.src_port), (Operation::Shutdown, first_port));
    let reset = guest.next_packet();
    assert_eq!((reset.operation(), reset.header.src_port), (Operation::Reset, first_port));
    let request = guest.next_packet();
    assert_eq!((request.operation(), request.header.dst_port), (Operation::Request, 3));
}

#[test]
fn a_guest_that_owes_resets_does_not_fill_the_table() {
    let mut guest = Guest::new(Options::default());
    guest.device.muxer.max_streams = 3;
    for port in 1..20 {
        let mut socket = guest.connect();
        socket.write_all(format!("CONNECT {port}\n").as_bytes()).unwrap();
        let mut packet = guest.next_packet();
        while packet.operation() == Operation::Reset {
            assert_eq!(packet.header.flags, 0);
            packet = guest.next_packet();
        }
        assert_eq!((packet.operation(), packet.header.dst_port), (Operation::Request, port));
        guest.send_control(Operation::Response, packet.header.src_port, port);
        assert!(read_line(&socket).starts_with("OK "));
        drop(socket);
        // The guest never answers this.
        assert_eq!(guest.next_packet().operation(), Operation::Shutdown);
        assert!(guest.statistic("connections_closing") <= 3);
    }
    assert_eq!(guest.statistic("resets_sent"), 19 - 3);
}

#[test]
#[ignore = "a gigabyte takes its time in an unoptimized build: run with --release"]
fn a_gigabyte_goes_through_one_stream() {
    let mut guest = Guest::new(Options { buffer_bytes: 4096, ..Options::default() });
    let path = guest.socket_path();
    let thread = thread::spawn(move || {
        let mut socket = connect(&path, 80);
        let part: Vec<u8> = (0..1_u32 << 20).map(|n| (n % 251) as u8).collect();
        let mut digest = DefaultHasher::new();
        for _ in 0..1024 {
            socket.write_all(&part).unwrap();
            digest.write(&part);
        }
        socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(socket.read(&mut [0; 1]).unwrap(), 0);
        digest.finish()
    });
    let mut sockets = Sockets::default();
    let started = std::time::Instant::now();
    let sent = sockets.work_until_finished(&mut guest, vec![thread]);
    println!("one gigabyte in {:?}", started.elapsed());
    work_until_closed(&mut sockets, &mut guest);
    let socket = &sockets.finished[0];
    assert_eq!((socket.total, socket.digest.finish()), (1 << 30, sent[0]));
}
