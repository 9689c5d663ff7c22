//! What a node can do. Lines of JSON carry tasks to the guest's node.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// TCP: echoes its input.
    Echo,
    /// TCP: sends one byte on each connection and closes it.
    Greet,
    /// TCP: sends one byte on each connection and keeps it open.
    Keep,
    /// UDP: counts datagrams, reports the count, and sends as many as it can.
    Datagrams,
    /// iperf3.
    Stream,
}

/// A task of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Serve until the node ends. Answers nothing once it serves.
    Serve {
        /// The kind of server.
        service: Service,
        /// Its address.
        at: SocketAddr,
    },
    /// Send to a [`Service::Stream`] with iperf3. Answers the bits per second that arrived.
    Stream {
        /// The server.
        to: SocketAddr,
        /// Parallel connections.
        streams: u32,
        /// Duration.
        seconds: u32,
    },
    /// Send requests to a [`Service::Echo`] over one connection. Answers the median and the 99th percentile, in
    /// seconds.
    Requests {
        /// The server.
        to: SocketAddr,
        /// Duration.
        seconds: u32,
    },
    /// Connect to a [`Service::Greet`] repeatedly, [`CONNECTING`] at once. Answers the connections per second.
    Connections {
        /// The server.
        to: SocketAddr,
        /// Duration.
        seconds: u32,
    },
    /// Send datagrams to a [`Service::Datagrams`] as fast as possible. Answers how many arrived per second.
    SendDatagrams {
        /// The server.
        to: SocketAddr,
        /// Duration.
        seconds: u32,
    },
    /// Have a [`Service::Datagrams`] send as fast as it can. Answers how many arrived per second.
    FetchDatagrams {
        /// The server.
        to: SocketAddr,
        /// Duration.
        seconds: u32,
    },
    /// Open more connections to a [`Service::Keep`] and keep them. Answers the total number.
    Hold {
        /// The server.
        to: SocketAddr,
        /// Number of additional connections.
        count: u32,
    },
}

/// Connections a node opens in parallel when it counts them.
pub const CONNECTING: usize = 4;
/// Bytes of a request, and of its answer.
pub const REQUEST_BYTES: usize = 128;
/// Bytes of a datagram's payload.
pub const DATAGRAM_BYTES: usize = 64;
