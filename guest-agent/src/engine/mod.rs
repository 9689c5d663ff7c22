//! The Docker Engine: containerd and dockerd side by side, each with a [`supervisor`] task of its own.
//!
//! [`start()`] starts both. What happens to them changes the shared [`state`], of which the host sees a summary
//! ([`condition`]).

mod condition;
mod environment;
mod hello;
mod settings;
mod start;
mod state;
mod supervisor;

pub(crate) use condition::Service;
pub(crate) use start::start;
pub(crate) use state::Engine;
