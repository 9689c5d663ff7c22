//! The network behind the guest's card: a gateway between its frames and sockets of the host, without privileges.
//!
//! - [`gateway`] is the backend of the network device: it sorts frames and answers for the gateway's own addresses.
//!   [`network`] holds the addresses and decides where a packet may go; [`routes`] chooses addresses that the host does
//!   not route elsewhere; [`record`] is what a snapshot keeps of them.
//! - [`tcp`] splices connections, [`streams`] decides where they go, [`flows`] carries datagrams and pings, [`dns`]
//!   resolves names.
//! - [`publications`] carries what clients of published ports send to the guest.
//! - [`wire`] reads and writes headers, [`fragments`] reassembles packets, and [`sockets`] is the epoll instance behind
//!   all. [`steering`] chooses the pair of queues of each flow; [`turns`] and [`deadlines`] order sockets and their
//!   expiry.
//!
//! One thread, the network device's, does everything: it takes the guest's frames, wakes up for the epoll instance, and
//! gives frames to the guest while the guest has room. What the guest has no room for stays in the host's sockets. Time
//! is passed in.

mod deadlines;
mod dns;
mod flows;
mod fragments;
pub(crate) mod fuzzing;
pub mod gateway;
pub mod network;
pub mod publications;
pub mod record;
pub mod routes;
mod sockets;
mod stats;
mod steering;
mod streams;
pub mod tcp;
mod turns;
pub(crate) mod wire;

pub use self::stats::GatewayStatistics;
