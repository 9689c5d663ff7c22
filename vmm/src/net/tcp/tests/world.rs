//! A splice, a scripted guest and scripted hosts. smoltcp's wire types build and check the guest's packets.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use smoltcp::wire::{IpAddress, Ipv4Packet, Ipv6Packet, TcpOption, TcpPacket, TcpSeqNumber};

use super::super::*;
use crate::devices::span::{Slice, Span};

pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const PSH: u8 = 8;
pub(super) const ACK: u8 = 16;

/// Sequence number of the guest's SYN, unless a test says otherwise.
pub(super) const GUEST_INITIAL: u32 = 1000;
/// The guest's window shift.
pub(super) const GUEST_SCALE: u8 = 7;

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(super) fn guest() -> SocketAddr {
    address("192.168.64.2:40000")
}

pub(super) fn server() -> SocketAddr {
    address("198.51.100.7:80")
}

/// The host's end of a flow, as the test plays it.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// None while it connects.
    pub(super) outcome: Option<Result<(), Errno>>,
    /// Bytes for the guest that are not consumed yet.
    pub(super) sends: VecDeque<u8>,
    pub(super) ends: bool,
    pub(super) fails: Option<Errno>,
    /// Bytes from the guest.
    pub(super) got: Vec<u8>,
    /// Bytes it takes now.
    pub(super) room: usize,
    pub(super) shut: bool,
    pub(super) reset: bool,
    pub(super) dropped: bool,
    pub(super) peeks: usize,
}

#[derive(Debug)]
pub(super) struct Scripted(pub(super) Arc<Mutex<Host>>);

impl HostSocket for Scripted {
    fn connected(&mut self) -> io::Result<bool> {
        match self.0.lock().unwrap().outcome {
            None => Ok(false),
            Some(Ok(())) => Ok(true),
            Some(Err(error)) => Err(error.into()),
        }
    }

    fn peek(&mut self, offset: usize, room: Span<'_, '_>) -> io::Result<Peeked> {
        let mut host = self.0.lock().unwrap();
        assert!(!room.is_empty(), "peeked into nothing");
        assert!(offset <= host.sends.len(), "peeked at {offset} of {}", host.sends.len());
        host.peeks += 1;
        let bytes: Vec<u8> = host.sends.range(offset..).take(room.len()).copied().collect();
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
        let mut host = self.0.lock().unwrap();
        assert!(bytes <= host.sends.len(), "consumed {bytes} of {}", host.sends.len());
        host.sends.drain(..bytes);
        Ok(())
    }

    fn write(&mut self, data: Span<'_, '_>) -> io::Result<usize> {
        let mut host = self.0.lock().unwrap();
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
        let mut host = self.0.lock().unwrap();
        assert!(!host.shut, "ended twice");
        host.shut = true;
        Ok(())
    }

    fn reset(&mut self) {
        self.0.lock().unwrap().reset = true;
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.0.lock().unwrap().dropped = true;
    }
}

/// Where the test sends flows, and how the next host answers.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// What the next sockets report; or the error of `connect` itself.
    pub(super) outcome: Option<Result<(), Errno>>,
    pub(super) connect_error: Option<Errno>,
    pub(super) asked: Vec<(FlowId, SocketAddr, Arc<Mutex<Host>>)>,
}

#[derive(Debug, Default)]
struct ScriptedConnector(Arc<Mutex<Script>>);

impl Connector for ScriptedConnector {
    fn connect(&mut self, flow: FlowId, to: SocketAddr) -> io::Result<Socket> {
        let mut script = self.0.lock().unwrap();
        if let Some(error) = script.connect_error {
            return Err(error.into());
        }
        let host = Arc::new(Mutex::new(Host { outcome: script.outcome, room: usize::MAX, ..Host::default() }));
        script.asked.push((flow, to, Arc::clone(&host)));
        Ok(Socket::Other(Box::new(Scripted(host))))
    }
}

/// Sends every flow to where the guest wants it.
pub(super) struct Anywhere;

