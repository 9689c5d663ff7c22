// What the port proxy and the agent say to each other on `/run/rorqual/ports.sock` (docs/architecture.md, "Published
// ports"). Both programs take this file in.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Where the agent listens for port proxies.
pub(crate) const SOCKET: &str = "/run/rorqual/ports.sock";

/// What is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// One line of a proxy: publish this port for as long as the connection is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublishRequest {
    pub(crate) protocol: Protocol,
    pub(crate) host_address: IpAddr,
    pub(crate) host_port: u16,
    pub(crate) container_address: IpAddr,
    pub(crate) container_port: u16,
}

/// One line of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublishAnswer {
    pub(crate) bound: bool,
    /// Why not, for the user.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
}
