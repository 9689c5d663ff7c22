//! Machines: their state, their start and stop by step, what they use, their logs.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Bytes, Failure, Milliseconds};

/// What a machine does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum MachineState {
    /// It does not run.
    Stopped,
    /// It starts.
    Starting,
    /// It runs and its Docker Engine answers.
    Running,
    /// It runs and its Docker Engine does not answer.
    Degraded,
    /// It stops.
    Stopping,
    /// It ended without being asked to, or could not start.
    Failed,
    /// It is being saved.
    Suspending,
    /// It is saved: the next start goes on where it was.
    Suspended,
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// What it does now.
    pub state: MachineState,
    /// More about the state, such as why it failed; often empty.
    pub message: String,
    /// What to do about that.
    pub fix: Option<String>,
    /// `kvm` or `uml`; empty while stopped.
    pub accelerator: String,
    /// Why that one.
    pub accelerator_reason: String,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Its memory.
    pub memory: Bytes,
    /// The size of its disk as the guest sees it.
    pub disk: Bytes,
    /// What the disk takes on this computer.
    pub disk_allocated: Bytes,
    /// From the request to start until the engine answered; absent while it has not.
    pub ready_after: Option<Milliseconds>,
    /// Since the machine started.
    pub uptime: Milliseconds,
    /// The socket docker clients connect to.
    pub docker_socket: String,
    /// Version of the guest image.
    pub image_version: String,
    /// Release of the guest's kernel.
    pub kernel_release: String,
    /// Published ports.
    pub ports: Vec<PublishedPort>,
}

/// A port of a container that listens on this computer, or should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct PublishedPort {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The address it listens on.
    pub host_address: String,
    /// The port it listens on.
    pub host_port: u16,
    /// Address of the container.
    pub container_address: String,
    /// Port of the container.
    pub container_port: u16,
    /// Why it does not listen; empty when it does.
    pub error: String,
    /// What to do about that.
    pub fix: Option<String>,
}

/// The stream `machines`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum MachinesEvent {
    /// The daemon answers; all machines as they are now, after each change.
    Machines {
        /// Every machine.
        machines: Vec<Machine>,
    },
    /// The daemon does not answer, or its version does not fit (code `version-mismatch`). The stream goes on and tells
    /// when it does again.
    Unreachable {
        /// Why.
        failure: Failure,
    },
}

/// Names a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct MachineTarget {
    /// Its name; `default` is always there.
    pub machine: String,
}

/// Starts a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct MachineStart {
    /// Its name.
    pub machine: String,
    /// Give a saved state up and boot.
    pub cold: bool,
}

/// Stops a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct MachineStop {
    /// Its name.
    pub machine: String,
    /// At once, as if its power was cut.
    pub force: bool,
}

/// A step of something long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Stable name: `image`, `disk`, `machine`, `kernel`, `engine`, …
    pub step: String,
    /// What is being done, for a person.
    pub message: String,
    /// How long it took; only when it is over.
    pub took: Option<Milliseconds>,
}

/// What a machine uses now; about once a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct MachineSample {
    /// Of all its processors together: 100 is one processor busy.
    pub cpu_percent: f64,
    /// Used by programs in the guest.
    pub memory_used: Bytes,
    /// Page cache of the guest.
    pub memory_cached: Bytes,
    /// All of the guest's memory.
    pub memory_total: Bytes,
    /// What the machine takes of this computer's memory.
    pub memory_resident: Bytes,
    /// Disk: used in the guest's file system.
    pub disk_used: Bytes,
    /// What the disk takes on this computer.
    pub disk_allocated: Bytes,
    /// Largest the disk can become.
    pub disk_total: Bytes,
}

/// A machine's log, as bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct MachineLog {
    /// Its name.
    pub machine: String,
    /// `kernel` (the console), `agent`, `containerd`, `dockerd`, `vmm` or `daemon`.
    pub source: String,
    /// Lines from the end.
    pub tail: u32,
}

/// A shell in a machine, as bytes both ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct MachineShell {
    /// Its name.
    pub machine: String,
    /// Size of the terminal.
    pub size: TerminalSize,
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct TerminalSize {
    /// Columns, at least 1.
    pub columns: u16,
    /// Rows, at least 1.
    pub rows: u16,
}

/// What the page tells a terminal besides what is typed, which goes as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum TerminalInput {
    /// The terminal has another size.
    Resize {
        /// The new size.
        size: TerminalSize,
    },
}

/// What a terminal tells besides its output, which comes as bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum TerminalEvent {
    /// It runs; this is the command that was found.
    Started {
        /// Such as `/bin/sh`.
        command: Vec<String>,
    },
    /// The command ended; the stream ends after this.
    Exited {
        /// Exit status.
        status: i32,
    },
}
