//! Servers, each in a thread that ends with the process.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::task::{DATAGRAM_BYTES, REQUEST_BYTES, Service};

/// First byte of a datagram that is only counted.
pub(super) const COUNT: u8 = b'c';
/// First byte of a request for the count so far, which is eight bytes.
pub(super) const HOW_MANY: u8 = b'?';
/// First byte of a request to send datagrams; the second byte is the number of seconds.
pub(super) const FLOOD: u8 = b'f';
/// Datagrams between two looks at the flood's clock.
const BETWEEN_LOOKS: u32 = 64;
/// Number of new connections between two scans for closed ones.
const KEPT_BETWEEN_LOOKS: usize = 1000;

/// Listens, and serves in a thread.
pub(super) fn serve(service: Service, at: SocketAddr) -> Result<()> {
    if service == Service::Datagrams {
        let socket = UdpSocket::bind(at).with_context(|| format!("cannot bind to {at}"))?;
        thread::spawn(move || report(datagrams(&socket)));
        return Ok(());
    }
    let listener = TcpListener::bind(at).with_context(|| format!("cannot listen on {at}"))?;
    match service {
        Service::Echo => thread::spawn(move || report(echo(&listener))),
        Service::Greet => thread::spawn(move || report(greet(&listener, false))),
        Service::Keep => thread::spawn(move || report(greet(&listener, true))),
        Service::Datagrams | Service::Stream => bail!("{service:?} is served otherwise"),
    };
    Ok(())
}

/// The client only sees that nobody answers; this is the reason.
fn report(ended: Result<()>) {
    if let Err(error) = ended {
        eprintln!("bench-net: a server has ended: {error:#}");
    }
}

fn echo(listener: &TcpListener) -> Result<()> {
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || report(send_back(stream)));
    }
    Ok(())
}

fn send_back(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = [0; REQUEST_BYTES];
    loop {
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            length => stream.write_all(&bytes[..length])?,
        }
    }
}

/// Sends one byte on each connection and closes it first, so that the TIME-WAIT state stays on this side.
fn greet(listener: &TcpListener, keep: bool) -> Result<()> {
    let mut kept = Vec::new();
    loop {
        let (mut stream, _) = listener.accept()?;
        // A connection that is already gone needs no greeting.
        if stream.write_all(b"!").is_ok() && keep {
            kept.push(stream);
            if kept.len().is_multiple_of(KEPT_BETWEEN_LOOKS) {
                kept.retain(is_open);
            }
        }
    }
}

/// Whether the other end is still open.
fn is_open(stream: &TcpStream) -> bool {
    let nothing = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    nothing.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

fn datagrams(socket: &UdpSocket) -> Result<()> {
    let mut count: u64 = 0;
    let mut bytes = [0; DATAGRAM_BYTES];
    loop {
        let (length, from) = socket.recv_from(&mut bytes)?;
        match bytes[..length] {
            [HOW_MANY, ..] => drop(socket.send_to(&count.to_be_bytes(), from)?),
            [FLOOD, seconds, ..] => flood(socket, from, Duration::from_secs(seconds.into()))?,
            _ => count += 1,
        }
    }
}

fn flood(socket: &UdpSocket, to: SocketAddr, time: Duration) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < time {
        for _ in 0..BETWEEN_LOOKS {
            socket.send_to(&[COUNT; DATAGRAM_BYTES], to)?;
        }
    }
    Ok(())
}
