//! Datagrams of the guest and the answers, with servers on the loopback address.

use super::super::frame::MAX_TRAIN;
use super::bench::{Bench, GUEST, GUEST6, address, icmp, ip, server, udp};
use crate::devices::net::backend::{Accepts, Backend, Offload, Segmentation};
use crate::net::network::FROM_GUEST;
use crate::net::wire::{self, UDP, Udp, checksum, word, write_ip};
use std::net::SocketAddr;

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
    // An empty datagram is one too, and so is one in fragments.
    bench.send(&udp(GUEST, &remote, b""));
    assert_eq!(server.recv_from(&mut buffer).unwrap().0, 0);
    let (whole, mut part) = (udp(GUEST, &remote, b"12345678tail"), Vec::new());
    for (offset, more) in [(0_u16, true), (16, false)] {
        let payload = &whole[34..][usize::from(offset)..][..if more { 16 } else { 4 }];
        part.clear();
        write_ip(&mut part, FROM_GUEST, address(GUEST).ip(), address(&remote).ip(), UDP, payload.len());
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

/// Sends datagrams of these sizes to the guest. Returns the sizes of those in each frame that results.
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
    // A shorter one is the last of its frame, a longer one the first of another, and an empty one alone.
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
