//! For the fuzz targets: what the device holds, and its parsers.

use super::VsockDevice;
use super::host::requested_port;
use super::packet::{Closed, HEADER_BYTES, Header, Operation};

/// What a vsock device holds for its guest.
#[derive(Clone, Copy, Debug)]
pub struct VsockHeld {
    /// Streams, ended ones the guest has not let go, handshakes.
    pub streams: usize,
    /// Packets without payload that wait for receive buffers.
    pub answers: usize,
    /// Places in the queue of streams with something to say.
    pub turns: usize,
    /// Most bytes kept for the reader of one stream.
    pub kept_most: usize,
}

/// What `device` holds now.
pub fn vsock_held(device: &VsockDevice) -> VsockHeld {
    device.muxer.held()
}

/// Decodes a header, answers it and encodes it again.
pub fn header_round_trip(bytes: &[u8; HEADER_BYTES]) -> [u8; HEADER_BYTES] {
    let header = Header::decode(bytes);
    let _ = (Operation::from_wire(header.op), Closed::from_wire(header.flags), header.answer_reset());
    header.encode()
}

/// The port a program on the host asks for by its first line.
pub fn connect_line(line: &[u8]) -> Option<u32> {
    requested_port(line)
}
