//! Requests to servers, and their results.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::serve::{COUNT, FLOOD, HOW_MANY};
use super::task::{CONNECTING, DATAGRAM_BYTES, REQUEST_BYTES};

/// Deadline of a single answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Warm-up requests, which do not count.
const WARM_UP: usize = 50;
/// A datagram with a request may be lost: the wait for its answer, and the number of attempts.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
const ATTEMPTS: usize = 20;
/// Datagrams between two looks at the sender's clock.
const BETWEEN_LOOKS: u32 = 64;

fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).with_context(|| format!("cannot connect to {to}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

pub(super) fn requests(to: SocketAddr, seconds: u32) -> Result<Vec<f64>> {
    let mut stream = connect(to)?;
    let mut bytes = [b'r'; REQUEST_BYTES];
    let mut ask = || -> Result<f64> {
        let begun = Instant::now();
        stream.write_all(&bytes)?;
        stream.read_exact(&mut bytes).context("a request is not answered")?;
        Ok(begun.elapsed().as_secs_f64())
    };
    for _ in 0..WARM_UP {
        ask()?;
    }
    let (begun, time) = (Instant::now(), Duration::from_secs(seconds.into()));
    let mut times = Vec::new();
    while begun.elapsed() < time {
        times.push(ask()?);
    }
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().context("no request was answered");
    Ok(vec![at(50)?, at(99)?])
}

pub(super) fn connections(to: SocketAddr, seconds: u32) -> Result<f64> {
    let (begun, time) = (Instant::now(), Duration::from_secs(seconds.into()));
    let count = move || -> Result<u32> {
        let mut count = 0;
        while begun.elapsed() < time {
            let mut all = Vec::new();
            connect(to)?.read_to_end(&mut all).context("a connection is not greeted")?;
            ensure!(all == b"!", "a connection was greeted with {all:?}");
            count += 1;
        }
        Ok(count)
    };
    let threads: Vec<_> = (0..CONNECTING).map(|_| thread::spawn(count)).collect();
    let mut all = 0;
    for thread in threads {
        all += thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    }
    Ok(f64::from(all) / begun.elapsed().as_secs_f64())
}

pub(super) fn hold(to: SocketAddr, count: u32, held: &mut Vec<TcpStream>) -> Result<()> {
    for number in 1..=count {
        let mut stream = connect(to).with_context(|| format!("connection {number} of {count}"))?;
        stream.read_exact(&mut [0]).with_context(|| format!("connection {number} of {count} is not greeted"))?;
        held.push(stream);
    }
    Ok(())
}

fn datagram_socket(to: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(ANSWER_WITHIN))?;
    Ok(socket)
}

/// Waits for a datagram; `None` after a timeout.
fn receive(socket: &UdpSocket, bytes: &mut [u8]) -> Result<Option<usize>> {
    match socket.recv(bytes) {
        Ok(length) => Ok(Some(length)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error).context("the server of datagrams is not there"),
    }
}

/// The server's count.
fn counted(socket: &UdpSocket) -> Result<u64> {
    for _ in 0..ATTEMPTS {
        socket.send(&[HOW_MANY])?;
        let mut answer = [0; 8];
        if receive(socket, &mut answer)? == Some(answer.len()) {
            return Ok(u64::from_be_bytes(answer));
        }
    }
    bail!("the server of datagrams did not report its count")
}

pub(super) fn send_datagrams(to: SocketAddr, seconds: u32) -> Result<f64> {
    let socket = datagram_socket(to)?;
    let before = counted(&socket)?;
    let (begun, time) = (Instant::now(), Duration::from_secs(seconds.into()));
    while begun.elapsed() < time {
        for _ in 0..BETWEEN_LOOKS {
            socket.send(&[COUNT; DATAGRAM_BYTES])?;
        }
    }
    let took = begun.elapsed();
    // A new socket, because the old one may hold answers to earlier requests.
    let arrived = counted(&datagram_socket(to)?)? - before;
    Ok(rate(arrived, took))
}

pub(super) fn fetch_datagrams(to: SocketAddr, seconds: u32) -> Result<f64> {
    let socket = datagram_socket(to)?;
    let mut bytes = [0; DATAGRAM_BYTES];
    let mut asked = 0;
    while receive(&socket, &mut bytes).and_then(|first| match first {
        Some(_) => Ok(false),
        None if asked < ATTEMPTS => {
            asked += 1;
            // One more than counted, because the server's clock started before the first arrived.
            socket.send(&[FLOOD, u8::try_from(seconds + 1)?])?;
            Ok(true)
        }
        None => bail!("the server of datagrams sends none"),
    })? {}
    let (begun, time) = (Instant::now(), Duration::from_secs(seconds.into()));
    let mut count: u64 = 0;
    while begun.elapsed() < time {
        count += u64::from(receive(&socket, &mut bytes)?.is_some());
    }
    Ok(rate(count, begun.elapsed()))
}

/// Counts here are far below 2^52.
#[expect(clippy::cast_precision_loss)]
fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}
