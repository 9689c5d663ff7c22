//! Real sockets of the host, and a foreign TCP as the peer.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};

use nix::sys::socket::{setsockopt, sockopt};
use sha2::{Digest, Sha256};
use smoltcp::socket::tcp::State;

use super::super::*;
use super::peer::{Guest, Wire};

const LARGE: Offloads = Offloads { checksum: true, tso4: true, tso6: true };

/// Bytes that do not repeat, so that a shift shows.
fn noise(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(length)
    .collect()
}

fn digest(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

/// A server for one connection.
fn serve<T: Send + 'static>(v6: bool, with: impl FnOnce(TcpStream) -> T + Send + 'static) -> (u16, JoinHandle<T>) {
    let listener =
        if v6 { TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) } else { TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) };
    let listener = listener.unwrap();
    let port = listener.local_addr().unwrap().port();
    (port, thread::spawn(move || with(listener.accept().unwrap().0)))
}

/// The server sends `length` bytes at once and, at the guest's end, the digest of what it received.
fn both_ways(wire: &Wire, length: usize, v6: bool) {
    let (port, server) = serve(v6, move |stream| {
        let mut writer = stream.try_clone().unwrap();
        let writing = thread::spawn(move || writer.write_all(&noise(length, 7)).unwrap());
        let mut got = Vec::new();
        let mut reader = stream;
        reader.read_to_end(&mut got).unwrap();
        writing.join().unwrap();
        reader.write_all(&digest(&got)).unwrap();
        got.len()
    });
    let mut guest = Guest::new(wire);
    let handle = guest.connect(port, v6);
    let text = noise(length, 3);
    let received = guest.exchange(handle, &text);
    assert_eq!(server.join().unwrap(), length);
    assert_eq!(received.len(), length + 32);
    assert_eq!(digest(&received[..length]), digest(&noise(length, 7)));
    assert_eq!(received[length..], digest(&text));
    // Both sides agree that the connection has ended.
    guest.run("the end", |guest| (guest.splice.flows() == 0).then_some(()));
    assert_eq!(guest.splice.statistics().broken, 0);
}

#[test]
fn megabytes_go_both_ways_in_small_segments_with_verified_checksums() {
    both_ways(&Wire::default(), 4 << 20, false);
}

#[test]
fn megabytes_go_both_ways_in_large_segments() {
    both_ways(&Wire { mtu: 65535, offloads: LARGE, ..Wire::default() }, 16 << 20, false);
}

#[test]
fn megabytes_go_both_ways_over_ipv6() {
    both_ways(&Wire { offloads: LARGE, ..Wire::default() }, 8 << 20, true);
}

#[test]
fn megabytes_go_both_ways_where_the_system_cannot_peek_at_an_offset() {
    both_ways(&Wire { offloads: LARGE, without_offsets: true, ..Wire::default() }, 8 << 20, false);
}

#[test]
fn nothing_is_lost_when_the_link_loses_packets() {
    // Only few of the guest's: smoltcp takes a second for each.
    both_ways(&Wire { loses: Some((1000, 100)), ..Wire::default() }, 1 << 20, false);
    both_ways(
        &Wire { loses: Some((1000, 10)), without_offsets: true, offloads: LARGE, ..Wire::default() },
        1 << 20,
        false,
    );
}

#[test]
fn a_guest_with_a_tiny_buffer_gets_everything() {
    both_ways(&Wire { guest_buffer: 700, offloads: LARGE, ..Wire::default() }, 100_000, false);
    both_ways(&Wire { guest_buffer: 5000, ..Wire::default() }, 1 << 20, false);
}

#[test]
fn a_port_nobody_listens_on_is_refused() {
    for v6 in [false, true] {
        // Bound, so that nobody else takes the port, but not listening.
        let (port, server) = serve(v6, |_| ());
        let mut guest = Guest::new(&Wire::default());
        let first = guest.connect(port, v6);
        guest.run("connected", |guest| guest.socket_at(first).may_send().then_some(()));
        server.join().unwrap();
        let second = guest.connect(port, v6);
        guest.run("refused", |guest| (guest.socket_at(second).state() == State::Closed).then_some(()));
        assert_eq!(guest.splice.statistics().failed, 1);
    }
}

#[test]
fn a_reset_of_the_server_reaches_the_guest() {
    let (port, server) = serve(false, |mut stream| {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&stream, sockopt::Linger, &linger).unwrap();
    });
    let mut guest = Guest::new(&Wire::default());
    let handle = guest.connect(port, false);
    guest.run("connected", |guest| guest.socket_at(handle).may_send().then_some(()));
    guest.socket_at(handle).send_slice(b"x").unwrap();
    guest.run("reset", |guest| (guest.socket_at(handle).state() == State::Closed).then_some(()));
    server.join().unwrap();
    assert_eq!(guest.splice.flows(), 0);
    assert_eq!(guest.splice.statistics().broken, 1);
}

