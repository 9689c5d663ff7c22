//! How a flow ends: in order by either side or both, half way, by reset, by silence.

use std::time::Duration;

use nix::errno::Errno;

use super::world::*;

/// The guest has learned of both ends and needs no more; the host's socket was closed in order.
fn closed_in_order(world: &mut World, link: &Link) {
    world.nothing_more();
    let host = link.host();
    assert!(host.dropped && host.shut && !host.reset, "{host:?}");
    assert_eq!(world.splice.buffered(), 0);
}

#[test]
fn open_echo_close_by_the_guest() {
    let mut world = World::new();
    let mut link = world.connect();
    link.send(&mut world, b"ping");
    assert_eq!(link.host().got, b"ping");
    link.host_sends(&mut world, b"pong");
    assert_eq!(link.receive(&mut world), (b"pong".to_vec(), false));
    assert!(link.host().sends.is_empty(), "acknowledged bytes are taken out of the socket");

    link.finish(&mut world);
    assert!(link.host().shut);
    link.host_ends(&mut world);
    let (rest, ended) = link.receive(&mut world);
    assert!(rest.is_empty() && ended);
    closed_in_order(&mut world, &link);
    assert_eq!(world.splice.flows(), 0, "the guest closed first and keeps TIME-WAIT");
}

#[test]
fn close_by_the_host_ends_in_a_short_time_wait() {
    let mut world = World::new();
    let mut link = world.connect();
    link.host_ends(&mut world);
    let (rest, ended) = link.receive(&mut world);
    assert!(rest.is_empty() && ended);
    link.finish(&mut world);
    closed_in_order(&mut world, &link);
    assert_eq!(world.splice.flows(), 1);

    // A repeated FIN is acknowledged again, and a reset does not shorten the wait (RFC 1337).
    world.pass(Duration::from_secs(1));
    world.put(&link.put(FIN | ACK).with(|put| put.seq -= 1));
    assert_eq!(world.take_only().ack, link.seq);
    world.put(&link.put(RST));
    assert_eq!(world.splice.flows(), 1);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.splice.flows(), 0);
    world.nothing_more();
}

#[test]
fn both_sides_may_close_at_once() {
    let mut world = World::new();
    let mut link = world.connect();
    link.host_ends(&mut world);
    let fin = world.take_only();
    assert!(fin.is(FIN | ACK));
    // The guest's FIN crosses the gateway's.
    world.put(&link.put(FIN | ACK));
    link.seq += 1;
    let ack = world.take_only();
    assert!(ack.is(ACK));
    assert_eq!((ack.seq, ack.ack), (fin.seq.wrapping_add(1), link.seq));
    assert!(!link.host().dropped);
    link.ack = link.ack.wrapping_add(1);
    world.put(&link.put(ACK));
    closed_in_order(&mut world, &link);
    world.pass(Duration::from_secs(3));
    assert_eq!(world.splice.flows(), 0);
}

#[test]
fn a_guest_that_has_finished_still_receives() {
    let mut world = World::new();
    let mut link = world.connect();
    link.send(&mut world, b"question");
    link.finish(&mut world);
    assert!(link.host().shut);
    world.pass(Duration::from_mins(10));
    for _ in 0..3 {
        link.host_sends(&mut world, &vec![5; 100_000]);
        assert_eq!(link.receive(&mut world).0.len(), 100_000);
    }
    link.host_ends(&mut world);
    assert!(link.receive(&mut world).1);
    closed_in_order(&mut world, &link);
}

#[test]
fn a_host_that_has_finished_still_receives() {
    let mut world = World::new();
    let mut link = world.connect();
    link.host_sends(&mut world, b"last words");
    link.host_ends(&mut world);
    assert_eq!(link.receive(&mut world), (b"last words".to_vec(), true));
    world.pass(Duration::from_mins(10));
    for _ in 0..3 {
        link.send(&mut world, &vec![6; 50_000]);
    }
    assert_eq!(link.host().got.len(), 150_000);
    link.finish(&mut world);
    closed_in_order(&mut world, &link);
}

#[test]
fn the_end_of_the_guest_is_passed_on_after_all_its_bytes() {
    let mut world = World::new();
    let mut link = world.connect();
    link.host().room = 10;
    world.put(&link.data(&[1; 1000]).with(|put| put.flags |= FIN));
    link.seq += 1001;
    assert_eq!(world.take_only().ack, link.seq);
    assert!(!link.host().shut);
    link.host_ends(&mut world);
    assert!(link.receive(&mut world).1);
    // For the guest both ends are done. Neither its reset nor a day of its silence loses what it wrote.
    world.put(&link.put(RST));
    world.pass_watching(Duration::from_hours(24));
    assert!(!link.host().dropped);
    link.host().room = 10_000;
    world.event(link.flow, WRITABLE);
    assert_eq!(link.host().got.len(), 1000);
    closed_in_order(&mut world, &link);
}

