//! The gateway alone: frames in, frames out, servers on the loopback address, time as the test says.

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use super::*;
use crate::devices::counters::Counters;
use crate::net::dns::message;
use crate::net::network::tests::network;
use crate::net::wire::{self, pseudo_header};

const GUEST: &str = "198.19.64.2:4000";
const GUEST6: &str = "[fd72:6f72:7175:40::2]:4000";

/// A gateway with its guest.
struct Bench {
    gateway: Gateway,
    now: Instant,
    _directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(network())
    }

    fn with(network: Network) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let resolv_conf = directory.path().join("resolv.conf");
        // Nobody answers here: port 53 of this address of the loopback network is nobody's.
        fs::write(&resolv_conf, "nameserver 127.53.53.53\n").unwrap();
        let mut gateway = Gateway::new("default", network, &resolv_conf).unwrap();
        gateway.accepts(Accepts { checksum: true, tcp4: true, tcp6: true, udp: true });
        Self { gateway, now: Instant::now(), _directory: directory }
    }

    fn send(&mut self, frame: &[u8]) {
        self.send_with(frame, &Offload::default());
    }

    fn send_with(&mut self, frame: &[u8], offload: &Offload) {
        let mut memory = frame.to_vec();
        let slices = [Slice::from(memory.as_mut_slice())];
        self.gateway.receive(Span::new(&slices), offload, self.now);
        self.gateway.settle(self.now, None);
    }

    /// What the gateway has for the guest without waiting.
    fn next(&mut self) -> Option<Vec<u8>> {
        self.next_with_offload().map(|(frame, _)| frame)
    }

    fn next_with_offload(&mut self) -> Option<(Vec<u8>, Offload)> {
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

    /// The next frame for the guest, waited for.
    fn wait(&mut self) -> Vec<u8> {
        loop {
            if let Some(frame) = self.next() {
                return frame;
            }
            self.poll();
        }
    }

    /// Waits for something to come and lets the gateway look at it.
    fn poll(&mut self) {
        let mut waiting = [nix::poll::PollFd::new(self.gateway.event_fd(), nix::poll::PollFlags::POLLIN)];
        assert_eq!(nix::poll::poll(&mut waiting, 10_000_u16), Ok(1), "nothing comes");
        self.gateway.host_events(self.now).unwrap();
        self.gateway.settle(self.now, None);
    }

    fn counter(&self, name: &str) -> u64 {
        self.gateway.statistics().snapshot().into_iter().find(|(key, _)| *key == name).unwrap().1
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn udp(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    write_udp_header(&mut frame, (GUEST_MAC, GATEWAY_MAC), address(from), address(to), payload.len());
    frame.extend(payload);
    frame
}

fn ip(frame: &[u8]) -> Ip<'_> {
    let ethernet = Ethernet::read(frame).unwrap();
    assert_eq!((ethernet.destination, ethernet.source), (GUEST_MAC, GATEWAY_MAC));
    if ethernet.kind == ETHERTYPE_IPV4 { Ip::read_v4(ethernet.payload) } else { Ip::read_v6(ethernet.payload) }.unwrap()
}

/// Type and code of the ICMP message in a frame.
fn icmp(frame: &[u8]) -> [u8; 2] {
    let packet = ip(frame);
    assert!([ICMP, ICMPV6].contains(&packet.protocol));
    let initial = match packet.protocol {
        ICMP => 0,
        protocol => pseudo_header(packet.source, packet.destination, protocol, packet.payload.len()),
    };
    assert_eq!(checksum(packet.payload, initial), 0);
    [packet.payload[0], packet.payload[1]]
}

fn server() -> (UdpSocket, u16) {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let port = server.local_addr().unwrap().port();
    (server, port)
}

#[test]
fn the_gateway_and_the_host_have_a_hardware_address_and_others_none() {
    let mut bench = Bench::new();
    let mut ask = |target: [u8; 4]| {
        let mut frame = Vec::new();
        Arp { sender: (GUEST_MAC, [198, 19, 64, 2].into()), target: target.into() }.write_request(&mut frame);
        bench.send(&frame);
        bench.next()
    };
    for last in [1, 254] {
        let reply = ask([198, 19, 64, last]).unwrap();
        assert_eq!(reply[22..32], [GATEWAY_MAC.as_slice(), &[198, 19, 64, last]].concat());
    }
    assert!(ask([198, 19, 64, 2]).is_none());
    assert!(ask([198, 19, 64, 77]).is_none());
}

#[test]
fn neighbours_of_ipv6_are_answered_and_nobody_advertises_a_router() {
    let mut bench = Bench::new();
    let guest: IpAddr = address(GUEST6).ip();
    let ask = |message: Vec<u8>| {
        let mut frame = Vec::new();
        write_ip(
            &mut frame,
            (GUEST_MAC, [0x33, 0x33, 0, 0, 0, 1]),
            guest,
            "ff02::1".parse().unwrap(),
            ICMPV6,
            message.len(),
        );
        frame.extend(message);
        frame
    };
    let mut solicitation = vec![135, 0, 0, 0, 0, 0, 0, 0];
    solicitation.extend(network().v6.gateway.octets());
    bench.send(&ask(solicitation));
    let reply = bench.next().unwrap();
    assert_eq!(icmp(&reply), [136, 0]);
    assert!(reply.ends_with(&GATEWAY_MAC));
    bench.send(&ask(vec![133, 0, 0, 0, 0, 0, 0, 0]));
    assert!(bench.next().is_none(), "the guest knows its router by its command line");
}

#[test]
fn a_datagram_reaches_a_server_on_the_host_and_the_answer_the_guest() {
    let (server, port) = server();
    let mut bench = Bench::new();
    let remote = format!("198.19.64.254:{port}");
    bench.send(&udp(GUEST, &remote, b"ping"));
    let mut buffer = [0; 100];
    let (length, from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"ping");
    server.send_to(b"pong", from).unwrap();
    let frame = bench.wait();
    let packet = ip(&frame);
    let datagram = Udp::read(packet.payload).unwrap();
    assert_eq!((SocketAddr::new(packet.source, datagram.source), datagram.payload), (address(&remote), &b"pong"[..]));
    assert_eq!(SocketAddr::new(packet.destination, datagram.destination), address(GUEST));
    // An empty one is one too, and one in parts.
    bench.send(&udp(GUEST, &remote, b""));
    assert_eq!(server.recv_from(&mut buffer).unwrap().0, 0);
    let (whole, mut part) = (udp(GUEST, &remote, b"12345678tail"), Vec::new());
    for (offset, more) in [(0_u16, true), (16, false)] {
        let payload = &whole[34..][usize::from(offset)..][..if more { 16 } else { 4 }];
        part.clear();
        write_ip(&mut part, (GUEST_MAC, GATEWAY_MAC), address(GUEST).ip(), address(&remote).ip(), UDP, payload.len());
        part[20..22].copy_from_slice(&((u16::from(more) << 13) | (offset / 8)).to_be_bytes());
        part[24..26].fill(0);
        let sum = checksum(&part[14..34], 0);
        part[24..26].copy_from_slice(&sum.to_be_bytes());
        part.extend(payload);
        bench.send(&part);
    }
    let (length, _) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"12345678tail");
}

