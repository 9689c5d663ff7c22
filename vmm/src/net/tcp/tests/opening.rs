//! How a flow begins, from either side.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::errno::Errno;

use super::super::*;
use super::world::*;
use crate::devices::span::{Slice, Span};

#[test]
fn a_syn_is_answered_only_when_the_host_has_connected() {
    let mut world = World::new();
    world.script().outcome = None;
    world.put(&Put::syn(guest(), server()));
    world.nothing_more();
    let (flow, to, host) = world.script().asked[0].clone();
    assert_eq!(to, server());

    // The guest repeats its SYN, and there is still one attempt.
    world.put(&Put::syn(guest(), server()));
    world.nothing_more();
    assert_eq!(world.script().asked.len(), 1);

    host.lock().unwrap().outcome = Some(Ok(()));
    world.event(flow, WRITABLE);
    let answer = world.take_only();
    assert!(answer.is(SYN | ACK));
    assert_eq!(answer.ack, GUEST_INITIAL + 1);
    assert_eq!(answer.mss, Some(1460));
    assert!(answer.scale.is_some());
}

#[test]
fn a_refusal_is_a_reset() {
    let mut world = World::new();
    world.script().outcome = None;
    world.put(&Put::syn(guest(), server()));
    let (flow, _, host) = world.script().asked[0].clone();
    host.lock().unwrap().outcome = Some(Err(Errno::ECONNREFUSED));
    world.event(flow, FAILED);
    let answer = world.take_only();
    assert!(answer.is(RST | ACK), "{answer:?}");
    assert_eq!((answer.seq, answer.ack), (0, GUEST_INITIAL + 1));
    assert_eq!(world.splice.flows(), 0);
    assert!(world.splice.next_notice().is_none());
}

#[test]
fn a_time_out_of_the_host_is_a_reset() {
    let mut world = World::new();
    world.script().outcome = None;
    world.put(&Put::syn(guest(), server()));
    let (flow, _, host) = world.script().asked[0].clone();
    world.pass(Duration::from_secs(127));
    world.nothing_more();
    host.lock().unwrap().outcome = Some(Err(Errno::ETIMEDOUT));
    world.event(flow, FAILED);
    assert!(world.take_only().is(RST | ACK));
}

#[test]
fn a_socket_that_never_connects_is_given_up_after_three_minutes() {
    let mut world = World::new();
    world.script().outcome = None;
    world.put(&Put::syn(guest(), server()));
    let all = world.pass_watching(Duration::from_secs(181));
    assert_eq!(all.len(), 1);
    assert!(all[0].1.is(RST | ACK));
    assert_eq!(world.splice.flows(), 0);
    assert!(world.script().asked[0].2.lock().unwrap().dropped);
}

#[test]
fn an_unreachable_host_or_network_is_handed_up_and_not_reset() {
    for (error, expected) in [
        (Errno::ENETUNREACH, Unreachable::Network),
        (Errno::EHOSTUNREACH, Unreachable::Host),
        (Errno::EACCES, Unreachable::Prohibited),
    ] {
        for at_once in [true, false] {
            let mut world = World::new();
            if at_once {
                world.script().connect_error = Some(error);
            } else {
                world.script().outcome = None;
            }
            world.put(&Put::syn(guest(), server()));
            if !at_once {
                let (flow, _, host) = world.script().asked[0].clone();
                host.lock().unwrap().outcome = Some(Err(error));
                world.event(flow, FAILED);
            }
            world.nothing_more();
            let notice = world.splice.next_notice().unwrap();
            let (guest, remote) = (guest(), server());
            assert_eq!(notice, Notice::Unreachable { guest, remote, sequence: GUEST_INITIAL, reason: expected });
            assert!(world.splice.next_notice().is_none());
            assert_eq!(world.splice.flows(), 0);
        }
    }
}

