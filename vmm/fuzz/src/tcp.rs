//! TCP in simulated time: segments of a guest that keeps one rule only, and hosts that follow the program. Each
//! sequence number always has the same byte, so each side can check that it received what the other sent, from the
//! beginning and without a gap.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use rorqual_vmm::devices::span::{Slice, Span};
use rorqual_vmm::net::tcp::{
    self, Checksum, Connector, Destination, Destinations, FlowId, HostSocket, Offloads, Peeked, Readiness, Segment,
    Settings, Splice,
};

use crate::program::Program;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
/// Ports of the guest, more than there may be flows.
const PORTS: usize = 5;
const MAX_FLOWS: usize = 3;
const MAX_BUFFERED: usize = 20_000;
/// Most a host has waiting.
const MAX_SENDS: usize = 20_000;

fn guest_byte(sequence: u32) -> u8 {
    (sequence.wrapping_mul(167) >> 3) as u8
}

fn host_byte(at: usize) -> u8 {
    (at.wrapping_mul(89) >> 2) as u8
}

/// A host's end of a flow.
#[derive(Debug, Default)]
struct Host {
    /// None while it connects.
    outcome: Option<Result<(), Errno>>,
    /// Bytes it has sent, and of these those that were consumed.
    sent: usize,
    consumed: usize,
    ends: bool,
    fails: Option<Errno>,
    /// Bytes it takes now.
    room: usize,
    got: VecDeque<u8>,
    shut: bool,
}

struct Socket(Arc<Mutex<Host>>);

impl HostSocket for Socket {
    fn connected(&mut self) -> io::Result<bool> {
        match lock(&self.0).outcome {
            None => Ok(false),
            Some(Ok(())) => Ok(true),
            Some(Err(error)) => Err(error.into()),
        }
    }

    fn peek(&mut self, offset: usize, room: Span<'_, '_>) -> io::Result<Peeked> {
        let host = lock(&self.0);
        assert!(!room.is_empty(), "peeked into nothing");
        let from = host.consumed + offset;
        assert!(from <= host.sent, "peeked at {from} of {}", host.sent);
        let bytes: Vec<u8> = (from..host.sent.min(from + room.len())).map(host_byte).collect();
        if !bytes.is_empty() {
            return Ok(Peeked::Bytes(room.copy_from(&bytes)));
        }
        match host.fails {
            Some(error) => Err(error.into()),
            None if host.ends => Ok(Peeked::End),
            None => Ok(Peeked::Empty),
        }
    }

    fn consume(&mut self, bytes: usize) -> io::Result<()> {
        let mut host = lock(&self.0);
        host.consumed += bytes;
        assert!(host.consumed <= host.sent, "consumed {} of {}", host.consumed, host.sent);
        Ok(())
    }

    fn write(&mut self, data: Span<'_, '_>) -> io::Result<usize> {
        let mut host = lock(&self.0);
        assert!(!host.shut, "written to after its end");
        if let Some(error) = host.fails {
            return Err(error.into());
        }
        let mut bytes = vec![0; data.len().min(host.room)];
        assert_eq!(data.copy_to(&mut bytes), bytes.len());
        host.room -= bytes.len();
        host.got.extend(&bytes);
        Ok(bytes.len())
    }

    fn shutdown(&mut self) -> io::Result<()> {
        let mut host = lock(&self.0);
        assert!(!host.shut, "ended twice");
        host.shut = true;
        Ok(())
    }

    fn reset(&mut self) {}
}

fn lock(host: &Mutex<Host>) -> MutexGuard<'_, Host> {
    host.lock().unwrap()
}

/// The answer of the next host, and the host that was asked last.
#[derive(Default)]
struct Script {
    outcome: Option<Result<(), Errno>>,
    asked: Option<(FlowId, Arc<Mutex<Host>>)>,
}

struct Hosts(Arc<Mutex<Script>>);

impl Connector for Hosts {
    fn connect(&mut self, flow: FlowId, _to: SocketAddr) -> io::Result<tcp::Socket> {
        let mut script = self.0.lock().unwrap();
        let host = Arc::new(Mutex::new(Host { outcome: script.outcome, room: 5000, ..Host::default() }));
        script.asked = Some((flow, host.clone()));
        Ok(tcp::Socket::Other(Box::new(Socket(host))))
    }
}

struct Anywhere;

