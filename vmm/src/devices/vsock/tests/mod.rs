//! The device, driven by a model of a guest, with real Unix sockets.

mod bulk;
mod driver;
mod hostile;
mod streams;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use self::driver::{Guest, Options};
use super::packet::Operation;

/// Connects the host to `port` of the guest, which accepts. Returns the host's socket and the host port of the stream.
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

/// Reads exactly one line.
fn read_line(socket: &UnixStream) -> String {
    let mut line = String::new();
    BufReader::with_capacity(1, socket).read_line(&mut line).unwrap();
    line
}

fn guest() -> Guest {
    Guest::new(Options::default())
}

/// A restored guest is notified once that its streams are gone, and ports continue from where they were.
#[test]
fn a_restore_resets_the_transport_and_reuses_no_port() {
    use crate::devices::VirtioDevice;
    use crate::devices::tests::queues::{Descriptor, TestQueues};

    let directory = tempfile::tempdir().unwrap();
    let saved = {
        let mut guest = guest();
        let (_socket, port) = connect_to_guest(&mut guest, 1024);
        let saved = guest.device.save();
        assert_eq!(saved, port + 1);
        saved
    };
    let mut device = super::VsockDevice::new(3, &directory.path().join("vsock")).unwrap();
    let mut queues = TestQueues::new(&[64, 64, 64]);
    let head = queues.add(super::device::EVENT, &[Descriptor::writable(8)]);
    device.restore(&saved, &mut queues).unwrap();
    assert_eq!((queues.used(super::device::EVENT), queues.signals(super::device::EVENT)), (vec![(head, 4)], 1));
    assert_eq!(queues.read(head, 4), [0; 4]);
    assert_eq!(device.save(), saved);
    assert!(device.restore(&"x".into(), &mut queues).is_err());
    queues.add(super::device::EVENT, &[Descriptor::readable(8)]);
    assert!(device.restore(&saved, &mut queues).is_err());
}
