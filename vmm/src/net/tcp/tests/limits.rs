//! The cost of thousands of flows, of floods, and of hosts that take nothing.

use std::collections::HashSet;
use std::time::Duration;

use super::super::*;
use super::world::*;

fn nth(index: usize) -> std::net::SocketAddr {
    address(&format!("192.168.64.{}:{}", 2 + index / 60_000, 1024 + index % 60_000))
}

fn sockets_alive(world: &World) -> usize {
    world.script().asked.iter().filter(|(_, _, host)| !host.lock().unwrap().dropped).count()
}

#[test]
fn ten_thousand_flows_are_opened_used_and_closed_again_and_again() {
    let mut world = World::new();
    let mut footprint = None;
    for round in 0..2 {
        world.script().asked.clear();
        let mut links: Vec<Link> = (0..10_000)
            .map(|index| world.connect_with(&Put::syn(nth(index), server()).with(|put| put.seq = round * 1_000_000)))
            .collect();
        assert_eq!(world.splice.flows(), 10_000);
        for link in &mut links {
            link.send(&mut world, b"question");
        }
        for link in &links {
            link.host_sends(&mut world, b"answer");
        }
        let answers: HashSet<_> =
            world.take().iter().filter(|got| got.payload == b"answer").map(|got| got.to).collect();
        assert_eq!(answers.len(), 10_000);
        for link in &mut links {
            link.ack = link.ack.wrapping_add(6);
            world.put(&link.put(ACK));
            link.host_ends(&mut world);
            assert!(link.receive(&mut world).1);
            link.finish(&mut world);
        }
        assert_eq!(sockets_alive(&world), 0);
        world.pass(Duration::from_secs(3));
        assert_eq!((world.splice.flows(), world.splice.buffered()), (0, 0));
        // Nothing grows from round to round.
        let now = world.splice.footprint();
        assert_eq!(*footprint.get_or_insert(now), now);
        assert!(world.splice.next_deadline().is_none());
    }
}

#[test]
fn a_flood_of_syns_costs_a_bounded_number_of_attempts_and_stops_nobody() {
    let mut world = World::new();
    let mut old = world.connect_with(&Put::syn(address("192.168.64.9:9"), server()));
    world.script().outcome = None;
    for index in 0..50_000 {
        world.put(&Put::syn(nth(index), address("203.0.113.1:81")));
    }
    let settings = Settings::default();
    assert_eq!(world.splice.flows(), settings.max_half_open + 1);
    assert_eq!(sockets_alive(&world), settings.max_half_open + 1);
    world.nothing_more();

    // An evicted attempt starts again when the guest repeats it; one that is answered is served.
    world.script().outcome = Some(Ok(()));
    let mut new = world.connect_with(&Put::syn(nth(0), server()));
    new.send(&mut world, b"in");
    old.send(&mut world, b"still here");
    assert_eq!(old.host().got, b"still here");
}

#[test]
fn attempts_given_up_under_flood_are_the_oldest() {
    let mut world = World::with(&Settings { max_half_open: 3, ..Settings::default() });
    world.script().outcome = None;
    for index in 0..5 {
        world.put(&Put::syn(nth(index), server()));
    }
    let gone: Vec<bool> = world.script().asked.iter().map(|(_, _, host)| host.lock().unwrap().dropped).collect();
    assert_eq!(gone, [true, true, false, false, false]);
    assert_eq!(world.splice.statistics().evicted, 2);
}

