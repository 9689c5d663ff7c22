//! Segments, events and times at random: nothing panics, bounds hold, and what is delivered is what was sent.

use std::time::Duration;

use nix::errno::Errno;

use super::super::*;
use super::world::*;
use crate::devices::span::{Slice, Span};

/// A small generator (xorshift), so that a failure can be repeated by its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// The guest's byte of a sequence number, and the host's of a place in its stream.
fn guest_byte(seq: u32) -> u8 {
    (seq.wrapping_mul(167) >> 3) as u8
}

fn host_byte(at: usize) -> u8 {
    (at.wrapping_mul(89) >> 2) as u8
}

/// What happened to the guest's attempts from one of its ports.
#[derive(Clone, Default)]
struct Port {
    /// Sequence numbers of its SYNs that belong to the same flow: its stream begins after one of them.
    begins: Vec<u32>,
    /// The acknowledgment the splice expects.
    ours: Option<u32>,
    link: Option<Link>,
    /// How much its host has sent.
    sent: usize,
}

/// A guest that follows only one rule: the byte of a sequence number is always the same.
struct Chaos {
    world: World,
    random: Random,
    ports: u16,
    flows: Vec<Port>,
    settings: Settings,
    /// What it received: receiver, flags, sequence number, acknowledgment, window, number of bytes.
    heard: Vec<(std::net::SocketAddr, u8, u32, u32, u16, usize)>,
    /// Number of dormant flows, summed over all steps.
    slept: usize,
}

impl Chaos {
    fn new(seed: u64, max_awake: usize) -> Self {
        let settings =
            Settings { max_flows: 6, max_half_open: 3, max_buffered: 100_000, window: 64 << 10, mtu: 1500, max_awake };
        let ports = 9;
        Self {
            world: World::awake(&settings),
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            ports,
            flows: vec![Port::default(); usize::from(ports)],
            settings,
            heard: Vec::new(),
            slept: 0,
        }
    }

    fn from(port: usize) -> std::net::SocketAddr {
        address(&format!("192.168.64.2:{}", 100 + port))
    }

    fn near(&mut self, center: u32) -> u32 {
        let random = &mut self.random;
        let spread = [1, 3, 1500, 70_000, 1 << 31][random.below(5)];
        let away = random.below(spread) as u32;
        if random.one_in(2) { center.wrapping_add(away) } else { center.wrapping_sub(away) }
    }

    fn segment(&mut self) {
        let port = self.random.below(usize::from(self.ports));
        let Port { begins, ours, link, .. } = self.flows[port].clone();
        let begin = begins.last().copied().unwrap_or(GUEST_INITIAL);
        let from = Self::from(port);
        let received = link.as_ref().map_or(0, |link| link.host().got.len() as u32);
        let seq_guess = begin.wrapping_add(1).wrapping_add(received);
        let mut flags = [ACK, ACK, ACK | PSH, ACK | PSH, ACK | FIN, SYN, SYN | ACK, RST, RST | ACK, 0, 0xff, SYN | FIN]
            [self.random.below(12)];
        if flags & (RST | FIN | SYN) != 0 && !self.random.one_in(6) {
            flags = ACK;
        }
        let seq = if self.random.one_in(3) { self.near(seq_guess) } else { seq_guess };
        let ack_guess = ours.unwrap_or(0);
        let ack = if self.random.one_in(3) { self.near(ack_guess) } else { ack_guess };
        let length = [0, 0, 1, 100, 100, 1460, 1460, 5000, 5000, 60_000][self.random.below(10)];
        let payload = (0..length).map(|at: u32| guest_byte(seq.wrapping_add(at))).collect();
        let window = [0, 1, 10, 1000, u16::MAX][self.random.below(5)];
        let options = match self.random.below(4) {
            0 => (0..self.random.below(40)).map(|_| self.random.next() as u8).collect(),
            _ => vec![2, 4, 5, 0xb4, 1, 3, 3, 2],
        };
        self.put(port, &Put { from, to: server(), flags, seq, ack, window, options, payload });
    }