#[test]
fn a_reset_of_the_guest_reaches_the_server() {
    let (port, server) = serve(false, |mut stream| stream.read(&mut [0; 10]).unwrap_err().kind());
    let mut guest = Guest::new(&Wire::default());
    let handle = guest.connect(port, false);
    guest.run("connected", |guest| guest.socket_at(handle).may_send().then_some(()));
    guest.socket_at(handle).abort();
    guest.run("gone", |guest| (guest.splice.flows() == 0).then_some(()));
    assert_eq!(server.join().unwrap(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn bytes_before_a_reset_of_the_server_still_arrive() {
    let (port, server) = serve(false, |mut stream| {
        stream.write_all(&noise(40_000, 5)).unwrap();
        // Unread bytes make close send a reset; many servers end like that.
        let mut byte = [0];
        stream.peek(&mut byte).unwrap();
    });
    let mut guest = Guest::new(&Wire { offloads: LARGE, ..Wire::default() });
    let handle = guest.connect(port, false);
    guest.run("connected", |guest| guest.socket_at(handle).may_send().then_some(()));
    guest.socket_at(handle).send_slice(b"unread").unwrap();
    let mut received = Vec::new();
    guest.run("reset", |guest| {
        let socket = guest.socket_at(handle);
        while socket.can_recv() {
            socket.recv(|bytes| (bytes.len(), received.extend_from_slice(bytes))).unwrap();
        }
        (socket.state() == State::Closed).then_some(())
    });
    server.join().unwrap();
    // Without the splice, what its socket had not sent by then would be lost.
    assert_eq!(digest(&received), digest(&noise(40_000, 5)));
}

#[test]
fn a_server_that_reads_slowly_holds_the_guest_back_within_bounds() {
    let length = 12 << 20;
    let (port, server) = serve(false, move |mut stream| {
        // Nothing is read until the guest reports by another connection that it is stuck; here, until it sends no more.
        let mut got = Vec::new();
        let mut piece = vec![0; 10_000];
        loop {
            let count = stream.read(&mut piece).unwrap();
            if count == 0 {
                return digest(&got);
            }
            got.extend(&piece[..count]);
        }
    });
    let mut guest = Guest::new(&Wire { mtu: 65535, offloads: LARGE, ..Wire::default() });
    let handle = guest.connect(port, false);
    let text = noise(length, 11);
    let (mut sent, mut most) = (0, 0);
    guest.run("upload", |guest| {
        most = most.max(guest.splice.buffered());
        let socket = guest.socket_at(handle);
        if sent < length && socket.can_send() {
            sent += socket.send_slice(&text[sent..]).unwrap();
        }
        (sent == length && socket.send_queue() == 0).then(|| socket.close())
    });
    guest.run("the end", |guest| (!guest.socket_at(handle).may_recv()).then_some(()));
    assert_eq!(server.join().unwrap(), digest(&text));
    assert!(most <= 512 << 10, "{most}");
}

#[test]
fn a_client_of_the_host_reaches_a_server_in_the_guest() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let published = listener.local_addr().unwrap();
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(published).unwrap();
        let text = noise(3 << 20, 1);
        let mut writer = stream.try_clone().unwrap();
        let writing = thread::spawn(move || {
            writer.write_all(&text).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        writing.join().unwrap();
        got
    });
    let (accepted, _) = listener.accept().unwrap();
    let mut guest = Guest::new(&Wire { offloads: LARGE, ..Wire::default() });
    let handle = guest.listen(8080);
    let epoll = std::sync::Arc::clone(&guest.epoll);
    let from: SocketAddr = "203.0.113.9:50000".parse().unwrap();
    let to: SocketAddr = "192.168.64.2:8080".parse().unwrap();
    guest
        .splice
        .open(std::time::Instant::now(), from, to, |flow| TcpSocket::adopt(OwnedFd::from(accepted), &epoll, flow))
        .unwrap();
    guest.run("accepted", |guest| guest.socket_at(handle).may_send().then_some(()));
    let seen = guest.socket_at(handle).remote_endpoint().unwrap();
    assert_eq!(seen.to_string(), "203.0.113.9:50000");
    let answer = noise(2 << 20, 2);
    let received = guest.exchange(handle, &answer);
    assert_eq!(digest(&received), digest(&noise(3 << 20, 1)));
    assert_eq!(digest(&client.join().unwrap()), digest(&answer));
}

#[test]
fn a_hundred_connections_share_the_splice() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        for stream in listener.incoming().take(100) {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut got = Vec::new();
                stream.read_to_end(&mut got).unwrap();
                stream.write_all(&digest(&got)).unwrap();
            });
        }
    });
    let mut guest = Guest::new(&Wire { offloads: LARGE, guest_buffer: 8192, ..Wire::default() });
    let mut all: Vec<_> =
        (0..100).map(|index| (guest.connect(port, false), noise(30_000 + index, index as u32), 0)).collect();
    guest.run("uploads", |guest| {
        let mut left = 0;
        for (handle, text, sent) in &mut all {
            let socket = guest.socket_at(*handle);
            if *sent < text.len() && socket.can_send() {
                *sent += socket.send_slice(&text[*sent..]).unwrap();
                if *sent == text.len() {
                    socket.close();
                }
            }
            left += usize::from(socket.recv_queue() < 32);
        }
        (left == 0).then_some(())
    });
    for (handle, text, _) in &all {
        let mut got = [0; 64];
        let count = guest.socket_at(*handle).recv_slice(&mut got).unwrap();
        assert_eq!(got[..count], digest(text));
    }
    server.join().unwrap();
}
