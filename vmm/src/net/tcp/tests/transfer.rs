//! Bytes both ways: order, repetition, windows, sizes.

use std::time::Duration;

use super::super::*;
use super::world::*;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

#[test]
fn a_segment_repeated_by_the_guest_is_taken_once() {
    let mut world = World::new();
    let mut link = world.connect();
    link.send(&mut world, b"once");
    world.put(&link.data(b"once").with(|put| put.seq -= 4));
    let answer = world.take_only();
    assert!(answer.is(ACK) && answer.ack == link.seq);
    assert_eq!(link.host().got, b"once");
}

#[test]
fn a_segment_that_comes_early_is_asked_for_again() {
    let mut world = World::new();
    let mut link = world.connect();
    let (first, second) = (link.data(b"first "), link.data(b"second").with(|put| put.seq += 6));
    for _ in 0..2 {
        world.put(&second);
        assert_eq!(world.take_only().ack, link.seq, "a duplicate acknowledgment");
    }
    world.put(&first);
    world.put(&second);
    link.seq += 12;
    assert_eq!(world.take_only().ack, link.seq);
    assert_eq!(link.host().got, b"first second");
}

#[test]
fn overlapping_segments_give_each_byte_once() {
    let mut world = World::new();
    let mut link = world.connect();
    let text = pattern(1000);
    let put = |world: &mut World, range: std::ops::Range<usize>| {
        world.put(&link.data(&text[range.clone()]).with(|put| put.seq += range.start as u32));
        world.take();
    };
    for range in [0..100, 50..150, 0..150, 0..200, 199..201, 150..900, 300..400, 0..1000, 999..1000] {
        put(&mut world, range);
    }
    assert_eq!(link.host().got, text);
    link.seq += 1000;
    link.send(&mut world, b".");
}

#[test]
fn sequence_numbers_wrap_around_from_the_guest() {
    let mut world = World::new();
    let mut link = world.connect_with(&Put::syn(guest(), server()).with(|put| put.seq = u32::MAX - 70_000));
    let text = pattern(200_000);
    for part in text.chunks(40_000) {
        link.send(&mut world, part);
    }
    assert_eq!(link.host().got, text);
    assert!(link.seq < 200_000);
    link.finish(&mut world);
    assert!(link.host().shut);
}

#[test]
fn sequence_numbers_wrap_around_towards_the_guest() {
    // Initial numbers grow with time: waits until the gateway's is about to wrap.
    let mut world = World::new();
    world.put(&Put::syn(guest(), server()));
    let initial = world.take_only().seq;
    world.splice.reset();
    world.splice.set_offloads(Offloads { checksum: true, tso4: true, tso6: true });
    let until = (u32::MAX - 100_000).wrapping_sub(initial);
    world.pass(Duration::from_micros(4 * u64::from(until)));
    let mut link = world.connect();
    assert!(link.ack > u32::MAX - 100_001, "{}", link.ack);
    let text = pattern(300_000);
    link.host_sends(&mut world, &text);
    link.host_ends(&mut world);
    assert_eq!(link.receive(&mut world), (text, true));
    assert!(link.ack < 300_000);
}

#[test]
fn a_large_read_goes_whole_with_its_segment_size() {
    let mut world = World::new();
    let link = world.connect();
    link.host_sends(&mut world, &pattern(200_000));
    let got = world.take_one().unwrap();
    assert_eq!(got.packet.length, 65535);
    assert_eq!(got.payload, pattern(200_000)[..65495]);
    assert_eq!(got.packet.segmentation, Some(Segmentation::V4(1460)));
    assert_eq!(got.packet.checksum, Some(PartialChecksum { start: 20, offset: 16 }));
    assert_eq!(got.packet.header_length, 40);
}

#[test]
fn a_link_of_large_packets_needs_no_segmentation() {
    let mut world = World::with(&Settings { mtu: 65535, ..Settings::default() });
    world.put(&Put::syn(guest(), server()));
    assert_eq!(world.take_only().mss, Some(65495));
    let mut world = World::with(&Settings { mtu: 65535, ..Settings::default() });
    let mss = vec![2, 4, 0xff, 0xd7, 1, 3, 3, GUEST_SCALE];
    let link = world.connect_with(&Put::syn(guest(), server()).with(|put| put.options = mss));
    link.host_sends(&mut world, &pattern(200_000));
    let got = world.take_one().unwrap();
    assert_eq!((got.payload.len(), got.packet.segmentation), (65495, None));
}

