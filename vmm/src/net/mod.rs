//! The gateway the guest's network card ends in: everything between its frames and sockets of the host, without privileges.
//!
//! - [`gateway`] sorts frames and answers for the gateway's own addresses; [`network`] has the addresses and says where a packet may go,
//!   [`routes`] chooses addresses the host has no other way to.
//! - [`tcp`] splices connections, [`streams`] says where they go, [`flows`] carries datagrams and pings, [`dns`] resolves names.
//! - [`publications`] carries what clients of published ports send into the guest.
//! - [`wire`] reads and writes headers, [`fragments`] puts packets together; [`sockets`] is the epoll instance behind it all.
//!
//! One thread, the network device's, does everything: it takes the guest's frames, is woken by the epoll instance, and gives frames to the
//! guest while that has room. What the guest has no room for stays in the host's sockets. Time is passed in.

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
