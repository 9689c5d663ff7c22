//! The monitor of a machine, `rorqual-vmm`, as the daemon sees it: a process that outlives the daemon, and its control
//! socket (docs/contracts.md, "rorqual-vmm"). The types on the wire are those of `rorqual-vmm-protocol`.
//!
//! [`document`] makes the document a monitor starts from, [`process`] starts one, [`Vmm`] drives and watches a running
//! one, [`force`] ends one that does not answer, and [`Gateway`] passes it the sockets of published ports. All of them
//! use [`control`], the only client of the control socket.

mod control;
mod document;
mod error;
mod force;
mod gateway;
mod log;
mod process;
mod vmm;

pub(crate) use control::ControlError;
pub(crate) use document::document;
pub(crate) use error::Reason;
pub use error::VmmError;
pub(crate) use force::kill_silent;
pub(crate) use gateway::Gateway;
pub(crate) use log::last_words;
pub(crate) use process::{find_program, launch};
pub(crate) use vmm::{Ended, Vmm};