impl Destinations for Anywhere {
    fn destination(&mut self, _: FlowId, _: SocketAddr, wanted: SocketAddr) -> Destination {
        Destination::Host(wanted)
    }
}

/// A segment of the guest.
#[derive(Clone, Debug)]
pub(super) struct Put {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) flags: u8,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) window: u16,
    pub(super) options: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

impl Put {
    pub(super) fn syn(from: SocketAddr, to: SocketAddr) -> Self {
        let mut options = vec![2, 4];
        options.extend(1460_u16.to_be_bytes());
        options.extend([1, 3, 3, GUEST_SCALE]);
        Self { from, to, flags: SYN, seq: GUEST_INITIAL, ack: 0, window: 64240, options, payload: Vec::new() }
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The TCP header and payload, with a complete checksum.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let header = 20 + options.len();
        let mut bytes = vec![0; header];
        bytes.extend(&self.payload);
        bytes[20..header].copy_from_slice(&options);
        bytes[13] = self.flags;
        let mut packet = TcpPacket::new_unchecked(&mut bytes);
        packet.set_src_port(self.from.port());
        packet.set_dst_port(self.to.port());
        packet.set_seq_number(TcpSeqNumber(self.seq.cast_signed()));
        packet.set_ack_number(TcpSeqNumber(self.ack.cast_signed()));
        packet.set_header_len(header as u8);
        packet.set_window_len(self.window);
        packet.fill_checksum(&IpAddress::from(self.from.ip()), &IpAddress::from(self.to.ip()));
        bytes
    }
}

/// A packet the guest received.
#[derive(Clone, Debug)]
pub(super) struct Got {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) flags: u8,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) window: u16,
    pub(super) mss: Option<u16>,
    pub(super) scale: Option<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) packet: Packet,
}

