//! Flows at rest: what they cost, what wakes them, and that they fall asleep again.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockname, listen, socket};

use super::super::*;
use super::peer::{Guest, Wire};
use super::world::*;

fn nth(index: usize) -> SocketAddr {
    SocketAddr::from(([192, 168, 64, 2], 10_000 + index as u16))
}

/// A flow that sleeps.
fn asleep() -> (World, Link) {
    let mut world = World::new();
    let link = world.connect();
    assert_eq!(world.splice.dormant(), 1);
    (world, link)
}

#[test]
fn a_dormant_flow_is_80_bytes_and_its_share_of_the_index() {
    let (slot, index) = table::Table::DORMANT_BYTES;
    assert_eq!(slot, 80);
    assert!(slot + index <= 92, "{index}");
}

#[test]
fn an_idle_flow_costs_less_than_110_bytes_of_memory() {
    // Allocations of other tests would count here.
    let name = "net::tcp::tests::dormant::idle_flows_in_a_process_of_their_own";
    let alone = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&alone.stdout), String::from_utf8_lossy(&alone.stderr));
    assert!(alone.status.success() && said.contains("1 passed"), "{said}");
}

/// Anonymous resident memory of this process, in bytes.
fn anonymous() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
#[ignore = "the test above runs it"]
fn idle_flows_in_a_process_of_their_own() {
    const FLOWS: usize = 8000;
    const BEFORE: usize = 1000;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    // Each listener holds a thousand connections that nobody accepts: their far ends have no descriptors, and cost only
    // the kernel's memory.
    let listeners: Vec<_> = (0..(BEFORE + FLOWS).div_ceil(1000))
        .map(|_| {
            let listener = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
            bind(listener.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
            listen(&listener, Backlog::new(1000).unwrap()).unwrap();
            let address: SockaddrIn = getsockname(listener.as_raw_fd()).unwrap();
            (listener, SocketAddr::from(std::net::SocketAddrV4::from(address)))
        })
        .collect();
    let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap());
    let mut world = World::on(&Settings::default(), Box::new(Sockets::new(Arc::clone(&epoll))));
    world.room = 100;

    let mut before = 0;
    for index in 0..BEFORE + FLOWS {
        if index == BEFORE {
            before = anonymous();
        }
        let syn = Put::syn(nth(index), listeners[index / 1000].1);
        world.put(&syn);
        let answer = loop {
            let mut events = [EpollEvent::empty(); 16];
            let count = epoll.wait(&mut events, EpollTimeout::from(1000_u16)).unwrap();
            for event in &events[..count] {
                world.event(FlowId::from_token(event.data()).unwrap(), Readiness::from_epoll(event.events()));
            }
            if let Some(answer) = world.take_one() {
                break answer;
            }
        };
        assert!(answer.is(SYN | ACK), "{answer:?}");
        world.put(&syn.with(|put| (put.flags, put.seq, put.ack) = (ACK, put.seq + 1, answer.seq.wrapping_add(1))));
        world.nothing_more();
    }
    let grown = anonymous() - before;
    assert_eq!(
        (world.splice.flows(), world.splice.dormant()),
        (BEFORE + FLOWS, BEFORE + FLOWS - Settings::default().max_awake)
    );
    println!("{} bytes a flow", grown / FLOWS);
    assert!(grown / FLOWS < 110, "{} bytes a flow", grown / FLOWS);
}

#[test]
fn bytes_of_the_guest_wake_a_flow_and_it_sleeps_again() {
    let (mut world, mut link) = asleep();
    for _ in 0..3 {
        world.pass(Duration::from_mins(50));
        link.send(&mut world, b"question");
        assert_eq!(world.splice.dormant(), 1);
    }
    assert_eq!(link.host().got, b"questionquestionquestion");
}