#[test]
fn without_offloads_each_packet_is_one_segment_with_its_checksum() {
    for (offloads, size) in [
        (Offloads::default(), 1460),
        (Offloads { checksum: true, ..Offloads::default() }, 1460),
        // A driver must not accept this without the former; if it does, it is not sent what it cannot check.
        (Offloads { tso4: true, ..Offloads::default() }, 1460),
    ] {
        let mut world = World::new();
        world.splice.set_offloads(offloads);
        let mut link = world.connect();
        let text = pattern(20_001);
        link.host_sends(&mut world, &text);
        let got = world.take_one().unwrap();
        assert_eq!(got.payload.len(), size);
        assert_eq!(got.packet.segmentation, None);
        assert_eq!(got.packet.checksum.is_some(), offloads.checksum);
        link.ack = link.ack.wrapping_add(size as u32);
        assert_eq!(link.receive(&mut world).0, text[size..]);
    }
}

#[test]
fn the_room_of_the_guest_bounds_a_packet_and_too_little_is_left_alone() {
    let mut world = World::new();
    let mut link = world.connect();
    link.host_sends(&mut world, &pattern(5000));
    world.room = 67;
    world.nothing_more();
    assert!(world.splice.has_output());
    world.room = 1000;
    let got = world.take_one().unwrap();
    assert_eq!(got.packet.length, 1000);
    link.ack = link.ack.wrapping_add(960);
    world.room = 70;
    assert_eq!(link.receive(&mut world).0, pattern(5000)[960..]);
}

#[test]
fn a_closed_window_leaves_the_bytes_with_the_host_and_is_probed() {
    let mut world = World::new();
    let mut link = world.connect();
    world.put(&link.put(ACK).with(|put| put.window = 0));
    let text = pattern(100_000);
    link.host_sends(&mut world, &text);
    world.nothing_more();
    assert_eq!(link.host().peeks, 1, "only the look after connecting: nothing is read that cannot be sent");
    let probes = world.pass_watching(Duration::from_secs(100));
    let times: Vec<u64> = probes.iter().map(|(time, _)| time.as_secs()).collect();
    assert_eq!(times, [1, 3, 7, 15, 31, 63]);
    for (_, probe) in &probes {
        assert_eq!((probe.seq, probe.payload.len()), (link.ack.wrapping_sub(1), 0));
    }
    // The guest answers each probe for an hour, still closed; then it opens its window.
    for _ in 0..60 {
        world.put(&link.put(ACK).with(|put| put.window = 0));
        world.pass_watching(Duration::from_mins(1));
    }
    assert_eq!(world.splice.flows(), 1);
    world.put(&link.put(ACK));
    assert_eq!(link.receive(&mut world).0, text);
}

#[test]
fn a_closed_window_that_is_never_answered_for_ends_the_flow() {
    let mut world = World::new();
    let link = world.connect();
    world.put(&link.put(ACK).with(|put| put.window = 0));
    link.host_sends(&mut world, b"x");
    let all = world.pass_watching(Duration::from_hours(1));
    assert_eq!(all.len(), 16);
    assert!(all[15].1.is(RST | ACK));
    assert!(link.host().reset);
}

#[test]
fn no_more_is_sent_than_the_window_allows() {
    let mut world = World::new();
    let mut link = world.connect();
    // 20 units of 128 bytes.
    world.put(&link.put(ACK).with(|put| put.window = 20));
    link.host_sends(&mut world, &pattern(10_000));
    let sent: usize = world.take().iter().map(|got| got.payload.len()).sum();
    assert_eq!(sent, 2560);
    world.put(&link.put(ACK).with(|put| (put.ack, put.window) = (put.ack.wrapping_add(2560), 3)));
    let sent = world.take_only();
    assert_eq!(sent.payload.len(), 384, "with nothing in flight, as much as there is room for");
    link.ack = link.ack.wrapping_add(2560 + 384);
    world.put(&link.put(ACK));
    assert_eq!(link.receive(&mut world).0, pattern(10_000)[2944..]);
}

#[test]
fn a_window_that_opens_by_little_does_not_bring_small_segments() {
    let mut world = World::new();
    let link = world.connect();
    world.put(&link.put(ACK).with(|put| put.window = 100));
    link.host_sends(&mut world, &pattern(100_000));
    assert_eq!(world.take_only().payload.len(), 12800);
    // 6,400 acknowledged, but the window moved by only 128.
    world.put(&link.put(ACK).with(|put| (put.ack, put.window) = (put.ack.wrapping_add(6400), 51)));
    world.nothing_more();
}

