//! What the fuzz targets (`vmm/fuzz`) need from the inside of this crate. Not an interface: it changes with them.

use rorqual_vmm_protocol::Request;

use crate::config;
pub use crate::devices::vsock::fuzzing::{VsockHeld, connect_line, header_round_trip, vsock_held};
use crate::net::network::Network;

/// Whether a configuration is accepted.
pub fn configuration_is_valid(text: &str) -> bool {
    config::is_valid(text)
}

/// Whether the control socket accepts a line as a request.
pub fn is_control_request(line: &str) -> bool {
    serde_json::from_str::<Request>(line).is_ok()
}

/// The gateway's own answer to a query of the domain name system: for a name of its own, or because it cannot pass the
/// query on.
pub fn dns_answer(query: &[u8], network: &Network) -> Option<Vec<u8>> {
    crate::net::fuzzing::dns_answer(query, network)
}

/// Whether `message` is taken for a resolver's answer to `query`.
pub fn dns_is_answer(message: &[u8], query: &[u8]) -> bool {
    crate::net::fuzzing::dns_is_answer(message, query)
}

/// Parses a frame in every way.
///
/// # Panics
/// If two ways disagree, or an answer to the frame cannot be parsed.
pub fn read_frame(frame: &[u8]) {
    crate::net::fuzzing::read_frame(frame);
}
