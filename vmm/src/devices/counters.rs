//! Counters of devices, for the `stats` command of the control socket.

/// Counters of one device, readable while it runs. They only grow as long as the device lives, except for levels, such
/// as the sizes of a balloon.
pub trait Counters: Send + Sync {
    /// Every counter with its name, in a fixed order. Names are in snake case; the name of a size ends in `bytes`.
    fn snapshot(&self) -> Vec<(&'static str, u64)>;
}
