//! The accelerator `kvm`. [`probe`] finds out whether it works on this host, by a [`trial`]. [`guest`] runs a guest
//! that [`prepare`] or [`restore`] made: a thread per processor ([`processors`]), a [`board`] of ports and device
//! registers, until an [`outcome`] ends it. [`save`] pauses it and writes it to a snapshot.

mod board;
mod guest;
mod keyboard;
mod outcome;
mod platform;
mod prepare;
pub(super) mod probe;
mod processors;
mod restore;
mod save;
mod trial;

pub(super) use self::platform::KvmPlatform;
