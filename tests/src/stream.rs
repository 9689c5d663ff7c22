//! Exchanges TCP streams with the test peer in a container, and checksums long streams.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

/// Deadline of a test's read or write.
const STALL: Duration = Duration::from_mins(1);

/// Connects to an address that should answer.
pub fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, STALL).with_context(|| format!("nobody listens at {address}"))?;
    stream.set_read_timeout(Some(STALL))?;
    stream.set_write_timeout(Some(STALL))?;
    Ok(stream)
}

/// Sends `bytes`, ends that direction, and reads the other to its end. The peer's `serve` answers with a line
/// `PORT COUNT SHA256` after it has seen our end, so half-close must work.
pub fn ask(address: SocketAddr, bytes: &[u8]) -> Result<String> {
    let mut stream = connect(address)?;
    stream.write_all(bytes).with_context(|| format!("sending to {address}"))?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("reading from {address}"))?;
    ensure!(!answer.is_empty(), "{address} closed without an answer");
    Ok(answer.trim().to_owned())
}

/// The port that the peer behind `address` reports.
pub fn port_behind(address: SocketAddr) -> Result<u16> {
    let answer = ask(address, b"?")?;
    let port = answer.split(' ').next().and_then(|port| port.parse().ok());
    port.with_context(|| format!("{address} answered {answer:?}"))
}

/// Our address as the peer behind `address` sees it.
pub fn who(address: SocketAddr) -> Result<String> {
    let mut stream = connect(address)?;
    stream.write_all(b"who?\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("reading from {address}"))?;
    ensure!(!answer.is_empty(), "{address} closed without an answer");
    Ok(answer)
}

/// Whether a connection to `address` is refused.
pub fn is_refused(address: SocketAddr) -> bool {
    match TcpStream::connect_timeout(&address, STALL) {
        Err(_) => true,
        // Nobody listens, and the system assigned the client the very port it connects to: it has met itself (RFC 9293,
        // section 3.5).
        Ok(connection) => connection.local_addr().is_ok_and(|own| own == address),
    }
}

/// Whether the address answers; false if a proxy accepts without a server behind it.
pub fn answers(address: SocketAddr) -> bool {
    ask(address, b"?").is_ok()
}

/// SHA-256 in hexadecimal.
pub fn checksum(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Reads to the end; returns the number of bytes and their SHA-256.
pub fn drain(mut reader: impl Read) -> Result<(u64, String)> {
    let mut buffer = vec![0; 256 * 1024];
    let (mut count, mut digest) = (0, Sha256::new());
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            return Ok((count, hex(&digest.finalize())));
        }
        count += read as u64;
        digest.update(&buffer[..read]);
    }
}

/// The SHA-256 of the bytes the peer sends for `send COUNT`.
pub fn expected_checksum(count: u64) -> String {
    let mut digest = Sha256::new();
    let mut pattern = Pattern::default();
    let mut buffer = vec![0; 256 * 1024];
    let mut left = count;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        pattern.fill(&mut buffer[..part]);
        digest.update(&buffer[..part]);
        left -= part as u64;
    }
    hex(&digest.finalize())
}

fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        text.push(char::from_digit((byte >> 4).into(), 16).unwrap_or('?'));
        text.push(char::from_digit((byte & 15).into(), 16).unwrap_or('?'));
        text
    })
}

/// Bytes that do not repeat soon (xorshift64), so that a lost, doubled or misplaced block changes the checksum.
#[derive(Clone, Debug)]
pub struct Pattern {
    state: u64,
}

impl Default for Pattern {
    fn default() -> Self {
        Self { state: 0x9E37_79B9_7F4A_7C15 }
    }
}

impl Pattern {
    /// The next bytes. The length of each piece except the last must be a multiple of 8.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            chunk.copy_from_slice(&self.state.to_le_bytes()[..chunk.len()]);
        }
    }
}
