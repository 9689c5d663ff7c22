//! Published ports: clients on the loopback address, and a guest made of frames.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use super::bench::{Bench, address, ip, udp};
use crate::devices::net::backend::Backend;
use crate::net::fragments::Fragments;
use crate::net::network::{FROM_GUEST, MTU};
use crate::net::publications::Publisher;
use crate::net::wire::{ETHERNET_BYTES, TCP, UDP, Udp, checksum, pseudo_header, word, write_ip};

const CONTAINER: &str = "172.17.0.2:53";

fn client() -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client
}

/// A published UDP port of the container, and the address that clients write to.
fn publish(bench: &Bench) -> (Publisher, SocketAddr) {
    let publisher = bench.gateway.publishers().publisher();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap();
    publisher.datagrams(1, socket.into(), address(CONTAINER)).unwrap();
    (publisher, port)
}

/// Source, destination and payload of a datagram in a frame.
fn datagram(frame: &[u8]) -> (SocketAddr, SocketAddr, Vec<u8>) {
    let packet = ip(frame);
    assert_eq!((packet.protocol, packet.fragment), (UDP, None));
    let datagram = Udp::read(packet.payload).unwrap();
    let (source, destination) = (datagram.source, datagram.destination);
    let ends = (SocketAddr::new(packet.source, source), SocketAddr::new(packet.destination, destination));
    (ends.0, ends.1, datagram.payload.to_vec())
}

#[test]
fn a_client_of_a_published_udp_port_is_answered_by_the_container() {
    let mut bench = Bench::new();
    let (_publisher, port) = publish(&bench);
    let clients = [client(), client()];
    let mut seen = Vec::new();
    for client in &clients {
        client.send_to(b"ask", port).unwrap();
        let (source, destination, payload) = datagram(&bench.wait());
        let own = client.local_addr().unwrap().port();
        assert_eq!((source.to_string(), payload), (format!("198.19.64.254:{own}"), b"ask".to_vec()));
        assert_eq!(destination, address(CONTAINER));
        seen.push(source);
    }
    assert_eq!(bench.counter("published_sessions_open"), 2);
    for (client, seen) in clients.iter().zip(seen).rev() {
        bench.send(&udp(CONTAINER, &seen.to_string(), b"answer"));
        let mut buffer = [0; 16];
        assert_eq!(client.recv_from(&mut buffer).unwrap(), (6, port));
    }
    // Nothing else from the container is accepted: its address is not one of the guest's.
    assert_eq!(bench.counter("spoofed"), 0);
    bench.send(&udp(CONTAINER, "198.19.64.254:9", b"stray"));
    bench.send(&udp(CONTAINER, "9.9.9.9:53", b"stray"));
    bench.send(&udp("172.17.0.3:53", &clients[0].local_addr().unwrap().to_string(), b"stray"));
    assert_eq!((bench.counter("spoofed"), bench.counter("udp_flows")), (3, 0));
}

#[test]
fn the_longest_datagram_comes_in_parts_and_whole() {
    let mut bench = Bench::new();
    let (_publisher, port) = publish(&bench);
    let sent: Vec<u8> = (0..65_507_u32).map(|number| (number % 251) as u8).collect();
    client().send_to(&sent, port).unwrap();
    let mut fragments = Fragments::default();
    let whole = loop {
        let frame = bench.wait();
        assert!(frame.len() <= ETHERNET_BYTES + usize::from(MTU));
        let packet = ip(&frame);
        if let Some(whole) = fragments.add(&packet, packet.fragment.unwrap(), bench.now) {
            let all = pseudo_header(packet.source, packet.destination, UDP, whole.len());
            assert_eq!(checksum(&whole, all), 0);
            break whole;
        }
    };
    assert!(Udp::read(&whole).unwrap().payload == sent);
}

#[test]
fn an_ended_port_is_free_and_its_clients_are_forgotten() {
    let mut bench = Bench::new();
    let (publisher, port) = publish(&bench);
    client().send_to(b"ask", port).unwrap();
    bench.wait();
    assert!(UdpSocket::bind(port).is_err());
    let ending = std::thread::spawn(move || publisher.end(1));
    while !ending.is_finished() {
        let mut waiting = [nix::poll::PollFd::new(bench.gateway.event_fd(), nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut waiting, 10_u16).unwrap();
        bench.gateway.host_events(bench.now).unwrap();
        bench.gateway.settle(bench.now, None);
    }
    ending.join().unwrap().unwrap();
    UdpSocket::bind(port).unwrap();
    assert_eq!(bench.counter("published_sessions_open"), 0);
}

/// An accepted connection handed to the gateway, and its client.
fn connect(bench: &Bench) -> (Publisher, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let publisher = bench.gateway.publishers().publisher();
    publisher.connection(1, listener.accept().unwrap().0.into(), address("172.17.0.2:80")).unwrap();
    (publisher, client)
}

/// A segment of the container without payload.
fn segment(from: SocketAddr, to: SocketAddr, sequence: u32, acknowledged: u32, flags: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(acknowledged.to_be_bytes());
    bytes.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    let sum = checksum(&bytes, pseudo_header(from.ip(), to.ip(), TCP, bytes.len()));
    bytes[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut frame = Vec::new();
    write_ip(&mut frame, FROM_GUEST, from.ip(), to.ip(), TCP, bytes.len());
    frame.extend(bytes);
    frame
}

/// The client as the guest sees it, and the sequence number of the SYN that came for it.
fn syn(frame: &[u8]) -> (SocketAddr, u32) {
    let packet = ip(frame);
    assert_eq!((packet.protocol, packet.destination), (TCP, address("172.17.0.2:80").ip()));
    assert_eq!(packet.payload[13] & 0x17, 2, "no SYN");
    let sequence = u32::from_be_bytes(packet.payload[4..8].try_into().unwrap());
    (SocketAddr::new(packet.source, word(packet.payload, 0).unwrap()), sequence)
}

#[test]
fn a_connection_reaches_the_container_from_its_client_and_is_reset_when_that_refuses() {
    let mut bench = Bench::new();
    let (_publisher, mut client) = connect(&bench);
    let (seen, sequence) = syn(&bench.wait());
    let own = client.local_addr().unwrap().port();
    assert_eq!(seen.to_string(), format!("198.19.64.254:{own}"));
    bench.send(&segment(address("172.17.0.2:80"), seen, 0, sequence + 1, 0x14));
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(bench.counter("spoofed"), 0);
}

#[test]
fn connections_end_with_the_port_and_with_its_publisher() {
    let mut bench = Bench::new();
    let (publisher, mut client) = connect(&bench);
    let (seen, sequence) = syn(&bench.wait());
    // The container accepts.
    bench.send(&segment(address("172.17.0.2:80"), seen, 7000, sequence + 1, 0x12));
    let acknowledgment = bench.wait();
    assert_eq!(ip(&acknowledgment).payload[13] & 0x17, 0x10);
    drop(publisher);
    bench.gateway.host_events(bench.now).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let reset = bench.wait();
    assert_eq!(ip(&reset).payload[13] & 0x04, 0x04, "the container hears nothing of the end");
}