impl Destinations for Anywhere {
    fn destination(&mut self, _: FlowId, _: SocketAddr, wanted: SocketAddr) -> Destination {
        Destination::Host(wanted)
    }
}

/// One port of the guest.
#[derive(Default)]
struct Port {
    /// Sequence numbers of the SYNs of this flow: its stream begins behind one of them.
    begins: Vec<u32>,
    host: Option<(FlowId, Arc<Mutex<Host>>)>,
    /// Where the host's stream begins, and the next byte the guest expects.
    first: Option<u32>,
    expected: u32,
}

struct World {
    splice: Splice,
    now: Instant,
    script: Arc<Mutex<Script>>,
    ports: [Port; PORTS],
    v6: bool,
    room: Vec<u8>,
}

pub(crate) fn run(program: &[u8]) {
    let mut program = Program::new(program);
    let script = Arc::new(Mutex::new(Script::default()));
    let settings = Settings {
        mtu: 1500,
        window: 64 << 10,
        max_flows: MAX_FLOWS,
        max_half_open: 2,
        max_buffered: MAX_BUFFERED,
        max_awake: 1,
    };
    let now = Instant::now();
    let splice = Splice::new(now, &settings, *b"sixteen bytes ok", Box::new(Hosts(script.clone())));
    let v6 = program.flag();
    let mut world = World { splice, now, script, ports: Default::default(), v6, room: vec![0; 9000] };
    let all = program.flag();
    world.splice.set_offloads(Offloads { checksum: all, tso4: all, tso6: all });
    while !program.ended() {
        world.step(&mut program);
        assert!(world.splice.flows() <= MAX_FLOWS);
        assert!(world.splice.buffered() <= MAX_BUFFERED);
    }
    for port in &world.ports {
        port.check();
    }
    world.splice.reset();
    assert_eq!((world.splice.flows(), world.splice.buffered()), (0, 0));
}

impl World {
    fn step(&mut self, program: &mut Program) {
        match program.byte() & 15 {
            0..=4 => self.segment(program),
            5 | 6 => self.syn(program),
            7..=10 => self.host(program),
            11..=13 => self.take(program),
            14 => {
                self.now += Duration::from_millis(1 << program.below(18));
                self.splice.timers(self.now);
            }
            _ => while self.splice.next_notice().is_some() {},
        }
    }

