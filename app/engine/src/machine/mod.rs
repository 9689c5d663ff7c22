//! Machines. Each is one task ([`actor`]) that owns its state; a [`Machine`] is the way to it.
//!
//! A start goes through settings, image, disk, accelerator and monitor ([`launch`]). Then the guest calls, and the task
//! keeps its connection to the agent ([`guest`]) until the engine answers. A stop is requested from the agent, then
//! from the monitor ([`stop`]). A suspension is requested from both ([`suspend`]), and the next start resumes the saved
//! state. The monitor is a process of its own ([`crate::monitor`]) that outlives the daemon.

pub(crate) mod accelerator;
mod actor;
mod clock;
mod environment;
pub(crate) mod guest;
mod handle;
mod launch;
mod phase;
mod progress;
mod refusal;
mod saved_state;
mod stop;
mod suspend;
#[cfg(test)]
mod tests;

pub use accelerator::AcceleratorError;
pub(crate) use actor::open;
pub use handle::Machine;
pub(crate) use launch::StartChoice;
pub use launch::StartError;
pub(crate) use refusal::{DaemonEnding, NotRunning};
#[cfg(test)]
pub(crate) use suspend::SuspendError;

pub use crate::monitor::VmmError;
