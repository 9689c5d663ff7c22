//! The bench of these tests: a gateway and its guest, whose frames the test writes and reads.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::super::Gateway;
use crate::devices::counters::Counters;
use crate::devices::net::backend::{Accepts, Backend, Offload, Transmit};
use crate::devices::span::{Slice, Span};
use crate::net::network::tests::network;
use crate::net::network::{FROM_GUEST, GATEWAY_MAC, GUEST_MAC, Network};
use crate::net::wire::{
    ETHERTYPE_IPV4, Ethernet, ICMP, ICMPV6, Ip, TCP, checksum, pseudo_header, write_ip, write_udp_header,
};

pub(super) const GUEST: &str = "198.19.64.2:4000";
pub(super) const GUEST6: &str = "[fd72:6f72:7175:40::2]:4000";

/// A gateway with its guest.
pub(super) struct Bench {
    pub(super) gateway: Gateway,
    pub(super) now: Instant,
    _directory: tempfile::TempDir,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(network())
    }

    pub(super) fn with(network: Network) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let resolv_conf = directory.path().join("resolv.conf");
        // Nobody listens on port 53 of this loopback address.
        fs::write(&resolv_conf, "nameserver 127.53.53.53\n").unwrap();
        let mut gateway = Gateway::new("default", network, &resolv_conf).unwrap();
        gateway.accepts(Accepts { checksum: true, tcp4: true, tcp6: true, udp: true });
        Self { gateway, now: Instant::now(), _directory: directory }
    }

    pub(super) fn send(&mut self, frame: &[u8]) {
        self.send_with(frame, &Offload::default());
    }

    pub(super) fn send_with(&mut self, frame: &[u8], offload: &Offload) {
        let mut memory = frame.to_vec();
        let slices = [Slice::from(memory.as_mut_slice())];
        self.gateway.receive(Span::new(&slices), offload, self.now);
        self.gateway.settle(self.now, None);
    }

    /// The next frame for the guest, without waiting.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        self.next_with_offload().map(|(frame, _)| frame)
    }

    pub(super) fn next_with_offload(&mut self) -> Option<(Vec<u8>, Offload)> {
        while self.gateway.has_frames() {
            let mut memory = vec![0; 70_000];
            let slices = [Slice::from(memory.as_mut_slice())];
            if let Transmit::Frame(length, offload) = self.gateway.transmit(Span::new(&slices), self.now) {
                memory.truncate(length);
                self.gateway.settle(self.now, None);
                return Some((memory, offload));
            }
        }
        None
    }

    /// Waits for the next frame for the guest.
    pub(super) fn wait(&mut self) -> Vec<u8> {
        loop {
            if let Some(frame) = self.next() {
                return frame;
            }
            self.poll();
        }
    }

    /// Waits for an event and has the gateway handle it.
    pub(super) fn poll(&mut self) {
        let mut waiting = [nix::poll::PollFd::new(self.gateway.event_fd(), nix::poll::PollFlags::POLLIN)];
        assert_eq!(nix::poll::poll(&mut waiting, 10_000_u16), Ok(1), "nothing comes");
        self.gateway.host_events(self.now).unwrap();
        self.gateway.settle(self.now, None);
    }

    pub(super) fn counter(&self, name: &str) -> u64 {
        self.gateway.statistics().snapshot().into_iter().find(|(key, _)| *key == name).unwrap().1
    }
}

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(super) fn udp(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    write_udp_header(&mut frame, FROM_GUEST, address(from), address(to), payload.len());
    frame.extend(payload);
    frame
}

pub(super) fn ip(frame: &[u8]) -> Ip<'_> {
    let ethernet = Ethernet::read(frame).unwrap();
    assert_eq!((ethernet.destination, ethernet.source), (GUEST_MAC, GATEWAY_MAC));
    if ethernet.kind == ETHERTYPE_IPV4 { Ip::read_v4(ethernet.payload) } else { Ip::read_v6(ethernet.payload) }.unwrap()
}

/// Type and code of the ICMP message in a frame.
pub(super) fn icmp(frame: &[u8]) -> [u8; 2] {
    let packet = ip(frame);
    assert!([ICMP, ICMPV6].contains(&packet.protocol));
    let initial = match packet.protocol {
        ICMP => 0,
        protocol => pseudo_header(packet.source, packet.destination, protocol, packet.payload.len()),
    };
    assert_eq!(checksum(packet.payload, initial), 0);
    [packet.payload[0], packet.payload[1]]
}

pub(super) fn server() -> (UdpSocket, u16) {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let port = server.local_addr().unwrap().port();
    (server, port)
}

/// As much of a guest's TCP as the tests need.
pub(super) struct Tcp {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) sequence: u32,
    pub(super) acknowledged: u32,
}

impl Tcp {
    pub(super) fn frame(&self, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        write_ip(&mut frame, FROM_GUEST, self.from.ip(), self.to.ip(), TCP, 20 + payload.len());
        let start = frame.len();
        frame.extend(self.from.port().to_be_bytes());
        frame.extend(self.to.port().to_be_bytes());
        frame.extend(self.sequence.to_be_bytes());
        frame.extend(self.acknowledged.to_be_bytes());
        frame.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend(payload);
        let initial = pseudo_header(self.from.ip(), self.to.ip(), TCP, 20 + payload.len());
        let sum = checksum(&frame[start..], initial);
        frame[start + 16..start + 18].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    /// Flags and payload of a segment of this connection, which it acknowledges.
    pub(super) fn take(&mut self, frame: &[u8]) -> (u8, Vec<u8>) {
        let packet = ip(frame);
        assert_eq!(packet.protocol, TCP);
        let header = packet.payload;
        let number = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let payload = header[usize::from(header[12] >> 4) * 4..].to_vec();
        let flags = header[13];
        self.acknowledged = number.wrapping_add(payload.len() as u32 + u32::from(flags & 3 != 0));
        (flags, payload)
    }

    /// Opens the connection.
    pub(super) fn open(bench: &mut Bench, from: &str, to: &str) -> Self {
        let mut tcp = Self { from: address(from), to: address(to), sequence: 1000, acknowledged: 0 };
        bench.send(&tcp.frame(2, b""));
        let (flags, _) = tcp.take(&bench.wait());
        assert_eq!(flags, 0x12, "SYN and ACK");
        tcp.sequence += 1;
        bench.send(&tcp.frame(0x10, b""));
        tcp
    }
}
