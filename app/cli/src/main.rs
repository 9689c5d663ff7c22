//! The command line of Rorqual.
fn main() {}
