//! The gateway the guest's network card ends in.

pub mod tcp;
