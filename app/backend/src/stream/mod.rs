//! Streams of the contract: open ones ([`open`]), and their carriage over a transport ([`carriage`]).

mod carriage;
mod open;

pub use carriage::{Frame, Receiver, Streams};
pub(crate) use open::{Channel, parse};
pub use open::{Input, OpenStream, Output};
