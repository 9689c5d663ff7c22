//! The resolver on the gateway's address: it answers local names itself, and the host's resolvers answer all others.
//!
//! A query is passed on as it came, and so is its answer, so that whatever the guest and the host's resolver agree on
//! (EDNS, DNSSEC) works. Each query has a socket of its own, with a port chosen by the system, connected to the
//! resolver it went to ([`upstream`]). For a guest that asks by TCP, answers that do not fit a datagram are fetched by
//! TCP.
//!
//! [`message`] reads and writes messages, [`names`] knows the local names, [`resolvers`] those of the host, and
//! [`resolver`] puts them together.

pub(crate) mod message;
mod names;
mod resolver;
mod resolvers;
#[cfg(test)]
mod tests;
mod upstream;

pub(crate) use self::resolver::{Client, Resolver, answers, local_answer};
pub use self::resolvers::search_domains;

/// Port of the service.
pub(crate) const PORT: u16 = 53;
