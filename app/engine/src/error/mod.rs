//! Errors as they reach a user, in three separate parts: a stable code for programs, what failed on what and why, and
//! advice.
//!
//! Every error type of the engine is [`Coded`]. Where it leaves the engine it becomes a [`Failure`]: a gRPC status
//! between daemon and client ([`to_status`]), a line of JSON from a process that starts ([`crate::detached`]), a value
//! of the window's contract. [`form`] checks the form all of them have; the tests of each crate walk their errors
//! through it.

mod failure;
pub mod form;
mod status;
#[cfg(test)]
pub(crate) mod tests;

pub use failure::{Coded, Failure, one_line, root_cause};
pub use status::{code_of, failure_of, to_status};