    fn ends(&self, port: usize) -> (SocketAddr, SocketAddr) {
        let address = |last: u8| -> IpAddr {
            if self.v6 {
                Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into()).into()
            } else {
                Ipv4Addr::new(192, 168, 64, last).into()
            }
        };
        (SocketAddr::new(address(2), 100 + port as u16), SocketAddr::new(address(9), 80))
    }

    /// A segment near where the flow is, or anywhere.
    fn segment(&mut self, program: &mut Program) {
        let at = program.below(PORTS);
        let port = &self.ports[at];
        let received = port.host.as_ref().map_or(0, |(_, host)| lock(host).got.len() as u32);
        let begin = port.begins.last().copied().unwrap_or(0);
        let sequence = near(begin.wrapping_add(1).wrapping_add(received), program);
        let acknowledged = near(port.expected, program);
        let flags = match program.byte() {
            0..=199 => ACK,
            200..=219 => ACK | FIN,
            220..=229 => RST,
            230..=239 => SYN | ACK,
            _ => program.byte(),
        };
        let count = [0, 1, 100, 1460, 1460, 5000][program.below(6)];
        let payload: Vec<u8> = (0..count).map(|at: u32| guest_byte(sequence.wrapping_add(at))).collect();
        let window = program.short();
        self.put(at, [sequence, acknowledged], flags, window, &[], &payload);
    }

    fn syn(&mut self, program: &mut Program) {
        let at = program.below(PORTS);
        self.script.lock().unwrap().outcome =
            [None, Some(Ok(())), Some(Ok(())), Some(Err(Errno::ECONNREFUSED)), Some(Err(Errno::EHOSTUNREACH))]
                [program.below(5)];
        let sequence = if program.flag() { u32::MAX - 3000 } else { program.word() };
        let options =
            if program.flag() { vec![2, 4, 5, 0xb4, 1, 3, 3, program.byte()] } else { program.bytes(8).to_vec() };
        self.put(at, [sequence, 0], SYN, u16::MAX, &options, &[]);
    }

    /// Sends a segment, and keeps the books if it is a SYN.
    fn put(&mut self, at: usize, numbers: [u32; 2], flags: u8, window: u16, options: &[u8], payload: &[u8]) {
        let (from, to) = self.ends(at);
        let mut bytes = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
        bytes.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
        let header = (20 + options.len()).next_multiple_of(4);
        bytes.extend([(header as u8 / 4) << 4, flags]);
        bytes.extend(window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(options);
        bytes.resize(header, 0);
        bytes.extend(payload);
        let slices = [Slice::from(bytes.as_mut_slice())];
        let segment =
            Segment { source: from.ip(), destination: to.ip(), bytes: Span::new(&slices), checksum: Checksum::Partial };
        self.splice.receive(self.now, &segment, &mut Anywhere);
        let asked = self.script.lock().unwrap().asked.take();
        if let Some(host) = asked {
            self.ports[at].check();
            self.ports[at] = Port { begins: vec![numbers[0]], host: Some(host), ..Port::default() };
        } else if flags & (SYN | ACK) == SYN {
            self.ports[at].begins.push(numbers[0]);
        }
    }

    fn host(&mut self, program: &mut Program) {
        let Some((flow, host)) = self.ports[program.below(PORTS)].host.clone() else { return };
        let mut readiness = Readiness { readable: true, ..Readiness::default() };
        let mut found = lock(&host);
        match program.byte() {
            0..=19 => {
                found.ends = true;
                (readiness.writable, readiness.ended) = (true, true);
            }
            20..=29 => {
                found.fails = Some(Errno::ECONNRESET);
                readiness = Readiness { readable: true, writable: true, ended: true, failed: true };
            }
            30..=99 => {
                found.room += usize::from(program.short()) % 8000;
                readiness.writable = true;
            }
            100..=139 => {
                let outcome = if program.byte() > 200 { Err(Errno::ETIMEDOUT) } else { Ok(()) };
                found.outcome.get_or_insert(outcome);
                readiness.writable = true;
            }
            _ => {
                let more = usize::from(program.short()) % 5000;
                if !found.ends && found.sent - found.consumed + more <= MAX_SENDS {
                    found.sent += more;
                }
            }
        }
        drop(found);
        self.splice.host_event(self.now, flow, readiness);
    }

    /// Takes packets, and looks at their bytes.
    fn take(&mut self, program: &mut Program) {
        let room = [68, 100, 1500, 9000][program.below(4)];
        for _ in 0..program.below(16) {
            let slices = [Slice::from(&mut self.room[..room])];
            let Some(packet) = self.splice.transmit(self.now, &slices) else { break };
            let packet = &self.room[..packet.length];
            let transport = if self.v6 { 40 } else { usize::from(packet[0] & 15) * 4 };
            let segment = &packet[transport..];
            let at = usize::from(u16::from_be_bytes([segment[2], segment[3]])) - 100;
            self.ports[at].hear(segment);
        }
    }
}

impl Port {
    /// A segment for the guest.
    fn hear(&mut self, segment: &[u8]) {
        let sequence = u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]);
        let (flags, payload) = (segment[13], &segment[usize::from(segment[12] >> 4) * 4..]);
        if flags & (SYN | ACK | RST) == SYN | ACK {
            let first = sequence.wrapping_add(1);
            self.first = Some(first);
            self.expected = first;
        } else if let (Some(first), false) = (self.first, payload.is_empty()) {
            let from = sequence.wrapping_sub(first) as usize;
            let sound = payload.iter().enumerate().all(|(at, byte)| *byte == host_byte(from + at));
            // The one byte of a probe is any byte that was acknowledged.
            assert!(sound || payload.len() == 1, "bytes of another place at {from}");
            self.expected = sequence.wrapping_add(payload.len() as u32);
        }
    }

    /// The host got the guest's stream, from its beginning and without a gap.
    fn check(&self) {
        let Some((_, host)) = &self.host else { return };
        let host = lock(host);
        let sound = self.begins.iter().any(|begin| {
            let first = begin.wrapping_add(1);
            host.got.iter().enumerate().all(|(at, byte)| *byte == guest_byte(first.wrapping_add(at as u32)))
        });
        assert!(sound, "the host got bytes of another place");
    }
}

/// A number around `center`: mostly itself.
fn near(center: u32, program: &mut Program) -> u32 {
    match program.byte() {
        0..=159 => center,
        160..=199 => center.wrapping_add(program.byte().into()),
        200..=239 => center.wrapping_sub(program.short().into()),
        _ => program.word(),
    }
}
