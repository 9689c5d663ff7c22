//! The part of a snapshot's layout that the daemon knows.

/// The file whose presence makes a snapshot's directory a whole snapshot.
pub const SNAPSHOT_DOCUMENT: &str = "state.json";