impl Got {
    fn parse(bytes: &[u8], packet: Packet) -> Self {
        assert_eq!(packet.length, bytes.len());
        let (from, to, tcp) = match bytes[0] >> 4 {
            4 => {
                let ip = Ipv4Packet::new_checked(bytes).unwrap();
                assert!(ip.verify_checksum() && ip.dont_frag() && ip.hop_limit() == 64);
                assert_eq!(usize::from(ip.total_len()), bytes.len());
                (IpAddr::V4(ip.src_addr()), IpAddr::V4(ip.dst_addr()), 20)
            }
            _ => {
                let ip = Ipv6Packet::new_checked(bytes).unwrap();
                assert_eq!(ip.total_len(), bytes.len());
                (IpAddr::V6(ip.src_addr()), IpAddr::V6(ip.dst_addr()), 40)
            }
        };
        assert_eq!(packet.destination, to);
        let mut segment = bytes[tcp..].to_vec();
        let (source, destination) = (IpAddress::from(from), IpAddress::from(to));
        if let Some(PartialChecksum { start, offset }) = packet.checksum {
            assert_eq!((usize::from(start), offset), (tcp, 16));
            // As the driver, or the next hop, would complete it: the sum of everything, including the partial one.
            let mut sum: u64 = 0;
            for pair in segment.chunks(2) {
                sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            }
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            segment[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        }
        let parsed = TcpPacket::new_checked(&segment[..]).unwrap();
        assert!(parsed.verify_checksum(&source, &destination), "checksum of {parsed}");
        assert_eq!(usize::from(packet.header_length), tcp + usize::from(parsed.header_len()));
        let (mut mss, mut scale, mut options) = (None, None, parsed.options());
        while let Ok((rest, option)) = TcpOption::parse(options) {
            match option {
                TcpOption::MaxSegmentSize(size) => mss = Some(size),
                TcpOption::WindowScale(shift) => scale = Some(shift),
                TcpOption::EndOfList => break,
                _ => {}
            }
            options = rest;
        }
        Self {
            from: SocketAddr::new(from, parsed.src_port()),
            to: SocketAddr::new(to, parsed.dst_port()),
            flags: segment[13],
            seq: parsed.seq_number().0.cast_unsigned(),
            ack: parsed.ack_number().0.cast_unsigned(),
            window: parsed.window_len(),
            mss,
            scale,
            payload: parsed.payload().to_vec(),
            packet,
        }
    }

    pub(super) fn is(&self, flags: u8) -> bool {
        self.flags & !PSH == flags
    }
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) splice: Splice,
    pub(super) script: Arc<Mutex<Script>>,
    /// Size of the guest's receive buffers.
    pub(super) room: usize,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(&Settings::default())
    }

    /// Flows are dormant whenever possible, so that every test shows if one loses something in its sleep.
    pub(super) fn with(settings: &Settings) -> Self {
        Self::awake(&Settings { max_awake: 0, ..settings.clone() })
    }

    /// Flows are dormant only when the settings demand it.
    pub(super) fn awake(settings: &Settings) -> Self {
        let script = Arc::new(Mutex::new(Script { outcome: Some(Ok(())), ..Script::default() }));
        let world = Self::on(settings, Box::new(ScriptedConnector(Arc::clone(&script))));
        Self { script, ..world }
    }

    /// A world with sockets of another kind.
    pub(super) fn on(settings: &Settings, connector: Box<dyn Connector>) -> Self {
        let now = Instant::now();
        let mut splice = Splice::new(now, settings, *b"sixteen bytes ok", connector);
        splice.set_offloads(Offloads { checksum: true, tso4: true, tso6: true });
        Self { now, splice, script: Arc::default(), room: 65550 }
    }

    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    pub(super) fn put(&mut self, segment: &Put) {
        self.put_to(segment, &mut Anywhere);
    }

    pub(super) fn put_to(&mut self, segment: &Put, destinations: &mut dyn Destinations) {
        let mut bytes = segment.bytes();
        // In pieces of awkward sizes, as a hostile driver would divide them.
        let middle = bytes.len() / 3;
        let (first, second) = bytes.split_at_mut(middle);
        let slices = [Slice::from(first), Slice::from(second)];
        let segment = Segment {
            source: segment.from.ip(),
            destination: segment.to.ip(),
            bytes: Span::new(&slices),
            checksum: Checksum::Complete,
        };
        self.splice.receive(self.now, &segment, destinations);
    }

    /// The next packet for the guest.
    pub(super) fn take_one(&mut self) -> Option<Got> {
        let mut bytes = vec![0xaa; self.room];
        let middle = self.room.min(51);
        let (first, second) = bytes.split_at_mut(middle);
        let packet = self.splice.transmit(self.now, &[Slice::from(first), Slice::from(second)])?;
        Some(Got::parse(&bytes[..packet.length], packet))
    }

    /// All packets for the guest.
    pub(super) fn take(&mut self) -> Vec<Got> {
        std::iter::from_fn(|| self.take_one()).collect()
    }

    /// All packets for the guest, which must be one.
    pub(super) fn take_only(&mut self) -> Got {
        let mut all = self.take();
        assert_eq!(all.len(), 1, "{all:#?}");
        all.remove(0)
    }

    pub(super) fn nothing_more(&mut self) {
        let all = self.take();
        assert!(all.is_empty(), "{all:#?}");
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.splice.timers(self.now);
    }

    /// Advances the time from deadline to deadline, so that timers expire in their order.
    pub(super) fn pass_in_order(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(deadline) = self.splice.next_deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.splice.timers(self.now);
        }
        self.now = end;
    }

    /// Advances the time from deadline to deadline, and returns what is sent in the meantime with its time.
    pub(super) fn pass_watching(&mut self, time: Duration) -> Vec<(Duration, Got)> {
        let (start, end) = (self.now, self.now + time);
        let mut all = Vec::new();
        while let Some(deadline) = self.splice.next_deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.splice.timers(self.now);
            let since = self.now - start;
            all.extend(self.take().into_iter().map(|got| (since, got)));
        }
        self.now = end;
        all
    }

    pub(super) fn event(&mut self, flow: FlowId, readiness: Readiness) {
        self.splice.host_event(self.now, flow, readiness);
    }

    /// An established connection of the guest, with nothing in flight.
    pub(super) fn connect(&mut self) -> Link {
        self.connect_with(&Put::syn(guest(), server()))
    }

    pub(super) fn connect_with(&mut self, syn: &Put) -> Link {
        self.put(syn);
        let answer = self.take_only();
        assert!(answer.is(SYN | ACK), "{answer:?}");
        assert_eq!((answer.from, answer.to), (syn.to, syn.from));
        assert_eq!(answer.ack, syn.seq.wrapping_add(1));
        let (flow, _, host) = self.script().asked.last().unwrap().clone();
        let mut link = Link {
            from: syn.from,
            to: syn.to,
            seq: syn.seq.wrapping_add(1),
            ack: answer.seq.wrapping_add(1),
            flow,
            host,
        };
        let ack = link.put(ACK);
        self.put(&ack);
        self.nothing_more();
        link.ack = answer.seq.wrapping_add(1);
        link
    }
}

