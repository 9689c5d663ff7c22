//! How fast bytes pass the splice, with a guest that only counts them. Run by hand: `cargo test --release -p
//! rorqual-vmm --lib net::tcp::tests::throughput -- --ignored --nocapture`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollTimeout};

use super::super::*;
use super::world::{ACK, Anywhere, Link, Put, World, address};
use crate::devices::span::{Slice, Span};

const TOTAL: usize = 1 << 30;
const PIECE: usize = 60_000;

/// A splice on real sockets, and one of its flows to a server of the host.
struct Bench {
    splice: Splice,
    epoll: Arc<Epoll>,
    buffer: Vec<u8>,
    put: Put,
}

impl Bench {
    fn connect(to: SocketAddr) -> Self {
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::empty()).unwrap());
        let sockets = Box::new(Sockets::new(Arc::clone(&epoll)));
        let mut splice = Splice::new(Instant::now(), &Settings::default(), [1; 16], sockets);
        splice.set_offloads(Offloads { checksum: true, tso4: true, tso6: true });
        let put = Put::syn(address("192.168.64.2:4000"), to);
        let mut bench = Self { splice, epoll, buffer: vec![0; 65535], put };
        bench.put(&[]);
        let length = bench.wait_packet();
        assert!(length >= 40);
        bench.put.ack = bench.u32_at(24).wrapping_add(1);
        (bench.put.seq, bench.put.flags, bench.put.window) = (bench.put.seq + 1, ACK, u16::MAX);
        bench.put.options.clear();
        bench.put(&[]);
        bench
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.buffer[at..at + 4].try_into().unwrap())
    }

    fn put(&mut self, payload: &[u8]) {
        let mut header = self.put.bytes();
        let mut payload = payload.to_vec();
        let slices = [Slice::from(&mut header[..]), Slice::from(&mut payload[..])];
        let (source, destination) = (self.put.from.ip(), self.put.to.ip());
        let segment = Segment { source, destination, bytes: Span::new(&slices), checksum: Checksum::Partial };
        self.splice.receive(Instant::now(), &segment, &mut Anywhere);
    }

    /// Length of the next packet, if there is one.
    fn packet(&mut self) -> Option<usize> {
        let slices = [Slice::from(&mut self.buffer[..])];
        self.splice.transmit(Instant::now(), &slices).map(|packet| packet.length)
    }

    fn events(&mut self) {
        let mut events = [EpollEvent::empty(); 16];
        let count = self.epoll.wait(&mut events, EpollTimeout::from(100_u8)).unwrap();
        for event in &events[..count] {
            let flow = FlowId::from_token(event.data()).unwrap();
            self.splice.host_event(Instant::now(), flow, Readiness::from_epoll(event.events()));
        }
    }

    fn wait_packet(&mut self) -> usize {
        loop {
            if let Some(length) = self.packet() {
                return length;
            }
            self.events();
        }
    }
}

fn report(what: &str, bytes: usize, since: Instant) {
    let rate = (bytes as u128 * 1_000_000 / since.elapsed().as_micros().max(1)) >> 20;
    println!("{what}: {rate} MiB/s");
}

#[test]
#[ignore = "a benchmark"]
fn host_to_guest_and_guest_to_host() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = listener.local_addr().unwrap();

    let accepting = listener.try_clone().unwrap();
    let sending = thread::spawn(move || {
        let mut stream = accepting.accept().unwrap().0;
        let piece = vec![7; 256 << 10];
        for _ in 0..TOTAL / piece.len() {
            stream.write_all(&piece).unwrap();
        }
    });
    let mut bench = Bench::connect(to);
    let (start, mut received) = (Instant::now(), 0);
    while received < TOTAL {
        // One acknowledgment for each batch: an interrupt of a real guest delivers several packets.
        let mut batch = 0;
        while batch < 16
            && let Some(length) = bench.packet()
        {
            if length > 40 {
                assert_eq!(bench.u32_at(24), bench.put.ack, "in order");
                received += length - 40;
                bench.put.ack = bench.put.ack.wrapping_add(length as u32 - 40);
                batch += 1;
            }
        }
        if batch > 0 { bench.put(&[]) } else { bench.events() }
    }
    report("host to guest", received, start);
    sending.join().unwrap();

    let counting = thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut piece = vec![0; 256 << 10];
        let mut got = 0;
        while got < TOTAL {
            got += stream.read(&mut piece).unwrap();
        }
    });
    let mut bench = Bench::connect(to);
    let piece = vec![7; PIECE];
    let (start, mut sent, mut edge) = (Instant::now(), 0, bench.put.seq.wrapping_add(64 << 10));
    while sent < TOTAL {
        while edge.wrapping_sub(bench.put.seq) as usize >= PIECE && sent < TOTAL {
            bench.put(&piece);
            bench.put.seq = bench.put.seq.wrapping_add(PIECE as u32);
            sent += PIECE;
        }
        match bench.packet() {
            Some(_) => {
                let window = u32::from(u16::from_be_bytes([bench.buffer[34], bench.buffer[35]])) << 4;
                edge = bench.u32_at(28).wrapping_add(window);
            }
            None => bench.events(),
        }
    }
    counting.join().unwrap();
    report("guest to host", sent, start);

    // What the system itself achieves between two sockets, for comparison.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let sending = thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let piece = vec![7; 64 << 10];
        for _ in 0..TOTAL / piece.len() {
            stream.write_all(&piece).unwrap();
        }
    });
    let mut stream = TcpStream::connect(to).unwrap();
    let mut piece = vec![0; 64 << 10];
    let (start, mut got) = (Instant::now(), 0);
    while got < TOTAL {
        got += stream.read(&mut piece).unwrap();
    }
    sending.join().unwrap();
    report("loopback alone", got, start);
}

/// What waking and falling asleep add to a turn of guest and host without a system call: for one flow, and for more
/// than stay awake.
#[test]
#[ignore = "a benchmark"]
fn requests_and_answers_of_one_flow_and_of_more_than_stay_awake() {
    const TURNS: u32 = 400_000;
    for flows in [1, 200] {
        for max_awake in [usize::MAX, Settings::default().max_awake, 0] {
            let mut world = World::awake(&Settings { max_awake, ..Settings::default() });
            let from = |index: u16| SocketAddr::from(([192, 168, 64, 2], 1024 + index));
            let to = address("198.51.100.7:80");
            let mut links: Vec<Link> = (0..flows).map(|index| world.connect_with(&Put::syn(from(index), to))).collect();
            let mut room = [0; 200];
            let mut take = |world: &mut World| {
                while world.splice.transmit(world.now, &[Slice::from(&mut room[..])]).is_some() {}
            };
            let start = Instant::now();
            for turn in 0..TURNS {
                let link = &mut links[turn as usize % usize::from(flows)];
                world.put(&link.data(b"question"));
                link.seq = link.seq.wrapping_add(8);
                link.host_sends(&mut world, b"answer");
                take(&mut world);
                link.ack = link.ack.wrapping_add(6);
                world.put(&link.put(ACK));
                take(&mut world);
                link.host().got.clear();
            }
            let each = start.elapsed() / TURNS;
            println!("{flows} flows take turns, {max_awake} stay awake: {each:?} a turn");
            assert!(world.splice.statistics().broken == 0);
        }
    }
}
