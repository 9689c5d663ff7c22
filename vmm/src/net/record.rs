//! The addresses of a machine's network, as a snapshot keeps them.

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

/// The addresses of a machine's network, which its guest knows.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NetworkRecord {
    /// The IPv4 network, such as `198.19.64.0/24`.
    pub subnet: String,
    /// The first 64 bits of its IPv6 addresses.
    pub prefix6: Ipv6Addr,
}
