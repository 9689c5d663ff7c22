//! Connections of the guest, with servers on the loopback address.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::bench::{Bench, GUEST, Tcp, address, icmp, ip, server, udp};
use crate::devices::net::backend::Backend;
use crate::net::network::{GUEST_MAC, Network, Subnet4};
use crate::net::wire::{self, Arp, TCP};

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
    socket.write_all(b"world").unwrap();
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
        // The error quotes the SYN it is about.
        let quoted = &ip(&frame).payload[8..];
        assert_eq!((quoted[9], wire::word(quoted, 20)), (TCP, Some(4000)));
    }
    let closed =
        Network::new(Subnet4::parse("198.19.64.0/24").unwrap(), "fd72:6f72:7175:40::".parse().unwrap(), false, true);
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
    // The next frame and its pair.
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
    socket.write_all(b"bytes").unwrap();
    let (pair, frame) = next(&mut bench);
    assert_eq!((pair, tcp.take(&frame).1), (1, b"bytes".to_vec()));
    bench.send(&tcp.frame(0x10, b""));
    socket.write_all(b"more").unwrap();
    let (pair, frame) = next(&mut bench);
    assert_eq!((pair, tcp.take(&frame).1), (0, b"more".to_vec()), "the guest has sent by the first since");
}

#[test]
fn the_frame_whose_pair_was_asked_for_comes_next_whatever_is_queued_meanwhile() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("198.19.64.254:{}", listener.local_addr().unwrap().port());
    let mut bench = Bench::new();
    bench.gateway.set_pair(1);
    let mut tcp = Tcp::open(&mut bench, GUEST, &server);
    bench.gateway.set_pair(0);
    listener.accept().unwrap().0.write_all(b"bytes").unwrap();
    while !bench.gateway.has_frames() {
        bench.poll();
    }
    assert_eq!(bench.gateway.next_pair(bench.now), 1);
    // A reply, which goes by the first pair.
    let mut request = Vec::new();
    Arp { sender: (GUEST_MAC, [198, 19, 64, 2].into()), target: [198, 19, 64, 1].into() }.write_request(&mut request);
    bench.send(&request);
    assert_eq!(bench.gateway.next_pair(bench.now), 1);
    assert_eq!(tcp.take(&bench.next().unwrap()).1, b"bytes");
    assert_eq!(bench.gateway.next_pair(bench.now), 0);
    assert_eq!(bench.next().unwrap()[12..14], [8, 6], "the reply");
}
