//! The device driven by a model of a guest, against real Unix sockets.

mod bulk;
mod driver;
mod hostile;
mod streams;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use self::driver::{Guest, Options};
use super::packet::Operation;

/// Connects the host to `port` of the guest, which accepts. The host's socket and the host port of the stream.
fn connect_to_guest(guest: &mut Guest, port: u32) -> (UnixStream, u32) {
    let mut socket = guest.connect();
    socket.write_all(format!("CONNECT {port}\n").as_bytes()).unwrap();
    let request = guest.next_packet();
    assert_eq!((request.operation(), request.header.dst_port), (Operation::Request, port));
    let host_port = request.header.src_port;
    guest.send_control(Operation::Response, host_port, port);
    assert_eq!(read_line(&socket), format!("OK {host_port}\n"));
    (socket, host_port)
}

/// Reads a line, no byte more.
fn read_line(socket: &UnixStream) -> String {
    let mut line = String::new();
    BufReader::with_capacity(1, socket).read_line(&mut line).unwrap();
    line
}

fn guest() -> Guest {
    Guest::new(Options::default())
}
