//! The block device before mock drivers.

mod requests;
mod ring;