#[test]
fn a_full_table_gives_up_closed_flows_first_and_then_the_one_idle_longest() {
    let mut world = World::with(&Settings { max_flows: 4, ..Settings::default() });
    let mut links: Vec<Link> = (0..4).map(|index| world.connect_with(&Put::syn(nth(index), server()))).collect();
    // The last is in TIME-WAIT; the first is used after the others.
    let mut closed = links.pop().unwrap();
    closed.host_ends(&mut world);
    closed.receive(&mut world);
    closed.finish(&mut world);
    links[0].send(&mut world, b"busy");

    world.connect_with(&Put::syn(nth(10), server()));
    assert!(links.iter().all(|link| !link.host().dropped));

    world.put(&Put::syn(nth(11), server()));
    let all = world.take();
    assert!(all.iter().any(|got| got.is(RST | ACK) && got.to == nth(1)), "{all:?}");
    assert!(links[1].host().reset);
    assert!(!links[0].host().dropped && !links[2].host().dropped);
    assert_eq!(world.splice.flows(), 4);

    // Events of the host count as use too.
    links[2].host_sends(&mut world, b"x");
    world.take();
    world.put(&Put::syn(nth(12), server()));
    assert!(links[0].host().reset);
    assert!(!links[2].host().dropped);
}

#[test]
fn answers_to_strays_are_bounded_when_the_guest_takes_nothing() {
    let mut world = World::new();
    for index in 0..50_000 {
        world.put(&Put::syn(nth(index), server()).with(|put| put.flags = ACK));
    }
    assert_eq!(world.take().len(), 1024);
}

#[test]
fn unreachable_notices_are_bounded_when_nobody_fetches_them() {
    let mut world = World::new();
    world.script().connect_error = Some(nix::errno::Errno::ENETUNREACH);
    for index in 0..5000 {
        world.put(&Put::syn(nth(index), server()));
    }
    assert_eq!(std::iter::from_fn(|| world.splice.next_notice()).count(), 256);
}

#[test]
fn flows_that_come_and_go_without_receive_buffers_leave_nothing_behind() {
    let mut world = World::with(&Settings { max_flows: 16, ..Settings::default() });
    for round in 0..10_000 {
        world.put(&Put::syn(nth(0), server()).with(|put| put.seq = round));
        world.put(&Put::syn(nth(0), server()).with(|put| (put.flags, put.seq) = (RST, round + 1)));
    }
    assert_eq!(world.splice.flows(), 0);
    let (slots, ring, deadlines) = world.splice.footprint();
    assert!(slots <= 16 && ring <= 33 && deadlines == 0, "{slots} {ring} {deadlines}");
}

#[test]
fn hosts_that_take_nothing_share_a_bounded_buffer() {
    let settings = Settings { max_buffered: 1 << 20, ..Settings::default() };
    let mut world = World::with(&settings);
    let mut links: Vec<Link> = (0..50).map(|index| world.connect_with(&Put::syn(nth(index), server()))).collect();
    let text: Vec<u8> = (0..600_000_u32).map(|at| (at % 253) as u8).collect();
    let mut sent = vec![0_usize; links.len()];
    for link in &links {
        link.host().room = 0;
    }
    for _ in 0..12 {
        for (link, sent) in links.iter_mut().zip(&mut sent) {
            let end = (*sent + 50_000).min(text.len());
            world.put(&link.data(&text[*sent..end]));
            // The guest resumes where the acknowledgment points.
            let answer = world.take_only();
            *sent += answer.ack.wrapping_sub(link.seq) as usize;
            link.seq = answer.ack;
            assert!(world.splice.buffered() <= settings.max_buffered);
        }
    }
    assert!(world.splice.buffered() > settings.max_buffered / 2);
    // When the hosts take bytes again, all get everything in order.
    for link in &links {
        link.host().room = usize::MAX;
        world.event(link.flow, WRITABLE);
    }
    assert_eq!(world.splice.buffered(), 0);
    world.take();
    for (link, sent) in links.iter_mut().zip(&mut sent) {
        while *sent < text.len() {
            let end = (*sent + 60_000).min(text.len());
            world.put(&link.data(&text[*sent..end]));
            let answer = world.take_only();
            assert_eq!(answer.ack.wrapping_sub(link.seq) as usize, end - *sent);
            *sent = end;
            link.seq = answer.ack;
        }
        assert!(link.host().got == text);
    }
}

#[test]
fn a_flow_itself_is_small() {
    // What Settings::max_flows promises.
    assert!(size_of::<flow::Flow>() <= 512, "{}", size_of::<flow::Flow>());
}
