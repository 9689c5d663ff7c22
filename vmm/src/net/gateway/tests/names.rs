//! Queries to the resolver on the gateway's address.

use super::bench::{Bench, GUEST, GUEST6, Tcp, ip, udp};
use crate::net::dns::message;
use crate::net::wire::{self, Udp};

#[test]
fn names_are_resolved_on_the_gateways_address_of_both_versions() {
    let mut bench = Bench::new();
    for (guest, gateway) in [(GUEST, "198.19.64.1:53"), (GUEST6, "[fd72:6f72:7175:40::1]:53")] {
        bench.send(&udp(guest, gateway, &message::query(3, "host.docker.internal", 1)));
        let frame = bench.next().unwrap();
        let answer = Udp::read(ip(&frame).payload).unwrap().payload.to_vec();
        assert!(answer.ends_with(&[198, 19, 64, 254]));
    }
    // Nobody answers: the guest learns that at once, or at the latest when the attempts have ended.
    bench.send(&udp(GUEST, "198.19.64.1:53", &message::query(3, "example.org", 1)));
    let frame = bench.wait();
    assert_eq!(Udp::read(ip(&frame).payload).unwrap().payload[3] & 15, 2, "server failure");
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
    // Cut in the most awkward places.
    for part in [&asked[..1], &asked[1..50], &asked[50..]] {
        bench.send(&tcp.frame(0x18, part));
        tcp.sequence += part.len() as u32;
    }
    // The guest has finished writing.
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
