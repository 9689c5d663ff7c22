//! An HTTP/1.1 server for tests of the proxies in front of it:
//!
//! - `GET /head` answers with the head of the request as it arrived.
//! - `POST /sum` answers `COUNT SHA256` of the body.
//! - `GET /bytes/COUNT` answers with that many bytes of the test pattern.
//! - `GET /events` sends an event at once and the next after each `GET /release`.
//! - `GET /socket` becomes a WebSocket that echoes each message.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv6Addr, TcpListener, TcpStream},
    sync::{Condvar, Mutex, PoisonError},
    thread,
};

use anyhow::{Context, Result, bail};
use rorqual_tests::stream::drain;
use tungstenite::{WebSocket, handshake::derive_accept_key, protocol::Role};

use crate::pattern;

/// Number of requests for `/release`.
static RELEASED: (Mutex<u32>, Condvar) = (Mutex::new(0), Condvar::new());

pub(crate) fn serve(port: u16) -> Result<()> {
    let listener =
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))?;
    println!("listening");
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || {
            if let Err(error) = connection(stream) {
                eprintln!("a connection ended: {error:#}");
            }
        });
    }
    Ok(())
}

fn connection(mut stream: TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(head) = read_head(&mut reader)? {
        let path = head.split(' ').nth(1).context("a request without a target")?.to_owned();
        match path.as_str() {
            "/socket" => return socket(stream, &head),
            "/events" => return events(&mut stream),
            "/head" => answer(&mut stream, head.as_bytes())?,
            "/sum" => {
                let (count, sum) = read_body(&mut reader, &head)?;
                answer(&mut stream, format!("{count} {sum}").as_bytes())?;
            }
            "/release" => {
                *RELEASED.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                RELEASED.1.notify_all();
                answer(&mut stream, b"released")?;
            }
            path => {
                let count: u64 = path.strip_prefix("/bytes/").context("an unknown path")?.parse()?;
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n")?;
                pattern::send(&mut stream, count)?;
            }
        }
        if field(&head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            return Ok(());
        }
    }
    Ok(())
}

/// A request's head with its empty line; `None` at the end of the connection.
fn read_head(reader: &mut impl BufRead) -> Result<Option<String>> {
    let mut head = String::new();
    loop {
        let begin = head.len();
        if reader.read_line(&mut head)? == 0 {
            if head.is_empty() {
                return Ok(None);
            }
            bail!("the connection ended within a head");
        }
        if head[begin..].trim().is_empty() {
            return Ok(Some(head));
        }
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

fn read_body(reader: &mut impl BufRead, head: &str) -> Result<(u64, String)> {
    if let Some(length) = field(head, "content-length") {
        return drain(reader.take(length.parse()?));
    }
    drain(Chunked { reader, left: 0, over: false })
}

/// A chunked body without trailers (RFC 9112 §7.1).
struct Chunked<'a, R> {
    reader: &'a mut R,
    left: u64,
    over: bool,
}

impl<R: BufRead> Read for Chunked<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 && !self.over {
            let mut line = String::new();
            self.reader.read_line(&mut line)?;
            if line.trim().is_empty() {
                line.clear();
                self.reader.read_line(&mut line)?;
            }
            self.left = u64::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
            if self.left == 0 {
                self.over = true;
                self.reader.read_line(&mut String::new())?;
            }
        }
        let count = self.reader.by_ref().take(self.left).read(buffer)?;
        self.left -= count as u64;
        Ok(count)
    }
}

fn answer(stream: &mut TcpStream, body: &[u8]) -> Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", body.len())?;
    Ok(stream.write_all(body)?)
}

fn events(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")?;
    let mut sent = 0_u32;
    loop {
        stream.write_all(format!("data: {sent}\n\n").as_bytes())?;
        let released = RELEASED.0.lock().unwrap_or_else(PoisonError::into_inner);
        let released =
            RELEASED.1.wait_while(released, |released| *released <= sent).unwrap_or_else(PoisonError::into_inner);
        drop(released);
        sent += 1;
    }
}

fn socket(mut stream: TcpStream, head: &str) -> Result<()> {
    let key = field(head, "sec-websocket-key").context("no key")?;
    let accept = derive_accept_key(key.as_bytes());
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )?;
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    loop {
        let message = socket.read()?;
        if message.is_text() || message.is_binary() {
            socket.send(message)?;
        }
    }
}
