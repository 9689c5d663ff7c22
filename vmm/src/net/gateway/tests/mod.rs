//! The gateway alone: frames in, frames out, servers and clients on the loopback address, time as the test sets it.

mod bench;
mod datagrams;
mod floods;
mod frames;
mod names;
mod published;
mod tcp;
