//! How a guest of KVM ends: what its board, its processors and the machine report to the thread that ends it.

/// How a guest ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// By its power switch.
    PowerOff,
    /// By its reset switch.
    Reset,
    /// By the machine.
    Killed,
    /// A processor cannot continue, for this reason.
    Failed(String),
}
