//! The resolver with servers on the loopback address.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use super::message::{self, A, NO_ERROR, Record, SERVER_FAILURE, answer};
use super::resolver::{Client, MAX_ATTEMPTS, MAX_PENDING, REFUSED, Resolver, answers};
use crate::net::network::tests::network;
use crate::net::sockets::Sockets;

const CLIENT: Client = Client::Stream(7);

struct Bench {
    resolver: Resolver,
    sockets: Sockets,
    now: Instant,
    _directory: tempfile::TempDir,
}

impl Bench {
    /// A resolver that asks those at `addresses`.
    fn new(addresses: &[SocketAddr]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("resolv.conf");
        fs::write(&file, "nameserver 127.0.0.1\n").unwrap();
        let mut resolver = Resolver::new("default", &network(), &file);
        resolver.resolvers.fix(addresses.to_vec());
        Self { resolver, sockets: Sockets::new().unwrap(), now: Instant::now(), _directory: directory }
    }

    fn ask(&mut self, client: Client, query: &[u8]) {
        self.resolver.ask(client, query, &mut self.sockets, self.now);
    }

    /// Waits until there is an answer.
    fn answer(&mut self) -> Vec<u8> {
        loop {
            if let Some((_, message)) = self.resolver.next_answer() {
                return message;
            }
            let mut waiting = [nix::poll::PollFd::new(self.sockets.event_fd(), nix::poll::PollFlags::POLLIN)];
            assert_eq!(nix::poll::poll(&mut waiting, 10_000_u16), Ok(1), "no answer");
            let mut ids = Vec::new();
            self.sockets.ready(&mut ids).unwrap();
            for (id, _) in ids {
                self.resolver.readable(id, &mut self.sockets, self.now);
            }
        }
    }
}

fn server() -> (UdpSocket, SocketAddr) {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let address = server.local_addr().unwrap();
    (server, address)
}

fn receive(server: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2000];
    let (length, from) = server.recv_from(&mut buffer).unwrap();
    (buffer[..length].to_vec(), from)
}

fn address_of(query: &[u8]) -> Vec<u8> {
    answer(query, query.len(), NO_ERROR, &[Record::Address([192, 0, 2, 9].into())], None)
}

#[test]
fn a_query_is_passed_on_as_it_is_and_its_answer_too() {
    let (server, address) = server();
    let mut bench = Bench::new(&[address]);
    let query = message::query(77, "ExAmple.org", A);
    bench.ask(CLIENT, &query);
    let (seen, from) = receive(&server);
    assert_eq!(seen, query);
    // Answers to other questions are ignored.
    server.send_to(&address_of(&message::query(78, "example.org", A)), from).unwrap();
    server.send_to(&address_of(&message::query(77, "evil.org", A)), from).unwrap();
    server.send_to(b"x", from).unwrap();
    server.send_to(&address_of(&query), from).unwrap();
    assert_eq!(bench.answer(), address_of(&query));
    assert!(bench.resolver.pending.is_empty() && bench.resolver.deadlines.is_empty());
}

#[test]
fn a_local_name_asks_nobody() {
    let mut bench = Bench::new(&[]);
    let query = message::query(1, "host.docker.internal", A);
    bench.ask(CLIENT, &query);
    assert!(bench.answer().ends_with(&[198, 19, 64, 254]));
}

#[test]
fn a_resolver_that_is_not_there_is_passed_over_at_once() {
    let nobody = server().1;
    let (server, address) = server();
    let mut bench = Bench::new(&[nobody, address]);
    let query = message::query(1, "example.org", A);
    bench.ask(CLIENT, &query);
    let thread = std::thread::spawn(move || {
        let (query, from) = receive(&server);
        server.send_to(&address_of(&query), from).unwrap();
    });
    assert_eq!(bench.answer(), address_of(&query));
    thread.join().unwrap();
}

