//! The program in the tests' containers, beside busybox.
//!
//! - `peer serve FIRST-LAST`: listens on every port of the range, IPv4 and IPv6. A connection that begins with
//!   `send COUNT\n` receives that many bytes of the test pattern; one that begins with `who?\n` receives the client's
//!   address as the peer sees it; any other is read to its end and answered with `PORT COUNT SHA256\n`.
//! - `peer http PORT`: an HTTP/1.1 server that keeps connections open ([`http`]).
//! - `peer datagrams FIRST-LAST`: the same for UDP. A datagram `who?` is answered with the port and the sender's
//!   address, any other with itself.
//! - `peer both FIRST-LAST`: both of these.
//! - `peer who ADDRESS`, `peer ask ADDRESS`: sends `who?` to `serve` or `datagrams` at the address and prints the
//!   answer.
//! - `peer hold ADDRESS`: connects, prints `connected`, and `ended …` once the connection breaks or closes.
//! - `peer records FILE`: keeps appending numbered lines to a file, and prints each after fsync. Printed lines must
//!   survive any crash.
//! - `peer send COUNT`: writes the test pattern to standard output.
//! - `peer download ADDRESS COUNT`: has `serve` at the address send that many bytes; prints `COUNT SHA256`.
//! - `peer upload ADDRESS COUNT`: sends that many bytes and prints the answer of `serve`.
//! - `peer addresses NAME`: prints the addresses to which the C library resolves a name, one per line.
//! - `peer echo ADDRESS COUNT`: sends one datagram of that many bytes and prints `same` when it returns.
//! - `peer system-call NUMBER`: makes that system call without arguments and prints the name of its error.

mod http;
mod pattern;

use std::{
    env,
    fs::OpenOptions,
    io::{self, Read, Write},
    net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket},
    ops::RangeInclusive,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rorqual_tests::{
    datagram,
    stream::{self, Pattern, drain},
};

use pattern::send;

/// Small, because a thousand threads wait for connections.
const STACK: usize = 128 * 1024;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", range] => serve(range),
        ["http", port] => http::serve(port.parse()?),
        ["datagrams", range] => datagrams(range),
        ["both", range] => both(range),
        ["who", address] => who(address),
        ["ask", address] => ask(address),
        ["hold", address] => hold(address),
        ["addresses", name] => addresses(name),
        ["records", file] => records(file),
        ["download", address, count] => download(address, count),
        ["upload", address, count] => upload(address, count.parse()?),
        ["echo", address, count] => echo(address, count.parse()?),
        ["system-call", number] => {
            println!("{}", system_call(number.parse()?));
            Ok(())
        }
        ["send", count] => send(&mut io::stdout().lock(), count.parse()?),
        _ => {
            bail!(
                "usage: peer (serve | datagrams | both) FIRST-LAST | (who | ask | hold) ADDRESS | addresses NAME | \
                 http PORT | records FILE | send COUNT | (download | upload | echo) ADDRESS COUNT | \
                 system-call NUMBER"
            )
        }
    }
}

/// What a system call answers: the name of its error, or its result.
fn system_call(number: i64) -> String {
    // SAFETY: the tests name only calls that are refused or do not exist, so nothing is read or written.
    let result = unsafe { libc::syscall(number, 0, 0, 0, 0, 0, 0) };
    if result == -1 { format!("{:?}", nix::errno::Errno::last()) } else { result.to_string() }
}

fn serve(range: &str) -> Result<()> {
    let waiting = listen(range)?;
    println!("listening");
    wait_for(waiting)
}

fn datagrams(range: &str) -> Result<()> {
    let waiting = take_datagrams(range)?;
    println!("listening");
    wait_for(waiting)
}

fn both(range: &str) -> Result<()> {
    let mut waiting = listen(range)?;
    waiting.extend(take_datagrams(range)?);
    println!("listening");
    wait_for(waiting)
}

fn wait_for(threads: Vec<JoinHandle<()>>) -> Result<()> {
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
    }
    Ok(())
}

fn ports(range: &str) -> Result<RangeInclusive<u16>> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    Ok(first.parse()?..=last.parse()?)
}