#[test]
fn several_datagrams_in_one_frame_arrive_as_several() {
    let (server, port) = server();
    let mut bench = Bench::new();
    let offload = Offload { segmentation: Segmentation::Udp, segment_bytes: 4, ..Offload::default() };
    bench.send_with(&udp(GUEST, &format!("198.19.64.254:{port}"), b"aaaabbbbcc"), &offload);
    let mut buffer = [0; 100];
    let mut received = Vec::new();
    for _ in 0..3 {
        let (length, _) = server.recv_from(&mut buffer).unwrap();
        received.push(buffer[..length].to_vec());
    }
    assert_eq!(received, [b"aaaa".to_vec(), b"bbbb".to_vec(), b"cc".to_vec()]);
}

#[test]
fn what_cannot_be_reached_is_told_in_the_terms_of_icmp() {
    let (socket, port) = server();
    drop(socket);
    let mut bench = Bench::new();
    bench.send(&udp(GUEST, &format!("198.19.64.254:{port}"), b"x"));
    assert_eq!(icmp(&bench.wait()), [3, 3], "nobody has the port");
    for (to, expected) in [
        ("198.19.64.1:99", [3, 3]),
        ("198.19.64.77:99", [3, 1]),
        ("169.254.169.254:80", [3, 13]),
        ("127.0.0.1:80", [3, 13]),
        ("0.0.0.0:80", [3, 13]),
    ] {
        bench.send(&udp(GUEST, to, b"x"));
        assert_eq!(icmp(&bench.next().unwrap()), expected, "{to}");
    }
    for (to, expected) in [
        ("[::1]:80", [1, 1]),
        ("[::ffff:127.0.0.1]:80", [1, 1]),
        ("[fe80::9]:80", [1, 1]),
        ("[fd72:6f72:7175:40::9]:1", [1, 3]),
    ] {
        bench.send(&udp(GUEST6, to, b"x"));
        assert_eq!(icmp(&bench.next().unwrap()), expected, "{to}");
    }
    bench.send(&udp(GUEST, "224.0.0.251:5353", b"x"));
    assert!(bench.next().is_none(), "many are not answered for");
}

