//! One machine while it lives: what it consists of ([`devices`], its network [`card`]), what it is doing ([`course`]),
//! the [`commands`] that the control socket and the signals give it, and how it [`end`]ed.

pub(crate) mod card;
mod commands;
mod course;
pub(crate) mod devices;
pub(crate) mod end;

pub(crate) use self::commands::Machine;