    /// Sends a segment, and records it if it is a SYN.
    fn put(&mut self, port: usize, put: &Put) {
        let before = self.world.script().asked.len();
        self.world.put(put);
        let asked = self.world.script().asked.get(before).cloned();
        if let Some((flow, _, host)) = asked {
            self.check_port(port);
            host.lock().unwrap().room = 5000;
            let link = Link { from: put.from, to: put.to, seq: put.seq.wrapping_add(1), ack: 0, flow, host };
            self.flows[port] = Port { begins: vec![put.seq], link: Some(link), ..Port::default() };
        } else if put.flags & (SYN | ACK) == SYN {
            self.flows[port].begins.push(put.seq);
        }
    }

    /// Sends a valid SYN, whose stream begins where it says.
    fn syn(&mut self) {
        let port = self.random.below(usize::from(self.ports));
        let seq = if self.random.one_in(2) { u32::MAX - 30_000 } else { self.random.next() as u32 };
        let outcome = [None, Some(Ok(())), Some(Ok(())), Some(Err(Errno::ECONNREFUSED))][self.random.below(4)];
        self.world.script().outcome = outcome;
        self.put(port, &Put::syn(Self::from(port), server()).with(|put| put.seq = seq));
    }

    fn host(&mut self) {
        let port = self.random.below(usize::from(self.ports));
        let Some(link) = self.flows[port].link.clone() else { return };
        let mut readiness = READABLE;
        match self.random.below(12) {
            0 => {
                link.host().ends = true;
                readiness = ENDED;
            }
            1 if self.random.one_in(4) => {
                link.host().fails = Some(Errno::ECONNRESET);
                readiness = FAILED;
            }
            2..=4 => {
                link.host().room += self.random.below(100_000);
                readiness = WRITABLE;
            }
            5 => {
                let mut host = link.host();
                if host.outcome.is_none() {
                    host.outcome = Some(if self.random.one_in(3) { Err(Errno::ETIMEDOUT) } else { Ok(()) });
                }
                readiness = WRITABLE;
            }
            _ => {
                let sent = self.flows[port].sent;
                let more = self.random.below(20_000);
                let mut host = link.host();
                if !host.ends && host.sends.len() < 500_000 {
                    host.sends.extend((sent..sent + more).map(host_byte));
                    self.flows[port].sent += more;
                }
            }
        }
        self.world.event(link.flow, readiness);
    }

    /// Takes some of the packets for the guest, and learns from them as an attacker would.
    fn take(&mut self) {
        self.world.room = [68, 100, 1500, 65550][self.random.below(4)];
        for _ in 0..self.random.below(20) {
            let Some(got) = self.world.take_one() else { break };
            self.heard.push((got.to, got.flags, got.seq, got.ack, got.window, got.payload.len()));
            let flow = &mut self.flows[usize::from(got.to.port()) - 100];
            if got.is(SYN | ACK) {
                flow.ours = Some(got.seq.wrapping_add(1));
            } else if let (Some(link), Some(_)) = (&mut flow.link, flow.ours)
                && !got.payload.is_empty()
            {
                if link.ack == 0 {
                    // Where the gateway's stream begins: no byte of it was acknowledged before the first one.
                    link.ack = got.seq;
                }
                let at = got.seq.wrapping_sub(link.ack) as usize;
                let expected = got.payload.iter().enumerate().all(|(index, byte)| *byte == host_byte(at + index));
                assert!(expected, "bytes of another place at {at}");
                flow.ours = Some(got.seq.wrapping_add(got.payload.len() as u32));
            }
        }
    }