#[test]
fn nothing_is_sent_for_an_address_that_is_not_the_guests() {
    let (server, port) = server();
    let mut bench = Bench::new();
    let remote = format!("198.19.64.254:{port}");
    for source in ["10.0.0.1:1", "198.19.64.1:1", "198.19.64.254:1"] {
        bench.send(&udp(source, &remote, b"spoofed"));
    }
    let mut frame = udp(GUEST, &remote, b"spoofed");
    frame[6..12].copy_from_slice(&[2, 2, 2, 2, 2, 2]);
    bench.send(&frame);
    assert_eq!(bench.counter("spoofed"), 4);
    bench.send(&udp(GUEST, &remote, b"own"));
    let mut buffer = [0; 100];
    let (length, _) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"own");
}

#[test]
fn the_gateway_and_the_host_answer_pings() {
    let mut bench = Bench::new();
    for (from, to) in [
        ("198.19.64.2", "198.19.64.1"),
        ("198.19.64.2", "198.19.64.254"),
        ("fd72:6f72:7175:40::2", "fd72:6f72:7175:40::1"),
    ] {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let message = Echo { identifier: 7, sequence: 1, data: b"data" }.request(from.is_ipv6());
        let mut frame = Vec::new();
        let protocol = if from.is_ipv6() { ICMPV6 } else { ICMP };
        write_ip(&mut frame, (GUEST_MAC, GATEWAY_MAC), from, to, protocol, message.len());
        frame.extend(message);
        bench.send(&frame);
        let reply = bench.next().unwrap();
        assert_eq!(icmp(&reply), if from.is_ipv6() { [129, 0] } else { [0, 0] });
        assert_eq!(ip(&reply).source, to);
    }
}

#[test]
fn names_are_resolved_on_the_gateways_address_of_both_versions() {
    let mut bench = Bench::new();
    for (guest, gateway) in [(GUEST, "198.19.64.1:53"), (GUEST6, "[fd72:6f72:7175:40::1]:53")] {
        bench.send(&udp(guest, gateway, &message::query(3, "host.docker.internal", 1)));
        let frame = bench.next().unwrap();
        let answer = Udp::read(ip(&frame).payload).unwrap().payload.to_vec();
        assert!(answer.ends_with(&[198, 19, 64, 254]));
    }
    // Nobody is there to ask: the guest hears it at once, and at the latest when patience ends.
    bench.send(&udp(GUEST, "198.19.64.1:53", &message::query(3, "example.org", 1)));
    let frame = bench.wait();
    assert_eq!(Udp::read(ip(&frame).payload).unwrap().payload[3] & 15, 2, "server failure");
}

