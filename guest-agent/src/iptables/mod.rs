//! iptables for dockerd without a process for each command.
//!
//! `rorqual-iptables`, which dockerd finds as `iptables`, sends its arguments to the [`server`]. A check, a listing or
//! the deletion of a missing rule is answered from the [`tables`] kept here. Changes go as a line to an
//! `iptables-restore` that stays running ([`restore`]), so the kernel's rules are always the real program's work.
//! Anything but the few forms dockerd uses is left to the real program altogether.
//!
//! The agent adds one rule per family of its own ([`host`]).
//!
//! The tables kept here start empty, as the kernel's do, and follow every command of dockerd. They miss a rule that
//! another program adds: dockerd then adds it again, which does no harm.

mod client;
mod command;
mod dnat;
mod host;
mod ingress;
mod published;
mod restore;
mod server;
mod tables;

pub(crate) use server::serve;