#[test]
fn the_largest_window_scale_is_fourteen() {
    let mut world = World::new();
    let options = vec![1, 3, 3, 200];
    let link = world.connect_with(&Put::syn(guest(), server()).with(|put| put.options = options));
    // A window of a gibibyte, less a little: nothing overflows.
    link.host_sends(&mut world, &pattern(3_000_000));
    let sent: usize = world.take().iter().map(|got| got.payload.len()).sum();
    assert_eq!(sent, 3_000_000);
}

#[test]
fn bytes_that_are_not_acknowledged_are_peeked_again() {
    let mut world = World::new();
    let mut link = world.connect();
    let text = pattern(150_000);
    link.host_sends(&mut world, &text);
    let first: Vec<u32> = world.take().iter().map(|got| got.seq).collect();
    assert_eq!(first.len(), 3);
    assert_eq!(link.host().sends.len(), 150_000, "until acknowledged they stay where they are");
    let again = world.pass_watching(Duration::from_millis(1500));
    assert_eq!(again.iter().map(|(_, got)| got.seq).collect::<Vec<_>>(), first);
    // The second packet was lost, the first arrived.
    link.ack = link.ack.wrapping_add(65495);
    world.put(&link.put(ACK));
    world.nothing_more();
    world.pass(Duration::from_secs(1));
    assert_eq!(link.receive(&mut world).0, text[65495..]);
    assert!(link.host().sends.is_empty());
}

#[test]
fn three_duplicates_bring_the_missing_at_once_and_only_once() {
    let mut world = World::new();
    let mut link = world.connect();
    let text = pattern(400_000);
    link.host_sends(&mut world, &text);
    let sent = world.take();
    assert_eq!(sent.len(), 7);
    for _ in 0..2 {
        world.put(&link.put(ACK));
        world.nothing_more();
    }
    world.put(&link.put(ACK));
    let again = world.take();
    assert_eq!(again[0].seq, link.ack);
    assert_eq!(again.len(), 7);
    for _ in 0..20 {
        world.put(&link.put(ACK));
    }
    world.nothing_more();
    link.ack = link.ack.wrapping_add(400_000);
    world.put(&link.put(ACK));
    world.nothing_more();
    assert!(link.host().sends.is_empty());
}

#[test]
fn a_guest_that_acknowledges_nothing_is_given_up() {
    let mut world = World::new();
    let link = world.connect();
    link.host_sends(&mut world, b"hello?");
    world.take();
    let all = world.pass_watching(Duration::from_hours(1));
    assert_eq!(all.len(), 16);
    assert!(all[15].1.is(RST | ACK));
    assert!((Duration::from_mins(8)..Duration::from_mins(12)).contains(&all[15].0), "{:?}", all[15].0);
    assert!(link.host().reset);
}

#[test]
fn acknowledgments_of_what_was_not_sent_or_long_ago_are_answered_and_ignored() {
    let mut world = World::new();
    let mut link = world.connect();
    link.host_sends(&mut world, b"hello");
    world.take();
    for away in [6_u32, 1000, 1 << 31, (1 << 31) - 1, (20_000_000_u32).wrapping_neg()] {
        world.put(&link.data(b"evil").with(|put| put.ack = put.ack.wrapping_add(away)));
        let answer = world.take_only();
        assert!(answer.is(ACK) && answer.ack == link.seq, "{away}: {answer:?}");
    }
    assert!(link.host().got.is_empty());
    link.ack = link.ack.wrapping_add(5);
    link.send(&mut world, b"fine");
}

#[test]
fn a_host_that_takes_nothing_closes_the_window_and_opens_it_again() {
    let mut world = World::new();
    let mut link = world.connect();
    link.host().room = 100_000;
    let text = pattern(2_000_000);
    let scale = 4;
    let (mut at, mut window, mut packets) = (0, 524_288_usize, 0);
    while window > 0 {
        let length = window.min(60_000);
        world.put(&link.data(&text[at..at + length]));
        at += length;
        link.seq += length as u32;
        let answer = world.take_only();
        assert_eq!(answer.ack, link.seq, "in the window everything is taken");
        window = usize::from(answer.window) << scale;
        packets += 1;
        assert!(packets < 40);
    }
    assert!(at > 500_000 && at < 700_000, "{at}");
    assert_eq!(world.splice.buffered(), at - 100_000);
    assert!(world.splice.buffered() <= 512 << 10);

    // More than that is not accepted; the guest's probe of the window is answered.
    world.put(&link.data(&text[at..=at]));
    let answer = world.take_only();
    assert_eq!((answer.ack, answer.window), (link.seq, 0));

    // A little room does not open the window; half of it does, without a request.
    link.host().room = 1000;
    world.event(link.flow, WRITABLE);
    world.nothing_more();
    link.host().room = usize::MAX;
    world.event(link.flow, WRITABLE);
    let update = world.take_only();
    assert_eq!(update.ack, link.seq);
    assert_eq!(usize::from(update.window) << scale, 524_288);
    assert_eq!(link.host().got, text[..at]);
    assert_eq!(world.splice.buffered(), 0);
}

