//! Floods, which cost bounded memory.

use std::fs;
use std::net::{SocketAddr, TcpListener};

use super::super::datagrams::MAX_FLOWS;
use super::bench::{Bench, GUEST, Tcp, server, udp};
use crate::net::tcp;
use crate::net::wire::checksum;

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn floods_of_syns_parts_and_tiny_datagrams_cost_bounded_memory() {
    // Allocations of other tests would count here.
    let name = "net::gateway::tests::floods::floods_in_a_process_of_their_own";
    let alone = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&alone.stdout), String::from_utf8_lossy(&alone.stderr));
    assert!(alone.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "the test above runs it"]
fn floods_in_a_process_of_their_own() {
    const FLOOD: u32 = 20_000;
    // An upper limit for everything; the floods themselves have more bytes.
    const MEMORY_BYTES: u64 = 24 << 20;
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let mut bench = Bench::new();
    let before = resident();
    // A server whose queue is full answers no SYN.
    let silent = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Stream,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    nix::sys::socket::listen(&silent, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let silent = TcpListener::from(silent);
    let to = SocketAddr::from(([127, 0, 0, 1], silent.local_addr().unwrap().port()));
    let _queued = std::net::TcpStream::connect(to).unwrap();
    let to = SocketAddr::from(([198, 19, 64, 254], to.port()));
    let from =
        |index: u32| SocketAddr::from(([198, 19, 64, 2 + (index / 60_000) as u8], 1024 + (index % 60_000) as u16));

    for index in 0..FLOOD {
        let syn = Tcp { from: from(index), to, sequence: index, acknowledged: 0 };
        bench.send(&syn.frame(2, b""));
    }
    let half_open = tcp::Settings::default().max_half_open as u64;
    assert!(bench.counter("tcp_flows_open") <= half_open, "{}", bench.counter("tcp_flows_open"));
    let gone = bench.counter("tcp_flows_evicted") + bench.counter("tcp_flows_failed");
    assert!(gone >= u64::from(FLOOD) - half_open, "{gone} are gone");

    for index in 0..FLOOD {
        let mut frame = udp(GUEST, "198.19.64.254:9", &[0; 1480 - 8]);
        frame[18..20].copy_from_slice(&(index as u16).to_be_bytes());
        // More fragments follow; the header's checksum changes with that.
        frame[20..22].copy_from_slice(&[0x20, 0]);
        frame[24..26].fill(0);
        let sum = checksum(&frame[14..34], 0);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        bench.send(&frame);
    }
    let held = bench.counter("fragment_bytes_held");
    assert!(held > 0 && held <= 16 * 65_535, "{held} bytes of parts are held");

    let (_server, port) = server();
    for index in 0..FLOOD {
        bench.send(&udp(&from(index).to_string(), &format!("198.19.64.254:{port}"), b"x"));
    }
    let open = bench.counter("udp_flows_open");
    assert!(open > 0 && open <= MAX_FLOWS as u64, "{open} flows of datagrams");
    assert_eq!(bench.counter("udp_flows"), u64::from(FLOOD));
    assert_eq!(bench.counter("udp_flows_evicted"), u64::from(FLOOD) - open);
    let grown = resident().saturating_sub(before);
    assert!(grown < MEMORY_BYTES, "{grown} bytes more");
}
