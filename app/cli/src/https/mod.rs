//! `rorqual https`: manages the local authority in the trust stores of the system ([`system`]) and of browsers
//! ([`browsers`]).
//!
//! Never requests elevated rights: a step that needs them is printed as a command for the user to run.

mod browsers;
mod certificate;
mod command;
mod outcome;
mod system;

pub(crate) use command::run;