#[test]
fn policy_may_redirect_refuse_forbid_or_serve() {
    struct Policy(Option<Destination>);
    impl Destinations for Policy {
        fn destination(&mut self, _: FlowId, from: std::net::SocketAddr, wanted: std::net::SocketAddr) -> Destination {
            assert_eq!((from, wanted), (guest(), server()));
            self.0.take().unwrap()
        }
    }
    let syn = Put::syn(guest(), server());

    let mut world = World::new();
    world.put_to(&syn, &mut Policy(Some(Destination::Host(address("127.0.0.1:80")))));
    assert_eq!(world.script().asked[0].1, address("127.0.0.1:80"));
    let answer = world.take_only();
    assert!(answer.is(SYN | ACK));
    assert_eq!(answer.from, server(), "the guest sees whom it asked for");

    let mut world = World::new();
    world.put_to(&syn, &mut Policy(Some(Destination::Refused)));
    assert!(world.take_only().is(RST | ACK));

    let mut world = World::new();
    world.put_to(&syn, &mut Policy(Some(Destination::Unreachable(Unreachable::Prohibited))));
    world.nothing_more();
    assert!(world.splice.next_notice().is_some());

    let mut world = World::new();
    let served = Arc::new(Mutex::new(Host { outcome: Some(Ok(())), room: 100, ..Host::default() }));
    world.put_to(&syn, &mut Policy(Some(Destination::Gateway(Box::new(Scripted(Arc::clone(&served)))))));
    assert!(world.take_only().is(SYN | ACK));
    assert!(world.script().asked.is_empty());
}

#[test]
fn without_a_descriptor_the_guest_is_left_to_try_again_and_the_oldest_flow_goes() {
    let mut world = World::new();
    let link = world.connect();
    world.script().connect_error = Some(Errno::EMFILE);
    world.put(&Put::syn(address("192.168.64.2:40001"), server()));
    let reset = world.take_only();
    assert!(reset.is(RST | ACK));
    assert_eq!(reset.to, guest());
    assert!(link.host().reset);
    world.script().connect_error = None;
    world.connect_with(&Put::syn(address("192.168.64.2:40001"), server()));
}

#[test]
fn an_unanswered_syn_ack_is_repeated_and_then_given_up() {
    let mut world = World::new();
    world.put(&Put::syn(guest(), server()));
    assert!(world.take_only().is(SYN | ACK));
    let all = world.pass_watching(Duration::from_secs(200));
    let times: Vec<u64> = all.iter().map(|(time, _)| time.as_secs()).collect();
    assert_eq!(times, [1, 3, 7, 15, 31, 63, 123]);
    let (last, repeated) = all.split_last().unwrap();
    assert!(repeated.iter().all(|(_, got)| got.is(SYN | ACK)));
    assert!(last.1.is(RST | ACK));
    assert!(world.script().asked[0].2.lock().unwrap().reset);
}

#[test]
fn a_repeated_syn_brings_the_same_syn_ack() {
    let mut world = World::new();
    world.put(&Put::syn(guest(), server()));
    let first = world.take_only();
    world.put(&Put::syn(guest(), server()));
    let second = world.take_only();
    assert!(second.is(SYN | ACK));
    assert_eq!((first.seq, first.ack, first.window), (second.seq, second.ack, second.window));
}

#[test]
fn while_the_host_connects_a_new_syn_takes_over_and_a_reset_ends_it() {
    let mut world = World::new();
    world.script().outcome = None;
    world.put(&Put::syn(guest(), server()));
    world.put(&Put::syn(guest(), server()).with(|put| put.seq = 77_000));
    let (flow, _, host) = world.script().asked[0].clone();
    // A reset of an unknown flow does nothing.
    world.put(&Put::syn(guest(), server()).with(|put| (put.flags, put.seq) = (RST, 5)));
    assert_eq!(world.splice.flows(), 1);
    host.lock().unwrap().outcome = Some(Ok(()));
    world.event(flow, WRITABLE);
    assert_eq!(world.take_only().ack, 77_001);

    let mut world = World::new();
    world.script().outcome = None;
    world.put(&Put::syn(guest(), server()));
    world.put(&Put::syn(guest(), server()).with(|put| (put.flags, put.seq) = (RST, GUEST_INITIAL + 1)));
    assert_eq!(world.splice.flows(), 0);
    assert!(world.script().asked[0].2.lock().unwrap().dropped);
    world.nothing_more();
}