/// A guest's TCP, as much as the tests need.
struct Tcp {
    from: SocketAddr,
    to: SocketAddr,
    sequence: u32,
    acknowledged: u32,
}

impl Tcp {
    fn frame(&self, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        write_ip(&mut frame, (GUEST_MAC, GATEWAY_MAC), self.from.ip(), self.to.ip(), TCP, 20 + payload.len());
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

    /// Flags and payload of a segment of this connection, which is acknowledged.
    fn take(&mut self, frame: &[u8]) -> (u8, Vec<u8>) {
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
    fn open(bench: &mut Bench, from: &str, to: &str) -> Self {
        let mut tcp = Self { from: address(from), to: address(to), sequence: 1000, acknowledged: 0 };
        bench.send(&tcp.frame(2, b""));
        let (flags, _) = tcp.take(&bench.wait());
        assert_eq!(flags, 0x12, "SYN and ACK");
        tcp.sequence += 1;
        bench.send(&tcp.frame(0x10, b""));
        tcp
    }
}

#[test]
fn a_connection_reaches_a_server_on_the_host() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut bench = Bench::new();
    let mut tcp = Tcp::open(&mut bench, GUEST, &format!("198.19.64.254:{}", listener.local_addr().unwrap().port()));
    let (mut socket, _) = listener.accept().unwrap();
    bench.send(&tcp.frame(0x18, b"hello"));
    let mut buffer = [0; 5];
    socket.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"hello");
    tcp.sequence += 5;
    io::Write::write_all(&mut socket, b"world").unwrap();
    let payload = loop {
        let (_, payload) = tcp.take(&bench.wait());
        if !payload.is_empty() {
            break payload;
        }
    };
    assert_eq!(payload, b"world");
}

#[test]
fn a_connection_that_is_refused_is_reset_and_one_that_is_not_allowed_is_told_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut bench = Bench::new();
    let mut tcp =
        Tcp { from: address(GUEST), to: address(&format!("198.19.64.254:{port}")), sequence: 1, acknowledged: 0 };
    bench.send(&tcp.frame(2, b""));
    assert_eq!(tcp.take(&bench.wait()).0 & 4, 4, "RST");
    let mut tcp = Tcp { from: address(GUEST), to: address("198.19.64.1:80"), sequence: 1, acknowledged: 0 };
    bench.send(&tcp.frame(2, b""));
    assert_eq!(tcp.take(&bench.wait()).0 & 4, 4, "RST");
    for to in ["169.254.169.254:80", "127.0.0.1:80"] {
        bench.send(&Tcp { from: address(GUEST), to: address(to), sequence: 7, acknowledged: 0 }.frame(2, b""));
        let frame = bench.wait();
        assert_eq!(icmp(&frame), [3, 13], "{to}");
        // It quotes whose SYN it is about.
        let quoted = &ip(&frame).payload[8..];
        assert_eq!((quoted[9], wire::word(quoted, 20)), (TCP, Some(4000)));
    }
    let closed = Network::new(
        crate::net::network::Subnet4::parse("198.19.64.0/24").unwrap(),
        "fd72:6f72:7175:40::".parse().unwrap(),
        false,
        true,
    );
    let mut bench = Bench::with(closed);
    bench.send(
        &Tcp { from: address(GUEST), to: address("198.19.64.254:80"), sequence: 7, acknowledged: 0 }.frame(2, b""),
    );
    assert_eq!(icmp(&bench.wait()), [3, 13]);
}