#[test]
fn a_fin_that_comes_again_or_early_is_answered_with_where_we_are() {
    let mut world = World::new();
    let mut link = world.connect();
    world.put(&link.put(FIN | ACK).with(|put| put.seq += 10));
    assert_eq!(world.take_only().ack, link.seq, "bytes before it are missing");
    assert!(!link.host().shut);
    link.finish(&mut world);
    world.put(&link.put(FIN | ACK).with(|put| put.seq -= 1));
    assert_eq!(world.take_only().ack, link.seq);
}

#[test]
fn bytes_after_the_fin_are_not_taken() {
    let mut world = World::new();
    let mut link = world.connect();
    link.finish(&mut world);
    world.put(&link.data(b"late"));
    assert_eq!(world.take_only().ack, link.seq);
    assert!(link.host().got.is_empty());
}

#[test]
fn a_fin_that_is_not_acknowledged_comes_again() {
    let mut world = World::new();
    let mut link = world.connect();
    link.host_ends(&mut world);
    let first = world.take_only();
    let all = world.pass_watching(Duration::from_secs(8));
    assert_eq!(all.iter().map(|(time, _)| time.as_secs()).collect::<Vec<_>>(), [1, 3, 7]);
    assert!(all.iter().all(|(_, got)| got.is(FIN | ACK) && got.seq == first.seq));
    link.ack = link.ack.wrapping_add(1);
    link.finish(&mut world);
    closed_in_order(&mut world, &link);
}

