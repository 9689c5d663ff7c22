//! The machine monitor of Rorqual: one process per machine.
fn main() {}
