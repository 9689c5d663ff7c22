//! What the daemon and the machine monitor agree on: types only, each serialized and deserialized by both sides.
//!
//! The daemon writes a [`Config`] to `vmm.json` and starts the monitor with it. The monitor answers with one
//! [`Readiness`] line. Afterwards the daemon sends a [`Request`] per line over the control socket and receives an
//! [`Answer`] per line; a connection that asked to [`watch`](Request::Watch) receives the [`Event`] of the machine's
//! end. Before any of this, `rorqual-vmm probe` prints its [`Findings`]. docs/contracts.md, "rorqual-vmm", has the
//! same contract with examples.
//!
//! A monitor outlives the daemon that started it, so a daemon may talk to a monitor of an older or newer version.
//! Requests and the configuration refuse unknown keys: the monitor must not ignore part of an order. Everything the
//! monitor writes may gain keys, so answers ignore those they do not know.

mod config;
mod control;
mod failure;
mod probe;
mod readiness;
mod snapshot;

pub use self::config::{Accelerator, Block, Config, Confinement, Kernel, Net, VERSION, Vsock};
pub use self::control::{
    Answer, BalloonResized, ConfinementStatus, Counts, DeviceStats, DiskResized, Empty, EndReason, Event,
    MAX_REQUEST_BYTES, MachineState, Request, SaveProgress, State, Stats,
};
pub use self::failure::{Failure, FailureCode};
pub use self::probe::{Finding, Findings};
pub use self::readiness::Readiness;
pub use self::snapshot::SNAPSHOT_DOCUMENT;