/// A connection as the guest sees it.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    /// The guest's next sequence number.
    pub(super) seq: u32,
    /// The next number it expects.
    pub(super) ack: u32,
    pub(super) flow: FlowId,
    pub(super) host: Arc<Mutex<Host>>,
}

pub(super) const READABLE: Readiness = Readiness { readable: true, writable: false, ended: false, failed: false };
pub(super) const WRITABLE: Readiness = Readiness { readable: false, writable: true, ended: false, failed: false };
pub(super) const ENDED: Readiness = Readiness { readable: true, writable: true, ended: true, failed: false };
pub(super) const FAILED: Readiness = Readiness { readable: true, writable: true, ended: true, failed: true };

impl Link {
    /// A segment with the guest's current numbers.
    pub(super) fn put(&self, flags: u8) -> Put {
        Put {
            from: self.from,
            to: self.to,
            flags,
            seq: self.seq,
            ack: self.ack,
            window: u16::MAX,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    pub(super) fn data(&self, payload: &[u8]) -> Put {
        self.put(ACK | PSH).with(|put| put.payload = payload.to_vec())
    }

    pub(super) fn host(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap()
    }

    /// The host's peer sends bytes.
    pub(super) fn host_sends(&self, world: &mut World, bytes: &[u8]) {
        self.host().sends.extend(bytes);
        world.event(self.flow, READABLE);
    }

    pub(super) fn host_ends(&self, world: &mut World) {
        self.host().ends = true;
        world.event(self.flow, ENDED);
    }

    /// The guest sends bytes and receives their acknowledgment.
    pub(super) fn send(&mut self, world: &mut World, bytes: &[u8]) {
        world.put(&self.data(bytes));
        self.seq = self.seq.wrapping_add(bytes.len() as u32);
        let got = world.take_only();
        assert!(got.is(ACK) && got.ack == self.seq, "{got:?}");
    }

    /// The guest sends its FIN and receives its acknowledgment.
    pub(super) fn finish(&mut self, world: &mut World) {
        world.put(&self.put(FIN | ACK));
        self.seq = self.seq.wrapping_add(1);
        let got = world.take_only();
        assert!(got.is(ACK) && got.ack == self.seq, "{got:?}");
    }

    /// The guest receives all bytes and acknowledges them. Returns them, and whether the gateway's FIN followed.
    pub(super) fn receive(&mut self, world: &mut World) -> (Vec<u8>, bool) {
        let (mut all, mut ended) = (Vec::new(), false);
        loop {
            let packets = world.take();
            let mut more = false;
            for got in packets.into_iter().filter(|got| got.is(ACK) || got.is(ACK | FIN)) {
                if got.seq == self.ack {
                    self.ack = self.ack.wrapping_add(got.payload.len() as u32 + u32::from(got.is(ACK | FIN)));
                    ended |= got.is(ACK | FIN);
                    all.extend(&got.payload);
                }
                more |= !got.payload.is_empty() || got.is(ACK | FIN);
            }
            if !more {
                return (all, ended);
            }
            world.put(&self.put(ACK));
        }
    }
}