#[test]
fn a_wrong_acknowledgment_of_the_syn_ack_is_reset_without_harm() {
    let mut world = World::new();
    world.put(&Put::syn(guest(), server()));
    let answer = world.take_only();
    let wrong = answer.seq.wrapping_add(50);
    world.put(&Put::syn(guest(), server()).with(|put| (put.flags, put.seq, put.ack) = (ACK, GUEST_INITIAL + 1, wrong)));
    let reset = world.take_only();
    assert!(reset.is(RST));
    assert_eq!(reset.seq, wrong);
    assert_eq!(world.splice.flows(), 1);
}

#[test]
fn data_with_the_syn_is_not_taken_and_taken_when_repeated() {
    let mut world = World::new();
    let mut link = world.connect_with(&Put::syn(guest(), server()).with(|put| put.payload = b"early".to_vec()));
    assert!(link.host().got.is_empty());
    link.send(&mut world, b"early");
    assert_eq!(link.host().got, b"early");
}

#[test]
fn data_with_the_acknowledgment_of_the_syn_ack_is_taken() {
    let mut world = World::new();
    world.put(&Put::syn(guest(), server()));
    let answer = world.take_only();
    let host = Arc::clone(&world.script().asked[0].2);
    world.put(&Put::syn(guest(), server()).with(|put| {
        (put.flags, put.seq, put.ack) = (ACK, GUEST_INITIAL + 1, answer.seq.wrapping_add(1));
        put.payload = b"GET /".to_vec();
    }));
    assert_eq!(host.lock().unwrap().got, b"GET /");
    assert_eq!(world.take_only().ack, GUEST_INITIAL + 6);
}

#[test]
fn a_segment_size_that_is_missing_or_absurd_gets_a_sane_one() {
    for (options, expected) in [
        (vec![], 536),
        (vec![2, 4, 0, 0], 88),
        (vec![2, 4, 0, 1], 88),
        (vec![2, 4, 255, 255], 1460),
        (vec![2, 4, 2, 88], 600),
        // Cut off, of length zero, of a length beyond the header.
        (vec![1, 2, 4, 5], 536),
        (vec![2, 0, 5, 5], 536),
        (vec![3, 200, 1, 1], 536),
        (vec![8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 2, 4, 2, 88], 600),
    ] {
        let mut world = World::new();
        let link = world.connect_with(&Put::syn(guest(), server()).with(|put| put.options.clone_from(&options)));
        link.host_sends(&mut world, &[7; 5000]);
        let got = world.take_one().unwrap();
        assert_eq!(got.packet.segmentation, Some(Segmentation::V4(expected)), "{options:?}");
    }
}

#[test]
fn sizes_over_ipv6_are_those_of_ipv6() {
    let mut world = World::new();
    let (from, to) = (address("[fd00::2]:4000"), address("[2001:db8::1]:443"));
    world.put(&Put::syn(from, to));
    let answer = world.take_only();
    assert!(answer.is(SYN | ACK));
    assert_eq!(answer.mss, Some(1440));
    let mut world = World::new();
    let link = world.connect_with(&Put::syn(from, to).with(|put| put.options.clear()));
    link.host_sends(&mut world, &vec![7; 70_000]);
    let got = world.take_one().unwrap();
    assert_eq!(got.packet.segmentation, Some(Segmentation::V6(1220)));
}

#[test]
fn without_window_scaling_of_the_guest_there_is_none() {
    let mut world = World::new();
    world.put(&Put::syn(guest(), server()).with(|put| put.options.truncate(4)));
    let answer = world.take_only();
    assert_eq!(answer.scale, None);
    let mut world = World::new();
    let mut link = world.connect_with(&Put::syn(guest(), server()).with(|put| put.options.truncate(4)));
    world.put(&link.data(b"x"));
    link.seq += 1;
    let got = world.take_only();
    assert_eq!(got.window, u16::MAX);
}

