//! Published ports: connections and datagrams of the host's clients, on their way into the guest.
//!
//! The host's daemon listens. It hands accepted connections and bound UDP sockets to the control socket, whose threads
//! queue them for the gateway's thread ([`requests`]). There [`datagrams`] carries UDP, with one of the [`sessions`]
//! for each client, and [`connections`] records which TCP flows belong to which port. The guest sees each client under
//! its own address where possible ([`names`]).
//!
//! The guest routes to the published address, which need not be its own. So besides packets from its own addresses, the
//! gateway takes exactly those from the guest that answer a client.

pub(super) mod connections;
pub(super) mod datagrams;
pub(super) mod names;
mod packet_info;
pub(super) mod requests;
pub(super) mod sessions;

pub use self::requests::{PublishError, Publisher, Publishers};