    /// Does a thousand random things.
    fn steps(&mut self) {
        for step in 0..1000 {
            match self.random.below(20) {
                0..=8 => self.segment(),
                9..=10 => self.syn(),
                11..=14 => self.host(),
                15..=17 => self.take(),
                18 => {
                    let time = Duration::from_millis(1 << self.random.below(18));
                    self.world.pass_in_order(time);
                }
                _ => while self.world.splice.next_notice().is_some() {},
            }
            self.slept += self.world.splice.dormant();
            if step % 500 == 0 {
                self.check();
            }
        }
        self.check();
    }

    fn check(&self) {
        assert!(self.world.splice.flows() <= self.settings.max_flows);
        assert!(self.world.splice.buffered() <= self.settings.max_buffered);
        for port in 0..self.flows.len() {
            self.check_port(port);
        }
    }

    /// Checks that the host got the guest's stream from its beginning and without a gap.
    fn check_port(&self, port: usize) {
        let Port { begins, link: Some(link), .. } = &self.flows[port] else { return };
        let got = link.host().got.clone();
        let sound = begins.iter().any(|begin| {
            let first = begin.wrapping_add(1);
            got.iter().enumerate().all(|(at, byte)| *byte == guest_byte(first.wrapping_add(at as u32)))
        });
        assert!(sound, "the host got bytes of another place");
    }
}

#[test]
fn random_segments_events_and_times_keep_every_promise() {
    for seed in 1..=20 {
        let mut chaos = Chaos::new(seed, 0);
        chaos.steps();
        assert!(chaos.world.splice.statistics().sent > 100, "seed {seed} did nothing");

        // Whatever happened, a well-behaved guest is served afterwards.
        let world = &mut chaos.world;
        world.room = 65550;
        world.take();
        world.script().outcome = Some(Ok(()));
        world.put(&Put::syn(guest(), server()));
        let mut all = world.take();
        let answer = all.pop().unwrap();
        assert!(answer.is(SYN | ACK) && answer.to == guest(), "seed {seed}: {answer:?}");
        let (flow, _, host) = world.script().asked.last().unwrap().clone();
        let (seq, ack) = (GUEST_INITIAL + 1, answer.seq.wrapping_add(1));
        let mut link = Link { from: guest(), to: server(), seq, ack, flow, host };
        world.put(&link.put(ACK));
        link.send(world, b"hello");
        assert_eq!(link.host().got, b"hello");
    }
}

#[test]
fn a_guest_cannot_tell_whether_flows_sleep() {
    let mut slept = 0;
    for seed in 1..=8 {
        let mut heard = |max_awake| {
            let mut chaos = Chaos::new(seed, max_awake);
            chaos.steps();
            slept += chaos.slept;
            (chaos.heard, chaos.world.splice.statistics())
        };
        let always_awake = heard(usize::MAX);
        assert!(always_awake.0.len() > 50, "seed {seed} did nothing");
        for max_awake in [0, 2] {
            assert!(heard(max_awake) == always_awake, "seed {seed}, {max_awake} stay awake");
        }
    }
    assert!(slept > 1000, "{slept}");
}

#[test]
fn random_bytes_are_not_tcp_or_do_no_harm() {
    let mut random = Random(77);
    let mut world = World::new();
    let mut link = world.connect();
    for _ in 0..20_000 {
        let mut bytes: Vec<u8> = (0..random.below(90)).map(|_| random.next() as u8).collect();
        // Mostly from the established flow.
        if bytes.len() > 13 && !random.one_in(4) {
            bytes[..2].copy_from_slice(&guest().port().to_be_bytes());
            bytes[2..4].copy_from_slice(&server().port().to_be_bytes());
            bytes[12] = 0x50 | (bytes[12] & 0x3f);
        }
        let slices = [Slice::from(&mut bytes[..])];
        let (source, destination) = (guest().ip(), server().ip());
        let segment = Segment { source, destination, bytes: Span::new(&slices), checksum: Checksum::Partial };
        world.splice.receive(world.now, &segment, &mut Anywhere);
        if random.one_in(100) {
            world.take();
        }
    }
    world.take();
    link.send(&mut world, b"unharmed");
    assert_eq!(link.host().got, b"unharmed");
}
