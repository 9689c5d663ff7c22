//! Exchanges datagrams with the test peer in a container.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::stream::Pattern;

/// Deadline for an answer.
const STALL: Duration = Duration::from_secs(20);
/// Time without an answer after which the test assumes that none will come.
const SILENCE: Duration = Duration::from_secs(1);

/// A client of `address`; it receives answers from there only.
pub fn connect(address: SocketAddr) -> Result<UdpSocket> {
    let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(STALL))?;
    Ok(socket)
}

/// Sends `datagram` and returns the next one received.
pub fn ask(socket: &UdpSocket, datagram: &[u8]) -> Result<Vec<u8>> {
    let mut answer = vec![0; 65_536];
    socket.send(datagram)?;
    let length = socket.recv(&mut answer).with_context(|| format!("{:?} does not answer", socket.peer_addr()))?;
    answer.truncate(length);
    Ok(answer)
}

/// The port that the peer behind `address` reports, and the client's address it sees.
pub fn who(address: SocketAddr) -> Result<(u16, SocketAddr)> {
    parse(&ask(&connect(address)?, b"who?")?)
}

/// Parses the peer's answer to `who?`.
pub fn parse(answer: &[u8]) -> Result<(u16, SocketAddr)> {
    let text = String::from_utf8_lossy(answer);
    let (port, seen) = text.trim().split_once(' ').with_context(|| format!("the peer answered {text:?}"))?;
    Ok((port.parse()?, seen.parse()?))
}

/// Whether `address` does not answer.
pub fn is_silent(address: SocketAddr) -> bool {
    let asked = connect(address).and_then(|socket| {
        socket.set_read_timeout(Some(SILENCE))?;
        ask(&socket, b"who?")
    });
    asked.is_err()
}

/// Bytes of the test pattern.
pub fn pattern(bytes: usize) -> Vec<u8> {
    let mut datagram = vec![0; bytes];
    Pattern::default().fill(&mut datagram);
    datagram
}
