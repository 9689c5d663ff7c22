//! The web server of the image `rorqual/hello`: one static page that shows where it runs.
//!
//! One thread per connection, HTTP/1.1 with keep-alive, standard library only. It is the first thing a newcomer runs,
//! and the smallest program to measure behind a published port.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::sync::Arc;

use nix::sys::signal::{SigSet, Signal};

/// Longest request head accepted, in bytes.
const MAX_HEAD: u64 = 16 * 1024;

fn main() -> io::Result<()> {
    end_when_stopped()?;
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 80)).or_else(|_| TcpListener::bind(("0.0.0.0", 80)))?;
    let page: Arc<str> = page(&read_line("/proc/sys/kernel/hostname"), &read_line("/proc/sys/kernel/osrelease")).into();
    println!("rorqual/hello answers on port 80");
    for stream in listener.incoming() {
        let page = Arc::clone(&page);
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                eprintln!("could not accept a connection: {error}");
                continue;
            }
        };
        let spawned = std::thread::Builder::new().stack_size(64 * 1024).spawn(move || {
            // A client that leaves early needs no answer.
            let _left_early = serve(&stream, &page);
        });
        if let Err(error) = spawned {
            eprintln!("could not start a thread for a connection: {error}");
        }
    }
    Ok(())
}

/// Ends the program on SIGTERM and SIGINT. The first process of a container receives only the signals it handles.
fn end_when_stopped() -> io::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    // Blocked before any other thread starts: they inherit the mask, and only the thread below receives the signals.
    signals.thread_block()?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || match signals.wait() {
        Ok(_) => std::process::exit(0),
        Err(error) => eprintln!("cannot wait for signals: {error}"),
    })?;
    Ok(())
}

fn read_line(path: &str) -> String {
    std::fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

fn page(container: &str, kernel: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Hello from Rorqual</title>\n\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:36em;\
         margin:12vh auto;padding:0 1em;color-scheme:light dark}}\
         code{{font-size:.95em}}</style>\n\
         <h1>Hello from a container</h1>\n\
         <p>This page is served by container <code>{container}</code> on Linux <code>{kernel}</code>, \
         in a machine run by Rorqual.</p>\n\
         <p>The port was published with <code>docker run -p</code> and reached you on localhost by itself.</p>\n\
         </html>\n"
    )
}

/// Answers requests on one connection until the client is done.
fn serve(stream: &TcpStream, page: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let before = head.len();
            (&mut reader).take(MAX_HEAD - before as u64).read_until(b'\n', &mut head)?;
            if head.len() == before || head.len() as u64 == MAX_HEAD {
                return Ok(());
            }
            if head.ends_with(b"\r\n\r\n") || head.ends_with(b"\n\n") {
                break;
            }
        }
        let Some(request) = Request::parse(&String::from_utf8_lossy(&head)) else {
            return respond(stream, "400 Bad Request", "text/plain", "not an HTTP request\n", true, false);
        };
        match (request.method.as_str(), request.path.as_str()) {
            ("GET" | "HEAD", "/") => {
                respond(
                    stream,
                    "200 OK",
                    "text/html; charset=utf-8",
                    page,
                    request.method == "GET",
                    request.keep_alive,
                )?;
            }
            ("GET" | "HEAD", _) => {
                respond(
                    stream,
                    "404 Not Found",
                    "text/plain",
                    "there is only /\n",
                    request.method == "GET",
                    request.keep_alive,
                )?;
            }
            _ => return respond(stream, "405 Method Not Allowed", "text/plain", "only GET and HEAD\n", true, false),
        }
        if !request.keep_alive {
            return Ok(());
        }
    }
}

fn respond(
    mut stream: &TcpStream,
    status: &str,
    content_type: &str,
    body: &str,
    with_body: bool,
    keep_alive: bool,
) -> io::Result<()> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
        body.len()
    );
    stream.write_all(if with_body { head + body } else { head }.as_bytes())
}

struct Request {
    method: String,
    path: String,
    keep_alive: bool,
}

impl Request {
    fn parse(head: &str) -> Option<Self> {
        let mut lines = head.lines();
        let mut words = lines.next()?.split(' ');
        let (method, path, version) = (words.next()?, words.next()?, words.next()?);
        if !version.starts_with("HTTP/1.") {
            return None;
        }
        let connection = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("connection"))
            .map(|(_, value)| value.trim().to_ascii_lowercase());
        // RFC 9112 §9.3: persistent by default since 1.1.
        let keep_alive = match connection.as_deref() {
            Some("close") => false,
            Some("keep-alive") => true,
            _ => version != "HTTP/1.0",
        };
        Some(Self { method: method.to_owned(), path: path.split('?').next()?.to_owned(), keep_alive })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_persists_as_its_version_and_header_say() {
        let keeps = |head: &str| Request::parse(head).unwrap().keep_alive;
        assert!(keeps("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
        assert!(keeps("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn two_requests_on_one_connection_get_two_pages() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = std::thread::spawn(move || serve(&listener.accept().unwrap().0, "page").unwrap());
        client.write_all(b"GET / HTTP/1.1\r\n\r\nGET /?a HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        server.join().unwrap();
        assert_eq!(answer.matches("200 OK").count(), 2);
        assert_eq!(answer.matches("page").count(), 2);
    }

    #[test]
    fn what_is_not_http_is_refused() {
        assert!(Request::parse("hello\r\n\r\n").is_none());
        assert!(Request::parse("GET / FTP/1.0\r\n\r\n").is_none());
    }
}