#[test]
fn a_flow_from_the_host_opens_towards_the_guest() {
    let mut world = World::new();
    let client = address("203.0.113.9:50000");
    let service = address("192.168.64.2:8080");
    let host = Arc::new(Mutex::new(Host { outcome: Some(Ok(())), room: usize::MAX, ..Host::default() }));
    host.lock().unwrap().sends.extend(b"hello");
    let socket = Socket::Other(Box::new(Scripted(Arc::clone(&host))));
    let flow = world.splice.open(world.now, client, service, |_| Ok(socket)).unwrap();
    let syn = world.take_only();
    assert!(syn.is(SYN));
    assert_eq!((syn.from, syn.to), (client, service), "the guest sees the client's own address");
    assert_eq!(syn.mss, Some(1460));

    let mut link = Link { from: service, to: client, seq: GUEST_INITIAL, ack: syn.seq.wrapping_add(1), flow, host };
    let answer = Put::syn(service, client).with(|put| (put.flags, put.ack) = (SYN | ACK, link.ack));
    world.put(&answer);
    link.seq += 1;
    let (bytes, ended) = link.receive(&mut world);
    assert_eq!((bytes.as_slice(), ended), (b"hello".as_slice(), false));
    link.send(&mut world, b"and back");
    assert_eq!(link.host().got, b"and back");
}

#[test]
fn before_the_guest_has_answered_news_of_the_socket_send_nothing() {
    let mut world = World::new();
    world.put(&Put::syn(guest(), server()));
    assert!(world.take_only().is(SYN | ACK));
    let (flow, _, host) = world.script().asked[0].clone();
    host.lock().unwrap().sends.extend(b"banner");
    world.event(flow, READABLE);
    world.event(flow, WRITABLE);
    world.event(flow, ENDED);
    world.nothing_more();

    let mut world = World::new();
    let host = Arc::new(Mutex::new(Host { outcome: Some(Ok(())), ..Host::default() }));
    let socket = Socket::Other(Box::new(Scripted(Arc::clone(&host))));
    let flow = world.splice.open(world.now, address("203.0.113.9:5"), guest(), |_| Ok(socket)).unwrap();
    assert!(world.take_only().is(SYN));
    world.event(flow, WRITABLE);
    world.event(flow, ENDED);
    world.nothing_more();
}

#[test]
fn a_guest_that_refuses_or_is_silent_resets_the_client() {
    let client = address("203.0.113.9:50000");
    let service = address("192.168.64.2:8080");
    let opened = |world: &mut World| {
        let host = Arc::new(Mutex::new(Host { outcome: Some(Ok(())), ..Host::default() }));
        let socket = Socket::Other(Box::new(Scripted(Arc::clone(&host))));
        world.splice.open(world.now, client, service, |_| Ok(socket)).unwrap();
        let syn = world.take_only();
        (host, syn)
    };
    let mut world = World::new();
    let (host, syn) = opened(&mut world);
    let refusal = Put::syn(service, client).with(|put| (put.flags, put.seq) = (RST | ACK, 0));
    // An acknowledgment of something else comes first and is ignored.
    world.put(&refusal.clone().with(|put| put.ack = syn.seq.wrapping_add(9)));
    assert_eq!(world.splice.flows(), 1);
    world.put(&refusal.with(|put| put.ack = syn.seq.wrapping_add(1)));
    assert!(host.lock().unwrap().reset);
    assert_eq!(world.splice.flows(), 0);

    let mut world = World::new();
    let (host, _) = opened(&mut world);
    world.pass_watching(Duration::from_secs(130));
    assert!(host.lock().unwrap().reset);
    assert_eq!(world.splice.flows(), 0);
}