#[test]
fn a_flow_is_answered_by_the_pair_of_queues_it_was_sent_by() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp_server = format!("198.19.64.254:{}", listener.local_addr().unwrap().port());
    let (server, port) = server();
    let udp_server = format!("198.19.64.254:{port}");
    let mut bench = Bench::new();
    bench.gateway.set_pair(1);
    let mut tcp = Tcp::open(&mut bench, GUEST, &tcp_server);
    let (mut socket, _) = listener.accept().unwrap();
    bench.send(&udp("198.19.64.2:6000", &udp_server, b"by the second"));
    let (_, second) = server.recv_from(&mut [0; 64]).unwrap();
    bench.gateway.set_pair(0);
    bench.send(&udp("198.19.64.2:6001", &udp_server, b"by the first"));
    let (_, first) = server.recv_from(&mut [0; 64]).unwrap();
    // The next frame's pair, and the frame.
    let next = |bench: &mut Bench| loop {
        let pair = bench.gateway.next_pair(bench.now);
        if let Some(frame) = bench.next() {
            return (pair, frame);
        }
        bench.poll();
    };
    for (client, pair) in [(second, 1), (first, 0), (second, 1)] {
        server.send_to(b"answer", client).unwrap();
        assert_eq!(next(&mut bench).0, pair);
    }
    io::Write::write_all(&mut socket, b"bytes").unwrap();
    let (pair, frame) = next(&mut bench);
    assert_eq!((pair, tcp.take(&frame).1), (1, b"bytes".to_vec()));
    bench.send(&tcp.frame(0x10, b""));
    io::Write::write_all(&mut socket, b"more").unwrap();
    let (pair, frame) = next(&mut bench);
    assert_eq!((pair, tcp.take(&frame).1), (0, b"more".to_vec()), "the guest has sent by the first since");
}

#[test]
fn names_are_resolved_by_tcp_too_several_on_one_connection() {
    let mut bench = Bench::new();
    let mut tcp = Tcp::open(&mut bench, GUEST, "198.19.64.1:53");
    let mut asked = Vec::new();
    for (id, name) in [(1, "host.docker.internal"), (2, "nothing.docker.internal"), (3, "gateway.docker.internal")] {
        let query = message::query(id, name, 1);
        asked.extend((query.len() as u16).to_be_bytes());
        asked.extend(query);
    }
    // Cut where it hurts.
    for part in [&asked[..1], &asked[1..50], &asked[50..]] {
        bench.send(&tcp.frame(0x18, part));
        tcp.sequence += part.len() as u32;
    }
    // It has said all it will.
    bench.send(&tcp.frame(0x11, b""));
    tcp.sequence += 1;
    let (mut answers, mut ended) = (Vec::new(), false);
    while !ended {
        let (flags, payload) = tcp.take(&bench.wait());
        answers.extend(payload);
        ended = flags & 1 == 1;
        bench.send(&tcp.frame(0x10, b""));
    }
    let mut ids = Vec::new();
    let mut rest = answers.as_slice();
    while let Some(length) = wire::word(rest, 0) {
        ids.push(rest[3]);
        rest = &rest[2 + usize::from(length)..];
    }
    assert_eq!((ids, rest), (vec![1, 2, 3], &[][..]));
}

#[test]
fn random_frames_harm_nobody() {
    let mut bench = Bench::new();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut arp = Vec::new();
    Arp { sender: (GUEST_MAC, [198, 19, 64, 2].into()), target: [198, 19, 64, 1].into() }.write_request(&mut arp);
    let seeds = [
        udp(GUEST, "198.19.64.1:53", &message::query(1, "host.docker.internal", 28)),
        udp(GUEST6, "[fd72:6f72:7175:40::1]:53", &message::query(1, "a.b", 1)),
        udp("0.0.0.0:68", "255.255.255.255:67", &[1; 300]),
        Tcp { from: address(GUEST), to: address("198.19.64.1:53"), sequence: 1, acknowledged: 0 }.frame(2, b""),
        arp,
    ];
    for round in 0..60_000 {
        let mut frame = seeds[round % seeds.len()].clone();
        for _ in 0..random() % 6 {
            // Never the destination: no packet of a test may leave this computer.
            let at = random() as usize % frame.len();
            let in_destination = (30..34).contains(&at) || (38..54).contains(&at);
            if !in_destination {
                frame[at] = random() as u8;
            }
        }
        frame.truncate(14 + random() as usize % frame.len());
        let segmentation = if random() % 4 == 0 { Segmentation::Udp } else { Segmentation::None };
        let offload = Offload { segmentation, segment_bytes: random() as u16 | 1, ..Offload::default() };
        bench.send_with(&frame, &offload);
        while bench.next().is_some() {}
        if round % 64 == 0 {
            bench.now += Duration::from_millis(random() % 5000);
            bench.gateway.host_events(bench.now).unwrap();
        }
    }
    assert!(bench.counter("malformed") > 1000);
    bench.gateway.reset();
    assert!(bench.next().is_none());
}

