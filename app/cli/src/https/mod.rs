//! `rorqual https`: the local authority in the trust stores of the system ([`system`]) and of browsers ([`browsers`]).
//!
//! Nothing here asks for rights: what needs them is printed as the one command that does it.

mod browsers;
mod certificate;
mod command;
mod outcome;
mod system;

pub(crate) use command::run;