#[test]
fn both_sides_may_open_at_once() {
    let mut world = World::new();
    let client = address("203.0.113.9:50000");
    let service = address("192.168.64.2:8080");
    let host = Arc::new(Mutex::new(Host { outcome: Some(Ok(())), room: usize::MAX, ..Host::default() }));
    let socket = Socket::Other(Box::new(Scripted(Arc::clone(&host))));
    let flow = world.splice.open(world.now, client, service, |_| Ok(socket)).unwrap();
    let syn = world.take_only();
    world.put(&Put::syn(service, client));
    let answer = world.take_only();
    assert!(answer.is(SYN | ACK));
    assert_eq!((answer.seq, answer.ack), (syn.seq, GUEST_INITIAL + 1));
    let ack = syn.seq.wrapping_add(1);
    world.put(&Put::syn(service, client).with(|put| (put.flags, put.ack) = (SYN | ACK, ack)));
    let mut link = Link { from: service, to: client, seq: GUEST_INITIAL + 1, ack, flow, host };
    world.take();
    link.send(&mut world, b"up");
    assert_eq!(link.host().got, b"up");
}

#[test]
fn a_flow_that_exists_is_not_opened_twice() {
    let mut world = World::new();
    world.connect();
    let open = world.splice.open(world.now, server(), guest(), |_| panic!("not asked for"));
    assert!(matches!(open, Err(OpenError::Exists { .. })));
    let open = world.splice.open(world.now, address("[::1]:9"), guest(), |_| panic!("not asked for"));
    assert!(matches!(open, Err(OpenError::Family { .. })));
}

#[test]
fn a_segment_of_no_flow_is_reset_and_a_reset_is_not() {
    let mut world = World::new();
    let stray = Put::syn(guest(), server());
    world.put(&stray.clone().with(|put| (put.flags, put.ack) = (ACK, 4242)));
    let reset = world.take_only();
    assert!(reset.is(RST));
    assert_eq!(reset.seq, 4242);
    world.put(&stray.clone().with(|put| (put.flags, put.payload) = (FIN, b"abc".to_vec())));
    let reset = world.take_only();
    assert!(reset.is(RST | ACK));
    assert_eq!((reset.seq, reset.ack), (0, GUEST_INITIAL + 4));
    world.put(&stray.with(|put| put.flags = RST));
    world.nothing_more();
    assert_eq!(world.splice.flows(), 0);
}

#[test]
fn what_is_not_sound_tcp_is_passed_over() {
    let mut world = World::new();
    for (from, to) in [
        ("192.168.64.2:0", "198.51.100.7:80"),
        ("192.168.64.2:4000", "198.51.100.7:0"),
        ("192.168.64.2:4000", "224.0.0.1:80"),
        ("192.168.64.2:4000", "255.255.255.255:80"),
        ("192.168.64.2:4000", "0.0.0.0:80"),
        ("[fd00::2]:4000", "[ff02::1]:80"),
    ] {
        world.put(&Put::syn(address(from), address(to)));
    }
    let good = Put::syn(guest(), server()).bytes();
    for (length, change) in
        [(19, None), (12, None), (0, None), (24, None), (28, Some(12)), (28, Some(17)), (28, Some(24))]
    {
        let mut bytes = good[..length].to_vec();
        if let Some(at) = change {
            bytes[at] ^= 0x10;
        }
        let slices = [Slice::from(&mut bytes[..])];
        let (source, destination) = (guest().ip(), server().ip());
        let segment = Segment { source, destination, bytes: Span::new(&slices), checksum: Checksum::Complete };
        world.splice.receive(world.now, &segment, &mut Anywhere);
    }
    world.nothing_more();
    assert_eq!(world.splice.flows(), 0);
    assert_eq!(world.splice.statistics().malformed, 13);
}

#[test]
fn initial_sequence_numbers_differ_by_ends_and_grow_with_time() {
    let mut world = World::new();
    let initial = |world: &mut World, port: u16| {
        let mut from = guest();
        from.set_port(port);
        world.put(&Put::syn(from, server()));
        let seq = world.take_only().seq;
        world.splice.reset();
        seq
    };
    let (first, other) = (initial(&mut world, 1), initial(&mut world, 2));
    assert_ne!(first, other);
    world.pass(Duration::from_secs(1));
    assert_eq!(initial(&mut world, 1).wrapping_sub(first), 250_000);
}
