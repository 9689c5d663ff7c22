//! Published ports: the daemon listens on this computer for what the containers of a machine publish, and carries what
//! arrives into the guest.
//!
//! One task per machine owns its [`table`] of ports. It holds a call of `Agent.Ports` ([`session`]): the guest names
//! the ports that should be open, a [`listener`] opens each, and the verdict returns to the guest and becomes docker's
//! answer. A lost call is repeated; ports stay open during that.
//!
//! What arrives goes to the gateway of the machine's network ([`crate::monitor`]), so that containers see the addresses
//! of their clients. Connections from this computer itself go over vsock ([`forward`]), which is faster.

mod bind;
mod error;
mod forward;
mod holders;
mod listener;
mod owner;
mod session;
mod table;
mod transport;

pub(crate) use bind::{Outcome, listen_tcp, open_tcp};
pub(crate) use error::PortError;
pub(crate) use holders::Holders;
pub(crate) use session::session;
pub(crate) use table::Table;
pub use table::View;
pub(crate) use transport::Transport;