#[test]
fn bytes_of_the_host_wake_a_flow_until_they_are_acknowledged() {
    let (mut world, mut link) = asleep();
    for _ in 0..3 {
        world.pass(Duration::from_mins(50));
        link.host_sends(&mut world, b"news");
        let got = world.take_only();
        assert_eq!((got.seq, &got.payload[..]), (link.ack, &b"news"[..]));
        assert_eq!(world.splice.dormant(), 0, "it may have to send them again");
        link.ack = link.ack.wrapping_add(4);
        world.put(&link.put(ACK));
        assert_eq!(world.splice.dormant(), 1);
        assert!(link.host().sends.is_empty());
    }
    // Room for bytes does not wake a flow that has none.
    world.event(link.flow, WRITABLE);
    world.nothing_more();
    assert_eq!(world.splice.dormant(), 1);
}

#[test]
fn a_flow_keeps_its_windows_and_segment_size_in_its_sleep() {
    for scaled in [true, false] {
        let mut world = World::new();
        world.splice.set_offloads(Offloads::default());
        let mut syn = Put::syn(guest(), server());
        syn.options = vec![2, 4, 3, 232];
        if scaled {
            syn.options.extend([1, 3, 3, 2]);
        }
        let link = world.connect_with(&syn);
        world.put(&link.put(ACK).with(|put| put.window = 2000));
        assert_eq!(world.splice.dormant(), 1);
        link.host_sends(&mut world, &vec![7; 20_000]);
        let all = world.take();
        let window = if scaled { 8000 } else { 2000 };
        assert_eq!(all.iter().map(|got| got.payload.len()).sum::<usize>(), window);
        assert!(all.iter().all(|got| got.payload.len() <= 1000));
        assert_eq!(all.iter().map(|got| got.payload.len()).max(), Some(1000));
        let offered = if scaled { usize::from(all[0].window) << 4 } else { usize::from(all[0].window) };
        assert!(offered > if scaled { 500 << 10 } else { 60 << 10 }, "{offered}");
    }
}

#[test]
fn a_flow_with_anything_undone_stays_awake() {
    // Bytes that the host does not take.
    let (mut world, mut link) = asleep();
    link.host().room = 0;
    link.send(&mut world, b"pending");
    assert_eq!(world.splice.dormant(), 0);
    link.host().room = usize::MAX;
    world.event(link.flow, WRITABLE);
    assert_eq!(world.splice.dormant(), 1);

    // Bytes that the guest does not take.
    world.put(&link.put(ACK).with(|put| put.window = 0));
    assert_eq!(world.splice.dormant(), 1);
    link.host_sends(&mut world, b"waiting");
    world.nothing_more();
    assert_eq!(world.splice.dormant(), 0);
    assert!(!world.pass_watching(Duration::from_secs(2)).is_empty(), "the window is probed");

    // An answer for which the guest's queue has no room yet.
    let (mut world, link) = asleep();
    world.put(&link.data(b"x"));
    assert_eq!(world.splice.dormant(), 0);
    world.take_only();
    assert_eq!(world.splice.dormant(), 1);
}

#[test]
fn nothing_wakes_a_process_whose_flows_sleep_before_a_keep_alive() {
    let mut world = World::new();
    world.now += Duration::from_millis(1);
    for index in 0..100 {
        world.connect_with(&Put::syn(nth(index), server()));
        world.now += Duration::from_millis(10);
    }
    assert_eq!(world.splice.dormant(), 100);
    let start = world.now;
    let deadline = world.splice.next_deadline().unwrap();
    let (due, late) = (Duration::from_hours(2), Duration::from_mins(1));
    assert!(deadline + Duration::from_secs(2) > start + due && deadline <= start + due + late);

    // All flows that are due in a minute are probed in the same one.
    let probes = world.pass_watching(due + late);
    assert_eq!(probes.len(), 100);
    assert!(probes.iter().all(|(when, _)| *when == probes[0].0));
    assert_eq!(world.splice.dormant(), 0, "an answer is waited for");
}

