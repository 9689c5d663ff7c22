//! What a device counts, for the `stats` command of the control socket.

/// Counters of one device. They only grow while the device lives, but for the present sizes of a balloon, and are read without
/// stopping it.
pub trait Counters: Send + Sync {
    /// Every counter with its name, in a fixed order. Names are in snake case; sizes are in bytes and say so.
    fn snapshot(&self) -> Vec<(&'static str, u64)>;
}
