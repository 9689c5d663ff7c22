//! The client of `make bench`, and its server of many bytes: one static program for the host and for containers.
//!
//! - `bench-client serve PORT`: a connection that sends `send COUNT\n` receives that many bytes and then the end.
//! - `bench-client download ADDRESS CONNECTIONS BYTES`: fetches a total of `BYTES` from such a server, over that many
//!   parallel connections. Prints `{"seconds":…,"count":<bytes>}`.
//! - `bench-client requests ADDRESS CONNECTIONS SECONDS keep-alive|close`: requests `/` from an HTTP server as often as
//!   it can over that many parallel connections, each kept or new for each request. Prints
//!   `{"seconds":…,"count":<requests>}`.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv6Addr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

/// Bytes of one read or write: large, so that system calls do not dominate.
const PIECE: usize = 256 * 1024;

/// Deadline of a read.
const STALL: Duration = Duration::from_mins(1);

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let begin = Instant::now();
    let count = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", port] => return serve(port.parse()?),
        ["download", address, connections, bytes] => {
            let connections: u64 = connections.parse()?;
            let each = bytes.parse::<u64>()? / connections;
            at_once(connections, move |address| download(&address, each), address)?
        }
        ["requests", address, connections, seconds, connection] => {
            let end = begin + Duration::from_secs(seconds.parse()?);
            let keep = connection == "keep-alive";
            at_once(connections.parse()?, move |address| requests(&address, keep, end), address)?
        }
        _ => bail!(
            "usage: bench-client serve PORT | download ADDRESS CONNECTIONS BYTES | \
             requests ADDRESS CONNECTIONS SECONDS keep-alive|close"
        ),
    };
    println!("{{\"seconds\":{},\"count\":{count}}}", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Runs `work` in `connections` threads and returns the sum of their results.
fn at_once<Work>(connections: u64, work: Work, address: &str) -> Result<u64>
where
    Work: Fn(String) -> Result<u64> + Clone + Send + 'static,
{
    let threads: Vec<_> = (0..connections)
        .map(|_| {
            let (work, address) = (work.clone(), address.to_owned());
            thread::spawn(move || work(address))
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?).sum()
}

fn serve(port: u16) -> Result<()> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind(("0.0.0.0", port)))
        .with_context(|| format!("cannot listen on {port}"))?;
    println!("listening");
    for stream in listener.incoming().flatten() {
        thread::spawn(move || {
            if let Err(error) = send(stream) {
                eprintln!("{error:#}");
            }
        });
    }
    Ok(())
}

fn send(mut stream: TcpStream) -> Result<()> {
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    let count = line.strip_prefix("send ").with_context(|| format!("asked for {line:?}"))?;
    let mut left: u64 = count.trim().parse()?;
    let piece = vec![b'r'; PIECE];
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        stream.write_all(&piece[..part])?;
        left -= part as u64;
    }
    Ok(())
}

fn connect(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("nobody listens at {address}"))?;
    stream.set_read_timeout(Some(STALL))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn download(address: &str, bytes: u64) -> Result<u64> {
    let mut stream = connect(address)?;
    stream.write_all(format!("send {bytes}\n").as_bytes())?;
    let mut piece = vec![0; PIECE];
    let mut count = 0;
    loop {
        match stream.read(&mut piece)? {
            0 => break,
            read => count += read as u64,
        }
    }
    ensure!(count == bytes, "asked {address} for {bytes} bytes and got {count}");
    Ok(count)
}

fn requests(address: &str, keep: bool, end: Instant) -> Result<u64> {
    let connection = if keep { "keep-alive" } else { "close" };
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: {connection}\r\n\r\n");
    let mut count = 0;
    let mut kept = None;
    while Instant::now() < end {
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => BufReader::new(connect(address)?),
        };
        stream.get_mut().write_all(request.as_bytes())?;
        read_answer(&mut stream)?;
        count += 1;
        kept = keep.then_some(stream);
    }
    Ok(count)
}

/// Reads one answer with a content length.
fn read_answer(stream: &mut BufReader<TcpStream>) -> Result<()> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    ensure!(line.starts_with("HTTP/1.1 200"), "answered {line:?}");
    let mut length = None;
    loop {
        line.clear();
        ensure!(stream.read_line(&mut line)? > 0, "the answer ended in its head");
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = Some(value.trim().parse()?);
        }
    }
    let mut body = vec![0; length.context("the answer has no content length")?];
    stream.read_exact(&mut body)?;
    Ok(())
}
