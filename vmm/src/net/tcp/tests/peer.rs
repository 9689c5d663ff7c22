//! A guest with a TCP of its own, smoltcp's, whose splice has real sockets of the host, in real time.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollTimeout};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, ChecksumCapabilities, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, Ipv4Packet, Ipv6Packet};

use super::super::*;
use crate::devices::span::{Slice, Span};

/// Longest duration of a test.
const LIMIT: Duration = Duration::from_mins(1);

/// The guest's card: packets each way.
struct Card {
    from_guest: VecDeque<Vec<u8>>,
    to_guest: VecDeque<Vec<u8>>,
    mtu: usize,
    checksum: ChecksumCapabilities,
}

struct Received(Vec<u8>);
struct Sending<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

impl phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut bytes = vec![0; length];
        let result = fill(&mut bytes);
        self.0.push_back(bytes);
        result
    }
}

impl Device for Card {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Received, Sending<'_>)> {
        let packet = self.to_guest.pop_front()?;
        Some((Received(packet), Sending(&mut self.from_guest)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.from_guest))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities.checksum = self.checksum.clone();
        capabilities
    }
}

/// How the guest's link is set up.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    pub(super) mtu: u16,
    pub(super) offloads: Offloads,
    /// Behaves as if the system could not peek at an offset.
    pub(super) without_offsets: bool,
    /// Loses one packet in this many, from the guest and to it.
    pub(super) loses: Option<(u32, u32)>,
    /// The guest's receive buffer.
    pub(super) guest_buffer: usize,
    /// See [`Settings`].
    pub(super) max_awake: usize,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            mtu: 1500,
            offloads: Offloads::default(),
            without_offsets: false,
            loses: None,
            guest_buffer: 256 << 10,
            max_awake: 64,
        }
    }
}

struct Anywhere;

impl Destinations for Anywhere {
    fn destination(&mut self, _: FlowId, _: SocketAddr, wanted: SocketAddr) -> Destination {
        // The guest's addresses for the host stand for its loopback, as host.docker.internal does.
        let host: IpAddr = if wanted.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        Destination::Host(SocketAddr::new(host, wanted.port()))
    }
}

pub(super) struct Guest {
    interface: Interface,
    sockets: SocketSet<'static>,
    card: Card,
    pub(super) splice: Splice,
    pub(super) epoll: Arc<Epoll>,
    started: Instant,
    wire: Wire,
    random: u32,
    next_port: u16,
}