#[test]
fn when_no_resolver_is_there_the_guest_hears_so_at_once() {
    let nobody = server().1;
    let mut bench = Bench::new(&[nobody]);
    bench.ask(CLIENT, &message::query(5, "example.org", A));
    let answer = bench.answer();
    assert_eq!((answer[1], answer[3] & 15), (5, SERVER_FAILURE));
    assert_eq!(bench.resolver.failed, 1);
}

#[test]
fn a_silent_resolver_is_left_for_the_next_and_in_the_end_the_guest_is_told() {
    let ((_first, first), (_second, second)) = (server(), server());
    let mut bench = Bench::new(&[first, second]);
    bench.ask(CLIENT, &message::query(5, "example.org", A));
    let begin = bench.now;
    let mut rounds = 0;
    while let Some(deadline) = bench.resolver.expire(&mut bench.sockets, bench.now) {
        bench.now = deadline;
        rounds += 1;
    }
    assert_eq!(rounds, MAX_ATTEMPTS);
    assert!(bench.now - begin < Duration::from_secs(5), "the guest would have asked again");
    assert_eq!(bench.answer()[3] & 15, SERVER_FAILURE);
}

#[test]
fn a_resolver_that_fails_is_not_the_last_word_when_there_is_another() {
    let ((first, first_address), (second, second_address)) = (server(), server());
    let mut bench = Bench::new(&[first_address, second_address]);
    let query = message::query(5, "example.org", A);
    bench.ask(CLIENT, &query);
    let thread = std::thread::spawn(move || {
        let (query, from) = receive(&first);
        first.send_to(&answer(&query, query.len(), REFUSED, &[], None), from).unwrap();
        let (query, from) = receive(&second);
        second.send_to(&address_of(&query), from).unwrap();
    });
    assert_eq!(bench.answer(), address_of(&query));
    thread.join().unwrap();
}

#[test]
fn an_answer_too_long_for_a_datagram_comes_by_tcp_to_who_asked_by_tcp() {
    let (server, address) = server();
    let listener = TcpListener::bind(address).unwrap();
    let mut bench = Bench::new(&[address]);
    let query = message::query(5, "example.org", A);
    let mut long = address_of(&query);
    long.resize(40_000, 7);
    let (sent, asked) = (long.clone(), query.clone());
    let thread = std::thread::spawn(move || {
        for _ in 0..2 {
            let (query, from) = receive(&server);
            let mut truncated = answer(&query, query.len(), NO_ERROR, &[], None);
            truncated[2] |= 2;
            server.send_to(&truncated, from).unwrap();
        }
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = vec![0; asked.len() + 2];
        stream.read_exact(&mut received).unwrap();
        assert_eq!(received[2..], asked);
        stream.write_all(&(sent.len() as u16).to_be_bytes()).unwrap();
        stream.write_all(&sent).unwrap();
    });
    // By datagram, the guest learns that it must ask by TCP.
    let guest = Client::Datagram("198.19.64.2:9".parse().unwrap(), "198.19.64.1:53".parse().unwrap());
    bench.ask(guest, &query);
    assert_eq!(bench.answer()[2] & 2, 2);
    bench.ask(CLIENT, &query);
    assert_eq!(bench.answer(), long);
    thread.join().unwrap();
}

#[test]
fn a_flood_of_queries_costs_no_more_than_the_table() {
    let (_server, address) = server();
    let mut bench = Bench::new(&[address]);
    for id in 0..MAX_PENDING as u16 + 50 {
        bench.ask(CLIENT, &message::query(id, "example.org", A));
    }
    assert_eq!(bench.resolver.pending.len(), MAX_PENDING);
    assert_eq!(bench.resolver.failed, 50);
}

#[test]
fn nothing_answers_a_query_that_is_none() {
    let query = message::query(7, "a.b", message::A);
    let mut said = query.clone();
    said[2] |= 0x80;
    assert!(answers(&said, &query));
    assert!(!answers(&said, &[]));
    assert!(!answers(&[], &query));
    assert!(!answers(&said[..2], &query));
}