#[test]
fn bytes_beyond_the_window_are_cut_off() {
    let mut world = World::with(&Settings { window: 64 << 10, ..Settings::default() });
    let link = world.connect();
    link.host().room = 0;
    let text = pattern(65_000);
    world.put(&link.data(&text));
    world.put(&link.data(&text).with(|put| put.seq += 65_000));
    let answer = world.take_only();
    let taken = answer.ack.wrapping_sub(link.seq) as usize;
    assert!((65_000..=64 << 10).contains(&taken), "{taken}");
    assert!(world.splice.buffered() <= 64 << 10);
}

#[test]
fn acknowledgments_ride_on_data_and_many_segments_get_one() {
    let mut world = World::new();
    let mut link = world.connect();
    for _ in 0..10 {
        world.put(&link.data(&[1; 1000]));
        link.seq += 1000;
    }
    assert_eq!(world.take_only().ack, link.seq);
    world.put(&link.data(b"question"));
    link.seq += 8;
    link.host_sends(&mut world, b"answer");
    let got = world.take_only();
    assert_eq!((got.payload.as_slice(), got.ack), (b"answer".as_slice(), link.seq));
}

#[test]
fn flows_take_turns() {
    let mut world = World::new();
    let links: Vec<Link> = (0..3)
        .map(|port| world.connect_with(&Put::syn(address(&format!("192.168.64.2:{}", 5000 + port)), server())))
        .collect();
    for link in &links {
        link.host_sends(&mut world, &pattern(150_000));
    }
    let ports: Vec<u16> = world.take().iter().map(|got| got.to.port()).collect();
    assert_eq!(ports, [5000, 5001, 5002, 5000, 5001, 5002, 5000, 5001, 5002]);
}

#[test]
fn a_request_is_acknowledged_by_its_answer_once_the_two_take_turns() {
    let mut world = World::new();
    let mut link = world.connect();
    // The first request: that an answer will follow is not known yet.
    world.put(&link.data(b"request"));
    link.seq += 7;
    assert_eq!(world.take_only().ack, link.seq);
    link.host_sends(&mut world, b"answer");
    assert_eq!(link.receive(&mut world).0, b"answer");
    for _ in 0..3 {
        world.put(&link.data(b"request"));
        link.seq += 7;
        assert!(world.take().is_empty(), "the answer will acknowledge it");
        link.host_sends(&mut world, b"answer");
        let answer = world.take_only();
        assert_eq!((answer.ack, answer.payload.as_slice()), (link.seq, b"answer".as_slice()));
        link.ack = link.ack.wrapping_add(6);
    }
}

#[test]
fn a_guest_that_says_more_than_a_request_is_acknowledged_at_once() {
    let mut world = World::new();
    let mut link = conversation(&mut world);
    for text in [&pattern(500)[..], &pattern(300)] {
        world.put(&link.data(text));
        link.seq += text.len() as u32;
    }
    assert_eq!(world.take_only().ack, link.seq, "the second segment");
    let mut world = World::new();
    let mut link = conversation(&mut world);
    world.put(&link.data(&pattern(1025)));
    link.seq += 1025;
    assert_eq!(world.take_only().ack, link.seq, "a long segment");
}

#[test]
fn a_request_without_an_answer_is_acknowledged_after_a_while_and_the_next_at_once() {
    let mut world = World::new();
    let mut link = conversation(&mut world);
    world.put(&link.data(b"request"));
    link.seq += 7;
    assert!(world.take().is_empty());
    world.pass(Duration::from_micros(999));
    assert!(world.take().is_empty());
    world.pass(Duration::from_micros(1));
    assert_eq!(world.take_only().ack, link.seq);
    world.put(&link.data(b"more"));
    link.seq += 4;
    assert_eq!(world.take_only().ack, link.seq);
}

/// A flow whose guest has sent a request and received its answer.
fn conversation(world: &mut World) -> Link {
    let mut link = world.connect();
    world.put(&link.data(b"request"));
    link.seq += 7;
    world.take();
    link.host_sends(world, b"answer");
    link.receive(world);
    link
}
