//! The userland proxy dockerd starts for each published port.
fn main() {}
