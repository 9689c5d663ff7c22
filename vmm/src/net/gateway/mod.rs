//! The gateway: the backend of the network device.
//!
//! - [`frames`] sorts the frames of the guest, and answers those for the gateway's own addresses.
//! - [`tcp`] carries connections, [`datagrams`] UDP and pings, [`names`] queries to the resolver; [`published`] begins
//!   what the host's clients of published ports asked for.
//! - [`replies`] holds the frames made here ([`frame`]) until the guest has room; [`quotes`] rebuilds the packets that
//!   errors quote.
//! - [`backend`] is the gateway itself: what it owns, and the order in which frames go to the guest.

mod backend;
mod datagrams;
mod frame;
mod frames;
mod names;
mod published;
mod quotes;
mod replies;
mod tcp;
#[cfg(test)]
mod tests;

pub use self::backend::Gateway;
pub use super::dns::search_domains;
