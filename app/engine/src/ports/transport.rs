//! The transport of a published port.

use rorqual_protocol::agent::{PublishedPort, published_port::Protocol};

/// The transports that can be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    /// The transport of `port`; none for one this version does not know.
    pub(super) fn of(port: &PublishedPort) -> Option<Self> {
        match port.protocol() {
            Protocol::Tcp => Some(Self::Tcp),
            Protocol::Udp => Some(Self::Udp),
            Protocol::Unspecified => None,
        }
    }

    /// The name docker uses.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}