/// Brings a flow into a state in which a reset can arrive.
type Scene = (&'static str, fn(&mut World, &mut Link));

const SCENES: [Scene; 7] = [
    ("established", |_, _| {}),
    ("with bytes in flight", |world, link| {
        link.host_sends(world, &[1; 3000]);
        world.take();
    }),
    ("close-wait", |world, link| link.finish(world)),
    ("fin-wait-1", |world, link| {
        link.host_ends(world);
        world.take();
    }),
    ("fin-wait-2", |world, link| {
        link.host_ends(world);
        link.receive(world);
    }),
    ("closing", |world, link| {
        link.host_ends(world);
        world.take();
        // Its FIN does not acknowledge the gateway's.
        link.finish(world);
    }),
    ("last-ack", |world, link| {
        link.finish(world);
        link.host_ends(world);
        world.take();
    }),
];

#[test]
fn a_reset_of_the_guest_resets_the_host_in_each_state() {
    for (name, prepare) in SCENES {
        let mut world = World::new();
        let mut link = world.connect();
        prepare(&mut world, &mut link);
        world.put(&link.put(RST));
        assert!(link.host().reset, "{name}");
        assert!(link.host().dropped, "{name}");
        assert_eq!(world.splice.flows(), 0, "{name}");
        world.nothing_more();
    }
    // Closed on both sides, nothing is left to break, and the wait continues.
    let mut world = World::new();
    let mut link = world.connect();
    link.host_ends(&mut world);
    link.receive(&mut world);
    link.finish(&mut world);
    assert!(link.host().dropped && !link.host().reset);
    world.put(&link.put(RST));
    world.nothing_more();
    assert_eq!((world.splice.flows(), link.host().reset), (1, false));
    // The same before the handshake was complete.
    let mut world = World::new();
    world.put(&Put::syn(guest(), server()));
    world.take();
    world.put(&Put::syn(guest(), server()).with(|put| (put.flags, put.seq) = (RST, GUEST_INITIAL + 1)));
    assert!(world.script().asked[0].2.lock().unwrap().reset);
}

#[test]
fn a_blind_reset_is_challenged_or_passed_over_in_each_state() {
    for (name, prepare) in SCENES {
        let mut world = World::new();
        let mut link = world.connect();
        prepare(&mut world, &mut link);
        // In the window, but not exact (RFC 5961 §3.2); no challenge is due once the guest's end is known.
        world.put(&link.put(RST).with(|put| put.seq += 1));
        let challenges = world.take();
        assert!(challenges.iter().all(|got| got.is(ACK) && got.ack == link.seq), "{name}");
        // Out of the window.
        for away in [u32::MAX, 0_u32.wrapping_sub(100_000), 10_000_000, (1 << 31) - 1, 1 << 31] {
            world.put(&link.put(RST).with(|put| put.seq = put.seq.wrapping_add(away)));
            world.nothing_more();
        }
        assert!(!link.host().reset && !link.host().dropped, "{name}");
        // A valid one still takes effect.
        world.put(&link.put(RST));
        assert!(link.host().dropped, "{name}");
    }
}

#[test]
fn a_syn_in_an_open_flow_is_challenged() {
    for seq in [GUEST_INITIAL, GUEST_INITIAL + 1, GUEST_INITIAL + 500, 3_000_000_000] {
        for flags in [SYN, SYN | ACK] {
            let mut world = World::new();
            let mut link = world.connect();
            world.put(&link.put(flags).with(|put| put.seq = seq));
            let challenge = world.take_only();
            assert!(challenge.is(ACK));
            assert_eq!((challenge.seq, challenge.ack), (link.ack, link.seq));
            link.send(&mut world, b"unharmed");
        }
    }
}

#[test]
fn a_guest_that_started_anew_gets_rid_of_its_old_flow() {
    let mut world = World::new();
    let link = world.connect();
    world.put(&Put::syn(guest(), server()).with(|put| put.seq = 99_000));
    let challenge = world.take_only();
    // The guest's kernel does not know the connection.
    world.put(&Put::syn(guest(), server()).with(|put| (put.flags, put.seq) = (RST, challenge.ack)));
    assert!(link.host().reset);
    world.connect_with(&Put::syn(guest(), server()).with(|put| put.seq = 99_000));
}

#[test]
fn a_port_in_time_wait_can_be_used_again() {
    let mut world = World::new();
    let mut link = world.connect();
    link.host_ends(&mut world);
    link.receive(&mut world);
    link.finish(&mut world);
    let seq = link.seq + 10;
    let mut again = world.connect_with(&Put::syn(guest(), server()).with(|put| put.seq = seq));
    again.send(&mut world, b"new");
    assert_eq!(world.splice.flows(), 1);
}

#[test]
fn a_reset_of_the_host_comes_after_its_bytes() {
    let mut world = World::new();
    let mut link = world.connect();
    link.host().sends.extend(b"sorry");
    link.host().fails = Some(Errno::ECONNRESET);
    world.event(link.flow, FAILED);
    let all = world.take();
    assert_eq!(all[0].payload, b"sorry");
    assert!(all[1].is(RST | ACK));
    assert_eq!(all[1].seq, link.ack.wrapping_add(5), "exactly where the guest takes it");
    assert_eq!(all.len(), 2);
    link.ack = link.ack.wrapping_add(5);
    assert_eq!(world.splice.flows(), 0);
}

#[test]
fn a_reset_of_the_host_ends_the_flow_in_each_state() {
    for (name, prepare) in SCENES {
        let mut world = World::new();
        let mut link = world.connect();
        prepare(&mut world, &mut link);
        link.host().fails = Some(Errno::ECONNRESET);
        world.event(link.flow, FAILED);
        let all = world.take();
        assert!(all.last().is_some_and(|got| got.is(RST | ACK)), "{name}: {all:?}");
        assert_eq!(world.splice.flows(), 0, "{name}");
    }
}

#[test]
fn a_broken_host_is_noticed_by_writing() {
    let mut world = World::new();
    let link = world.connect();
    link.host().fails = Some(Errno::EPIPE);
    world.put(&link.data(b"anyone there?"));
    assert!(world.take().last().unwrap().is(RST | ACK));
    assert_eq!(world.splice.flows(), 0);
}

#[test]
fn an_idle_flow_is_kept_alive_while_the_guest_answers() {
    let mut world = World::new();
    let link = world.connect();
    assert!(world.pass_watching(Duration::from_mins(119)).is_empty());
    for _ in 0..3 {
        let probes = world.pass_watching(Duration::from_mins(2));
        assert!(!probes.is_empty());
        assert_eq!(probes[0].1.seq, link.ack.wrapping_sub(1), "what the guest has had already");
        world.put(&link.put(ACK));
        world.nothing_more();
        assert!(world.pass_watching(Duration::from_mins(118)).is_empty());
    }
    assert_eq!(world.splice.flows(), 1);
}

#[test]
fn a_guest_that_is_gone_is_given_up_after_nine_probes() {
    let mut world = World::new();
    let link = world.connect();
    let all = world.pass_watching(Duration::from_hours(3));
    assert_eq!(all.len(), 10);
    assert!(all[9].1.is(RST | ACK));
    assert_eq!(all[9].0, Duration::from_hours(2) + 9 * Duration::from_secs(75));
    assert!(link.host().reset);
}

#[test]
fn a_keep_alive_of_the_guest_is_answered() {
    let mut world = World::new();
    let link = world.connect();
    for payload in [vec![], vec![0]] {
        world.put(&link.data(&payload).with(|put| put.seq -= 1));
        let answer = world.take_only();
        assert_eq!((answer.seq, answer.ack), (link.ack, link.seq));
        assert!(link.host().got.is_empty());
    }
}

#[test]
fn a_reset_of_the_device_resets_every_host() {
    let mut world = World::new();
    let link = world.connect();
    link.host().room = 0;
    world.put(&link.data(&[1; 100]));
    link.host_sends(&mut world, b"x");
    world.splice.reset();
    assert!(link.host().reset && link.host().dropped);
    assert_eq!((world.splice.flows(), world.splice.buffered()), (0, 0));
    assert!(!world.splice.has_output());
    assert!(world.splice.next_deadline().is_none());
    // Late events of its socket are ignored.
    world.event(link.flow, FAILED);
    world.nothing_more();
}
