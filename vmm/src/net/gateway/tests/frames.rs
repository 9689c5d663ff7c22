//! Single frames: who answers them, who may send them, and that none does harm.

use std::net::IpAddr;
use std::time::Duration;

use super::super::replies::MAX_REPLIES;
use super::bench::{Bench, GUEST, GUEST6, Tcp, address, icmp, ip, server, udp};
use crate::devices::net::backend::{Backend, Offload, Segmentation};
use crate::net::dns::message;
use crate::net::network::tests::network;
use crate::net::network::{FROM_GUEST, GATEWAY_MAC, GUEST_MAC};
use crate::net::wire::{Arp, Echo, ICMP, ICMPV6, write_ip};

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
        write_ip(&mut frame, FROM_GUEST, from, to, protocol, message.len());
        frame.extend(message);
        bench.send(&frame);
        let reply = bench.next().unwrap();
        assert_eq!(icmp(&reply), if from.is_ipv6() { [129, 0] } else { [0, 0] });
        assert_eq!(ip(&reply).source, to);
    }
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
