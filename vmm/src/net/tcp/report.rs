//! What a splice reports: notices for the guest, failures to open a flow, totals.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

use super::host::Unreachable;

/// What the guest must learn by other means than TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// `remote` is unreachable: to be reported by an ICMP message that quotes the SYN by its ports and sequence number.
    Unreachable {
        /// The end that sent the SYN.
        guest: SocketAddr,
        /// The end it was sent to. The ICMP message comes from there or from the gateway.
        remote: SocketAddr,
        /// Sequence number of the guest's SYN.
        sequence: u32,
        /// Which ICMP code applies.
        reason: Unreachable,
    },
}

/// Why no flow into the guest was opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A flow between these two ends exists.
    #[error("a flow from {from} to {to} exists")]
    Exists {
        /// The end the guest would see.
        from: SocketAddr,
        /// The guest's end.
        to: SocketAddr,
    },
    /// One end is IPv4, the other IPv6.
    #[error("{from} cannot talk to {to}")]
    Family {
        /// The end the guest would see.
        from: SocketAddr,
        /// The guest's end.
        to: SocketAddr,
    },
    /// The host's socket could not be prepared.
    #[error("the accepted connection cannot be used: {0}")]
    Socket(#[from] io::Error),
}

/// Totals since the splice was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Flows the guest asked for.
    pub asked: u64,
    /// Flows opened into the guest.
    pub offered: u64,
    /// Attempts that did not become a connection.
    pub failed: u64,
    /// Flows ended by a reset of either side, or because the guest did not answer.
    pub broken: u64,
    /// Flows that were evicted.
    pub evicted: u64,
    /// Segments of the guest that were not valid TCP.
    pub malformed: u64,
    /// Segments of the guest.
    pub received: u64,
    /// Packets to the guest.
    pub sent: u64,
}