fn take_datagrams(range: &str) -> Result<Vec<JoinHandle<()>>> {
    let mut waiting = Vec::new();
    for port in ports(range)? {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))
            .or_else(|_| UdpSocket::bind(("0.0.0.0", port)))
            .with_context(|| format!("cannot have port {port}"))?;
        waiting.push(thread::Builder::new().stack_size(STACK).spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let told;
                let answer = match &buffer[..length] {
                    b"who?" => {
                        told = format!("{port} {from}");
                        told.as_bytes()
                    }
                    same => same,
                };
                if let Err(error) = socket.send_to(answer, from) {
                    eprintln!("port {port}: {error}");
                }
            }
        })?);
    }
    Ok(waiting)
}

fn listen(range: &str) -> Result<Vec<JoinHandle<()>>> {
    let mut waiting = Vec::new();
    for port in ports(range)? {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
            .or_else(|_| TcpListener::bind(("0.0.0.0", port)))
            .with_context(|| format!("cannot listen on {port}"))?;
        let wait = thread::Builder::new().stack_size(STACK).spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = thread::Builder::new().stack_size(STACK * 4).spawn(move || {
                    if let Err(error) = answer(stream, port) {
                        eprintln!("port {port}: {error:#}");
                    }
                });
                drop(answer);
            }
        });
        waiting.push(wait?);
    }
    Ok(waiting)
}

fn who(address: &str) -> Result<()> {
    print!("{}", stream::who(resolve(address)?)?);
    Ok(())
}

fn ask(address: &str) -> Result<()> {
    let answer = datagram::ask(&datagram::connect(resolve(address)?)?, b"who?")?;
    println!("{}", String::from_utf8_lossy(&answer));
    Ok(())
}

fn resolve(address: &str) -> Result<SocketAddr> {
    address.to_socket_addrs()?.next().context("it has no address")
}

fn addresses(name: &str) -> Result<()> {
    for address in (name, 0).to_socket_addrs()? {
        println!("{}", address.ip());
    }
    Ok(())
}

fn hold(address: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    println!("connected");
    match stream.read(&mut [0]) {
        Ok(_) => println!("ended in order"),
        Err(error) => println!("ended: {error}"),
    }
    Ok(())
}

fn answer(mut stream: TcpStream, port: u16) -> Result<()> {
    let peer: SocketAddr = stream.peer_addr()?;
    let mut head = [0; 5];
    let mut have = 0;
    while have < head.len() {
        match stream.read(&mut head[have..])? {
            0 => break,
            count => have += count,
        }
    }
    if &head == b"who?\n" {
        return Ok(writeln!(stream, "{peer}")?);
    }
    if &head == b"send " {
        let mut count = String::new();
        let mut byte = [0];
        while stream.read(&mut byte)? == 1 && byte[0] != b'\n' {
            count.push(byte[0].into());
        }
        return send(&mut stream, count.parse()?);
    }
    let (count, checksum) = drain(io::Cursor::new(&head[..have]).chain(&stream))?;
    Ok(writeln!(stream, "{port} {count} {checksum}")?)
}

fn download(address: &str, count: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    writeln!(stream, "send {count}")?;
    let (count, checksum) = drain(stream)?;
    println!("{count} {checksum}");
    Ok(())
}

fn upload(address: &str, count: u64) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    send(&mut stream, count)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    println!("{}", answer.trim());
    Ok(())
}

fn echo(address: &str, count: usize) -> Result<()> {
    let mut datagram = vec![0; count];
    Pattern::default().fill(&mut datagram);
    let target = address.to_socket_addrs()?.find(SocketAddr::is_ipv4).context("it has no address")?;
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    socket.send(&datagram)?;
    let mut answer = vec![0; 65_536];
    let length = socket.recv(&mut answer)?;
    println!("{}", if answer[..length] == datagram { "same" } else { "different" });
    Ok(())
}

fn records(path: &str) -> Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    for number in 1_u64.. {
        writeln!(file, "record {number} of the test")?;
        file.sync_all()?;
        println!("{number}");
    }
    Ok(())
}
