//! A DNS resolver on this computer's loopback with the names the tests need. It serves until the tests end.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use anyhow::{Context, Result};

/// RFC 1035 §4.1.1: a response; recursion was desired and is available.
const ANSWER: u16 = 0x8180;
/// Truncated: the rest must be fetched over TCP.
const TRUNCATED: u16 = 0x0200;
const NO_SUCH_NAME: u16 = 3;
const TYPE_A: u16 = 1;
const PORT: u16 = 53;
/// Addresses of `many.test`, far more than a DNS datagram can hold.
pub const MANY: u8 = 200;

/// A resolver.
#[derive(Debug)]
pub struct Resolver {
    /// Number of questions over UDP and TCP.
    datagrams: Arc<AtomicU32>,
    streams: Arc<AtomicU32>,
}

impl Resolver {
    /// A resolver at `address`, port 53, which knows
    /// - `where.test` and `printer.corp.test` at 192.0.2.`last`,
    /// - `many.test` at [`MANY`] addresses of 198.51.100.0/24, over TCP only,
    /// - `empty.test` without an address; and no other name.
    pub fn start(address: Ipv4Addr, last: u8) -> Result<Self> {
        let cannot = || format!("cannot serve names at {address}");
        let socket = UdpSocket::bind((address, PORT)).with_context(cannot)?;
        let listener = TcpListener::bind((address, PORT)).with_context(cannot)?;
        let resolver = Self { datagrams: Arc::default(), streams: Arc::default() };
        let count = Arc::clone(&resolver.datagrams);
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                count.fetch_add(1, Ordering::Relaxed);
                // A client that is gone needs no answer.
                let _ = answer(&query[..length], last, false).map(|answer| socket.send_to(&answer, from));
            }
        });
        let count = Arc::clone(&resolver.streams);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                thread::spawn(move || serve(stream, last, &count));
            }
        });
        Ok(resolver)
    }

    /// Questions so far, over UDP and TCP.
    pub fn asked(&self) -> (u32, u32) {
        (self.datagrams.load(Ordering::Relaxed), self.streams.load(Ordering::Relaxed))
    }
}

/// Answers on a connection until it ends (RFC 1035 §4.2.2: a length precedes each message).
fn serve(mut stream: TcpStream, last: u8, count: &AtomicU32) -> Option<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut query = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut query).ok()?;
        count.fetch_add(1, Ordering::Relaxed);
        let answer = answer(&query, last, true)?;
        let length = u16::try_from(answer.len()).ok()?.to_be_bytes();
        stream.write_all(&[&length[..], &answer].concat()).ok()?;
    }
}

/// The answer to a query's only question; `None` if it has none.
fn answer(query: &[u8], last: u8, whole: bool) -> Option<Vec<u8>> {
    let question = query.get(12..)?;
    let (mut name, mut at) = (String::new(), 0);
    while let Some(length @ 1..) = question.get(at).copied() {
        let label = question.get(at + 1..at + 1 + usize::from(length))?;
        name.push_str(&String::from_utf8_lossy(label).to_lowercase());
        name.push('.');
        at += 1 + usize::from(length);
    }
    let question = question.get(..at + 5)?;
    let wants_addresses = question[at + 1..at + 3] == TYPE_A.to_be_bytes();
    let known = match name.as_str() {
        "where.test." | "printer.corp.test." => Some(vec![Ipv4Addr::new(192, 0, 2, last)]),
        "many.test." => Some((0..MANY).map(|last| Ipv4Addr::new(198, 51, 100, last)).collect()),
        "empty.test." => Some(Vec::new()),
        _ => None,
    };
    let mut flags = if known.is_none() { ANSWER | NO_SUCH_NAME } else { ANSWER };
    let mut addresses = known.filter(|_| wants_addresses).unwrap_or_default();
    if addresses.len() > 1 && !whole {
        flags |= TRUNCATED;
        addresses.clear();
    }
    let counts = [1, u16::try_from(addresses.len()).ok()?, 0, 0];
    let mut answer = query[..2].to_vec();
    answer.extend([flags].iter().chain(&counts).flat_map(|word| word.to_be_bytes()));
    answer.extend(question);
    for address in addresses {
        // The question's name, A, IN, one minute, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}