#[test]
fn a_keep_alive_wakes_a_flow_and_its_answer_puts_it_back_to_sleep() {
    let (mut world, link) = asleep();
    for _ in 0..3 {
        let probes = world.pass_watching(Duration::from_mins(121));
        assert_eq!(probes[0].1.seq, link.ack.wrapping_sub(1), "what the guest has had already");
        assert!(probes[0].0 >= Duration::from_mins(119));
        world.put(&link.put(ACK));
        world.nothing_more();
        assert_eq!(world.splice.dormant(), 1);
    }
    // Without an answer it ends like any other.
    let last = world.pass_watching(Duration::from_hours(3));
    assert!(last.last().unwrap().1.is(RST | ACK));
    assert_eq!((world.splice.flows(), world.splice.next_deadline()), (0, None));
}

#[test]
fn a_keep_alive_is_put_off_by_what_the_guest_says() {
    let (mut world, mut link) = asleep();
    assert!(world.pass_watching(Duration::from_mins(100)).is_empty());
    link.send(&mut world, b"here");
    let quiet = world.pass_watching(Duration::from_mins(119));
    assert!(quiet.is_empty(), "{quiet:?}");
    assert_eq!(world.splice.dormant(), 1);
    assert!(!world.pass_watching(Duration::from_mins(2)).is_empty());
}

#[test]
fn the_end_of_either_side_wakes_a_flow() {
    let (mut world, mut link) = asleep();
    link.finish(&mut world);
    assert!(link.host().shut);
    assert_eq!(world.splice.dormant(), 0);
    link.host_ends(&mut world);
    assert!(link.receive(&mut world).1);
    assert_eq!(world.splice.flows(), 0);

    let (mut world, mut link) = asleep();
    link.host_ends(&mut world);
    assert!(link.receive(&mut world).1);
    assert_eq!(world.splice.dormant(), 0);
    link.finish(&mut world);
    world.pass(Duration::from_secs(3));
    assert_eq!((world.splice.flows(), world.splice.next_deadline()), (0, None));
}

#[test]
fn a_reset_of_either_side_ends_a_dormant_flow() {
    let (mut world, link) = asleep();
    world.put(&link.put(RST));
    assert!(link.host().reset && link.host().dropped);
    assert_eq!((world.splice.flows(), world.splice.dormant(), world.splice.next_deadline()), (0, 0, None));

    let (mut world, link) = asleep();
    link.host().fails = Some(nix::errno::Errno::ECONNRESET);
    world.event(link.flow, FAILED);
    assert!(world.take_only().is(RST | ACK));
    assert_eq!((world.splice.flows(), world.splice.next_deadline()), (0, None));

    let (mut world, link) = asleep();
    world.splice.abort(link.flow);
    assert!(link.host().reset);
    let reset = world.take_only();
    assert!(reset.is(RST | ACK));
    assert_eq!((reset.seq, reset.ack), (link.ack, link.seq));

    let (mut world, link) = asleep();
    world.splice.reset();
    assert!(link.host().reset);
    assert_eq!((world.splice.flows(), world.splice.dormant(), world.splice.next_deadline()), (0, 0, None));
}

#[test]
fn a_dormant_flow_is_found_and_not_woken_by_questions() {
    let (world, link) = asleep();
    let pair = Pair { guest: link.from, remote: link.to };
    assert!(world.splice.has_flow(&pair) && world.splice.is_taken(&pair) && world.splice.lives(link.flow));
    assert!(!world.splice.has_flow(&Pair { guest: link.to, remote: link.from }));
    assert_eq!(world.splice.dormant(), 1);
}

#[test]
fn dormant_flows_and_others_are_evicted_in_the_order_of_their_last_use() {
    let mut world = World::with(&Settings { max_flows: 5, ..Settings::default() });
    let mut links: Vec<Link> = (0..5).map(|index| world.connect_with(&Put::syn(nth(index), server()))).collect();
    // The second is awake; the first has woken and sleeps again; the host has woken the fourth.
    links[1].host_sends(&mut world, b"unacknowledged");
    world.take();
    links[0].send(&mut world, b"used");
    world.event(links[3].flow, WRITABLE);
    assert_eq!(world.splice.dormant(), 4);
    for (turn, gone) in [2, 4, 1, 0, 3].into_iter().enumerate() {
        assert!(!links[gone].host().dropped);
        world.put(&Put::syn(nth(100 + turn), server()));
        world.take();
        assert!(links[gone].host().reset, "turn {turn}");
    }
    assert_eq!(world.splice.statistics().evicted, 5);
}

