//! What a node can do, in the words of the lines of JSON that drive the guest's node.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// TCP: sends back what it gets.
    Echo,
    /// TCP: says one byte to each connection and closes it.
    Greet,
    /// TCP: says one byte to each connection and keeps it.
    Keep,
    /// UDP: counts, tells the count, sends as much as it can.
    Datagrams,
    /// iperf3.
    Stream,
}

/// What a node is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Serve there until the node ends. Answers nothing, once it does.
    Serve {
        /// What to serve.
        service: Service,
        /// Where.
        at: SocketAddr,
    },
    /// Send to a [`Service::Stream`] by iperf3. Answers the bits per second that arrived.
    Stream {
        /// The server.
        to: SocketAddr,
        /// Connections at once.
        streams: u32,
        /// How long.
        seconds: u32,
    },
    /// Ask a [`Service::Echo`] again and again over one connection. Answers the median and the 99th percentile, in
    /// seconds.
    Requests {
        /// The server.
        to: SocketAddr,
        /// How long.
        seconds: u32,
    },
    /// Connect to a [`Service::Greet`] again and again, [`CONNECTING`] at once. Answers the connections per second.
    Connections {
        /// The server.
        to: SocketAddr,
        /// How long.
        seconds: u32,
    },
    /// Send datagrams to a [`Service::Datagrams`] as fast as it goes. Answers how many arrived per second.
    SendDatagrams {
        /// The server.
        to: SocketAddr,
        /// How long.
        seconds: u32,
    },
    /// Have a [`Service::Datagrams`] send as fast as it can. Answers how many arrived per second.
    FetchDatagrams {
        /// The server.
        to: SocketAddr,
        /// How long.
        seconds: u32,
    },
    /// Open so many more connections to a [`Service::Keep`] and keep them. Answers how many there are.
    Hold {
        /// The server.
        to: SocketAddr,
        /// How many more.
        count: u32,
    },
}

/// Connections a node opens at once when it counts them.
pub const CONNECTING: usize = 4;
/// Bytes of a request, and of its answer.
pub const REQUEST_BYTES: usize = 128;
/// Bytes of a datagram's payload.
pub const DATAGRAM_BYTES: usize = 64;