#[test]
fn answers_wait_in_bounds_for_a_guest_that_takes_none() {
    let mut bench = Bench::new();
    for _ in 0..MAX_REPLIES + 50 {
        bench.send(&udp(GUEST, "198.19.64.1:99", b"x"));
    }
    assert_eq!(bench.gateway.replies.len(), MAX_REPLIES);
    assert_eq!(bench.counter("replies_dropped"), 50);
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn floods_of_syns_parts_and_tiny_datagrams_cost_bounded_memory() {
    // What other tests allocate meanwhile would count.
    let name = "net::gateway::tests::floods_in_a_process_of_their_own";
    let alone = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&alone.stdout), String::from_utf8_lossy(&alone.stderr));
    assert!(alone.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "the test above runs it"]
fn floods_in_a_process_of_their_own() {
    const FLOOD: u32 = 20_000;
    // Beyond all this; the floods' own bytes are more.
    const MEMORY_BYTES: u64 = 24 << 20;
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let mut bench = Bench::new();
    let before = resident();
    // A server whose queue is full answers no SYN.
    let silent = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Stream,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    nix::sys::socket::listen(&silent, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let silent = TcpListener::from(silent);
    let to = SocketAddr::from(([127, 0, 0, 1], silent.local_addr().unwrap().port()));
    let _queued = std::net::TcpStream::connect(to).unwrap();
    let to = SocketAddr::from(([198, 19, 64, 254], to.port()));
    let from =
        |index: u32| SocketAddr::from(([198, 19, 64, 2 + (index / 60_000) as u8], 1024 + (index % 60_000) as u16));

    for index in 0..FLOOD {
        let syn = Tcp { from: from(index), to, sequence: index, acknowledged: 0 };
        bench.send(&syn.frame(2, b""));
    }
    let half_open = tcp::Settings::default().max_half_open as u64;
    assert!(bench.counter("tcp_flows_open") <= half_open, "{}", bench.counter("tcp_flows_open"));
    let gone = bench.counter("tcp_flows_evicted") + bench.counter("tcp_flows_failed");
    assert!(gone >= u64::from(FLOOD) - half_open, "{gone} are gone");

    for index in 0..FLOOD {
        let mut frame = udp(GUEST, "198.19.64.254:9", &[0; 1480 - 8]);
        frame[18..20].copy_from_slice(&(index as u16).to_be_bytes());
        // More parts follow; the header's checksum with it.
        frame[20..22].copy_from_slice(&[0x20, 0]);
        frame[24..26].fill(0);
        let sum = checksum(&frame[14..34], 0);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        bench.send(&frame);
    }
    let held = bench.counter("fragment_bytes_held");
    assert!(held > 0 && held <= 16 * 65_535, "{held} bytes of parts are held");

    let (_server, port) = server();
    for index in 0..FLOOD {
        bench.send(&udp(&from(index).to_string(), &format!("198.19.64.254:{port}"), b"x"));
    }
    let open = bench.counter("udp_flows_open");
    assert!(open > 0 && open <= MAX_FLOWS as u64, "{open} flows of datagrams");
    assert_eq!(bench.counter("udp_flows"), u64::from(FLOOD));
    assert_eq!(bench.counter("udp_flows_evicted"), u64::from(FLOOD) - open);
    let grown = resident().saturating_sub(before);
    assert!(grown < MEMORY_BYTES, "{grown} bytes more");
}

#[path = "published_tests.rs"]
mod published;

/// Sends datagrams of these sizes to the guest and returns the sizes of those in each frame that comes of them.
fn trains(bench: &mut Bench, sizes: &[usize]) -> Vec<Vec<usize>> {
    let (server, port) = server();
    bench.send(&udp(GUEST, &format!("198.19.64.254:{port}"), b"begin"));
    let mut buffer = [0; 16];
    let (_, flow) = server.recv_from(&mut buffer).unwrap();
    for (number, size) in sizes.iter().enumerate() {
        server.send_to(&vec![number as u8; *size], flow).unwrap();
    }
    let mut all: Vec<Vec<usize>> = Vec::new();
    while all.iter().flatten().count() < sizes.len() {
        let mut waiting = [nix::poll::PollFd::new(bench.gateway.event_fd(), nix::poll::PollFlags::POLLIN)];
        assert_eq!(nix::poll::poll(&mut waiting, 10_000_u16), Ok(1), "nothing comes");
        bench.gateway.host_events(bench.now).unwrap();
        while let Some((frame, offload)) = bench.next_with_offload() {
            let packet = ip(&frame);
            let datagram = wire::Udp::read(packet.payload).unwrap();
            let place = offload.checksum.unwrap();
            let sum = wire::partial_checksum(packet.source, packet.destination, UDP, packet.payload.len());
            assert_eq!(word(&frame, usize::from(place.start + place.offset)), Some(sum));
            let size = match offload.segmentation {
                Segmentation::Udp => usize::from(offload.segment_bytes),
                _ => datagram.payload.len().max(1),
            };
            let first: usize = all.iter().flatten().count();
            let parts: Vec<&[u8]> = datagram.payload.chunks(size).collect();
            for (number, part) in (first..).zip(&parts) {
                assert!(part.iter().all(|byte| *byte == number as u8), "datagram {number}");
            }
            all.push(if parts.is_empty() { vec![0] } else { parts.into_iter().map(<[u8]>::len).collect() });
        }
    }
    all
}

#[test]
fn datagrams_of_one_sender_go_in_one_frame_as_far_as_it_can_tell_them_apart() {
    let mut bench = Bench::new();
    // A shorter one is the last of its frame, a longer one the first of another, an empty one alone.
    let all = trains(&mut bench, &[100, 100, 100, 40, 40, 60, 0, 0, 60]);
    assert_eq!(all, [vec![100, 100, 100, 40], vec![40], vec![60], vec![0], vec![0], vec![60]]);
    // As many as a turn is long, and as fit the link.
    assert_eq!(trains(&mut bench, &[30_000; 5]), [vec![30_000; 2], vec![30_000; 2], vec![30_000]]);
    let many = trains(&mut bench, &[9; 150]);
    assert_eq!(many.iter().flatten().count(), 150);
    assert!(many.iter().all(|train| train.len() <= MAX_TRAIN) && many.len() <= 4, "{many:?}");
}

#[test]
fn a_driver_that_takes_one_datagram_a_frame_gets_them_so() {
    let mut bench = Bench::new();
    bench.gateway.accepts(Accepts { checksum: true, tcp4: true, tcp6: true, udp: false });
    assert_eq!(trains(&mut bench, &[100; 3]), [vec![100], vec![100], vec![100]]);
}

#[test]
fn datagrams_of_two_senders_do_not_share_a_frame() {
    let mut bench = Bench::new();
    let servers = [server(), server()];
    for (server, port) in &servers {
        bench.send(&udp(GUEST, &format!("198.19.64.254:{port}"), b"begin"));
        let mut buffer = [0; 16];
        let (_, flow) = server.recv_from(&mut buffer).unwrap();
        server.send_to(b"answer", flow).unwrap();
    }
    for _ in &servers {
        assert_eq!(wire::Udp::read(ip(&bench.wait()).payload).unwrap().payload, b"answer");
    }
}
