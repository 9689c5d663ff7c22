//! What the fuzz targets need: what a device holds, and its parsers.

use super::device::VsockDevice;
use super::host::requested_port;
pub use super::muxer::VsockHeld;
use super::packet::{Closed, HEADER_BYTES, Header, Operation};

/// What `device` holds now.
pub fn vsock_held(device: &VsockDevice) -> VsockHeld {
    device.held()
}

/// Decodes a header, answers it and encodes it again.
pub fn header_round_trip(bytes: &[u8; HEADER_BYTES]) -> [u8; HEADER_BYTES] {
    let header = Header::decode(bytes);
    let _ = (Operation::from_wire(header.op), Closed::from_wire(header.flags), header.answer_reset());
    header.encode()
}

/// The port that a program on the host asks for in its first line.
pub fn connect_line(line: &[u8]) -> Option<u32> {
    requested_port(line)
}