impl Guest {
    pub(super) fn new(wire: &Wire) -> Self {
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap());
        let sockets = if wire.without_offsets {
            Sockets::without_offsets(Arc::clone(&epoll))
        } else {
            Sockets::new(Arc::clone(&epoll))
        };
        let started = Instant::now();
        let settings = Settings { mtu: wire.mtu, max_awake: wire.max_awake, ..Settings::default() };
        let mut splice = Splice::new(started, &settings, [9; 16], Box::new(sockets));
        splice.set_offloads(wire.offloads);
        // A driver that accepts partial checksums does not verify them.
        let checksum =
            if wire.offloads.checksum { ChecksumCapabilities::ignored() } else { ChecksumCapabilities::default() };
        let mut card =
            Card { from_guest: VecDeque::new(), to_guest: VecDeque::new(), mtu: usize::from(wire.mtu), checksum };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = 4711;
        let mut interface = Interface::new(config, &mut card, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::v4(192, 168, 64, 2), 24)).unwrap();
            addresses.push(IpCidr::new(IpAddress::v6(0xfd00, 0, 0, 0, 0, 0, 0, 2), 64)).unwrap();
        });
        let sockets = SocketSet::new(Vec::new());
        let wire = wire.clone();
        Self { interface, sockets, card, splice, epoll, started, wire, random: 1, next_port: 40000 }
    }

    fn socket(&mut self) -> SocketHandle {
        let buffer = |bytes| tcp::SocketBuffer::new(vec![0; bytes]);
        let mut socket = tcp::Socket::new(buffer(self.wire.guest_buffer), buffer(256 << 10));
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        self.sockets.add(socket)
    }

    /// Begins to connect to a port of the host's loopback.
    pub(super) fn connect(&mut self, port: u16, v6: bool) -> SocketHandle {
        let handle = self.socket();
        self.next_port += 1;
        let to = if v6 { IpAddress::v6(0xfd00, 0, 0, 0, 0, 0, 0, 1) } else { IpAddress::v4(192, 168, 64, 1) };
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.connect(self.interface.context(), (to, port), self.next_port).unwrap();
        handle
    }

    pub(super) fn listen(&mut self, port: u16) -> SocketHandle {
        let handle = self.socket();
        self.socket_at(handle).listen(port).unwrap();
        handle
    }

    pub(super) fn socket_at(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    fn is_lost(&mut self, from_guest: bool) -> bool {
        let Some((from, to)) = self.wire.loses else { return false };
        let one_in = if from_guest { from } else { to };
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.random >> 8).is_multiple_of(one_in)
    }

    /// One round: the guest's stack, its packets, the host's events, packets for the guest.
    fn turn(&mut self) {
        let now = Instant::now();
        let guest_now = smoltcp::time::Instant::from_micros((now - self.started).as_micros() as i64);
        self.interface.poll(guest_now, &mut self.card, &mut self.sockets);
        let mut busy = false;
        while let Some(mut packet) = self.card.from_guest.pop_front() {
            busy = true;
            if self.is_lost(true) {
                continue;
            }
            let (source, destination, header) = match packet[0] >> 4 {
                4 => {
                    let ip = Ipv4Packet::new_checked(&packet).unwrap();
                    (IpAddr::V4(ip.src_addr()), IpAddr::V4(ip.dst_addr()), 20)
                }
                _ => {
                    let ip = Ipv6Packet::new_checked(&packet).unwrap();
                    (IpAddr::V6(ip.src_addr()), IpAddr::V6(ip.dst_addr()), 40)
                }
            };
            let slices = [Slice::from(&mut packet[header..])];
            let checksum = if self.wire.offloads.checksum { Checksum::Partial } else { Checksum::Complete };
            let segment = Segment { source, destination, bytes: Span::new(&slices), checksum };
            self.splice.receive(now, &segment, &mut Anywhere);
        }
        self.splice.timers(now);
        let mut events = [EpollEvent::empty(); 64];
        let timeout = if busy { EpollTimeout::ZERO } else { EpollTimeout::from(1_u8) };
        let count = self.epoll.wait(&mut events, timeout).unwrap();
        for event in &events[..count] {
            if let Some(flow) = FlowId::from_token(event.data()) {
                self.splice.host_event(now, flow, Readiness::from_epoll(event.events()));
            }
        }
        // As many receive buffers as a queue has.
        for _ in 0..64 {
            let mut bytes = vec![0; 65535];
            let (front, back) = bytes.split_at_mut(4096);
            let Some(packet) = self.splice.transmit(now, &[Slice::from(front), Slice::from(back)]) else { break };
            bytes.truncate(packet.length);
            if !self.is_lost(false) {
                self.card.to_guest.push_back(bytes);
            }
        }
    }

    /// Runs until `done` returns a result.
    pub(super) fn run<T>(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let limit = Instant::now() + LIMIT;
        loop {
            if let Some(result) = done(self) {
                return result;
            }
            assert!(Instant::now() < limit, "{what}: stuck, {:?}", self.splice.statistics());
            self.turn();
        }
    }

    /// Sends all of `text` and closes, and receives until the other end has closed too.
    pub(super) fn exchange(&mut self, handle: SocketHandle, text: &[u8]) -> Vec<u8> {
        let (mut sent, mut received, mut closed) = (0, Vec::new(), false);
        self.run("exchange", |guest| {
            let socket = guest.socket_at(handle);
            if sent < text.len() && socket.can_send() {
                sent += socket.send_slice(&text[sent..]).unwrap();
            }
            if sent == text.len() && !closed && socket.may_send() {
                socket.close();
                closed = true;
            }
            while socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), received.extend_from_slice(bytes))).unwrap();
            }
            (closed && !socket.may_recv()).then(|| std::mem::take(&mut received))
        })
    }
}