#[test]
fn flows_over_ipv6_sleep_as_well() {
    let mut world = World::new();
    let (from, to) = (address("[fd00::2]:40000"), address("[2001:db8::7]:80"));
    let mut six = world.connect_with(&Put::syn(from, to));
    let other = world.connect_with(&Put::syn(from, address("[2001:db8::8]:80")));
    let mut four = world.connect();
    assert_eq!(world.splice.dormant(), 3);
    six.send(&mut world, b"six");
    four.send(&mut world, b"four");
    six.host_sends(&mut world, b"answer");
    assert_eq!(world.take_only().from, to);
    six.ack = six.ack.wrapping_add(6);
    world.put(&six.put(ACK));
    assert_eq!(
        (&six.host().got[..], &four.host().got[..], &other.host().got[..]),
        (&b"six"[..], &b"four"[..], &b""[..])
    );
    assert_eq!(world.splice.dormant(), 3);
    assert!(world.splice.has_flow(&Pair { guest: from, remote: to }));
    world.put(&six.put(RST));
    assert!(!world.splice.has_flow(&Pair { guest: from, remote: to }));
    assert_eq!(world.splice.flows(), 2);
}

#[test]
fn flows_that_take_turns_stay_awake_while_others_come_to_rest() {
    let mut world = World::awake(&Settings { max_awake: 4, ..Settings::default() });
    let mut busy: Vec<Link> = (0..3).map(|index| world.connect_with(&Put::syn(nth(index), server()))).collect();
    for index in 100..200 {
        for link in &mut busy {
            link.send(&mut world, b"turn");
            assert!(world.splice.is_awake(link.flow));
        }
        let link = world.connect_with(&Put::syn(nth(index), server()));
        assert!(busy.iter().all(|link| world.splice.is_awake(link.flow)));
        drop(link);
    }
    assert_eq!(world.splice.dormant(), 99);
    // They fall asleep when others are used instead.
    for index in 200..210 {
        world.connect_with(&Put::syn(nth(index), server()));
    }
    assert!(busy.iter().all(|link| !world.splice.is_awake(link.flow)));
    assert_eq!((world.splice.flows(), world.splice.dormant()), (113, 109));
}

#[test]
fn a_real_connection_sleeps_between_its_requests() {
    use std::io::{Read, Write};
    for v6 in [false, true] {
        let listener = std::net::TcpListener::bind(if v6 { "[::1]:0" } else { "127.0.0.1:0" }).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, mut request) = (listener.accept().unwrap().0, [0; 7]);
            while stream.read_exact(&mut request).is_ok() {
                stream.write_all(&request.repeat(1000)).unwrap();
            }
        });
        let mut guest = Guest::new(&Wire { max_awake: 0, ..Wire::default() });
        let handle = guest.connect(port, v6);
        guest.run("connected", |guest| guest.socket_at(handle).may_send().then_some(()));
        for round in 0..20_u8 {
            guest.run("asleep", |guest| (guest.splice.dormant() == 1).then_some(()));
            guest.socket_at(handle).send_slice(&[round; 7]).unwrap();
            let mut got = Vec::new();
            guest.run("answer", |guest| {
                let socket = guest.socket_at(handle);
                if socket.can_recv() {
                    socket.recv(|bytes| (bytes.len(), got.extend_from_slice(bytes))).unwrap();
                }
                (got.len() == 7000).then_some(())
            });
            assert!(got.iter().all(|byte| *byte == round));
        }
        guest.run("asleep", |guest| (guest.splice.dormant() == 1).then_some(()));
        guest.socket_at(handle).close();
        guest.run("the end", |guest| (guest.splice.flows() == 0).then_some(()));
        server.join().unwrap();
    }
}
