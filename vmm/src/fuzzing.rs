//! What the fuzz targets (`vmm/fuzz`) need of this crate's insides. Not an interface: it changes with them.

use crate::config::Config;
pub use crate::devices::vsock::fuzzing::{VsockHeld, connect_line, header_round_trip, vsock_held};

/// Whether a configuration is accepted.
pub fn configuration_is_valid(text: &str) -> bool {
    Config::parse(text).is_ok()
}

/// Whether the control socket takes a line for a request.
pub fn is_control_request(line: &str) -> bool {
    crate::control::is_request(line)
}
