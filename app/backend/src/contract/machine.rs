//! Machines: state, start and stop by step, resource use, logs, and shells.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Bytes, Failure, Milliseconds};

/// State of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum MachineState {
    /// Stopped.
    Stopped,
    /// Starting.
    Starting,
    /// Running, and its Docker Engine answers.
    Running,
    /// Running, but its Docker Engine does not answer.
    Degraded,
    /// Stopping.
    Stopping,
    /// Failed: it ended unexpectedly, or could not start.
    Failed,
    /// Its state is being saved.
    Suspending,
    /// Suspended: the next start resumes it.
    Suspended,
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// State.
    pub state: MachineState,
    /// Details of the state, such as why it failed; often empty.
    pub message: String,
    /// Advice about the details, as an instruction; empty when none is needed.
    pub fix: Option<String>,
    /// Accelerator: `kvm` or `uml`; empty while stopped.
    pub accelerator: String,
    /// Why this accelerator was chosen.
    pub accelerator_reason: String,
    /// Number of virtual CPUs.
    pub cpus: u32,
    /// Memory of the guest.
    pub memory: Bytes,
    /// Size of its disk as the guest sees it.
    pub disk: Bytes,
    /// Space the disk takes on this computer.
    pub disk_allocated: Bytes,
    /// Duration of the start, from the request until the engine answered; absent before that.
    pub ready_after: Option<Milliseconds>,
    /// Time since the machine started.
    pub uptime: Milliseconds,
    /// Path of the socket Docker clients connect to.
    pub docker_socket: String,
    /// Version of the guest image.
    pub image_version: String,
    /// Release of the guest's kernel.
    pub kernel_release: String,
    /// Published ports.
    pub ports: Vec<PublishedPort>,
}

/// A published port of a container, whether this computer listens on it or failed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct PublishedPort {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Address on this computer.
    pub host_address: String,
    /// Port on this computer.
    pub host_port: u16,
    /// Address of the container.
    pub container_address: String,
    /// Port of the container.
    pub container_port: u16,
    /// Why this computer does not listen on it; empty when it does.
    pub error: String,
    /// Advice about the problem, as an instruction; empty when none is needed.
    pub fix: Option<String>,
}

/// An event of the stream `machines`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum MachinesEvent {
    /// The daemon answers. Sent first, and after each change.
    Machines {
        /// All machines.
        machines: Vec<Machine>,
    },
    /// The daemon does not answer, or its version does not match (code `version-mismatch`). The stream stays open and
    /// sends `machines` when the daemon answers again.
    Unreachable {
        /// Why.
        failure: Failure,
    },
}

/// Identifies a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct MachineTarget {
    /// Its name; `default` always exists.
    pub machine: String,
}

/// Starts a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct MachineStart {
    /// Its name.
    pub machine: String,
    /// Discards a saved state and boots.
    pub cold: bool,
}

/// Stops a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct MachineStop {
    /// Its name.
    pub machine: String,
    /// Cuts the power instead of shutting the guest down.
    pub force: bool,
}

/// A step of a long operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Stable name: `image`, `disk`, `machine`, `kernel`, `engine`, …
    pub step: String,
    /// What is being done, for a person.
    pub message: String,
    /// Duration; present once the step is complete.
    pub took: Option<Milliseconds>,
}

/// Resource use of a machine; about one event a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct MachineSample {
    /// Percentage of one processor, summed over all virtual CPUs: 100 means one is busy.
    pub cpu_percent: f64,
    /// Guest memory used by programs.
    pub memory_used: Bytes,
    /// Guest memory used as page cache.
    pub memory_cached: Bytes,
    /// Total memory of the guest.
    pub memory_total: Bytes,
    /// Memory the machine takes on this computer.
    pub memory_resident: Bytes,
    /// Space used in the guest's file system.
    pub disk_used: Bytes,
    /// Space the disk takes on this computer.
    pub disk_allocated: Bytes,
    /// Maximum size of the disk.
    pub disk_total: Bytes,
}

/// A machine's log, sent as bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct MachineLog {
    /// Its name.
    pub machine: String,
    /// `kernel` (the console), `agent`, `containerd`, `dockerd`, `vmm` or `daemon`.
    pub source: String,
    /// Number of existing lines to send first, counted from the end.
    pub tail: u32,
}

/// A shell in a machine, with bytes both ways.
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

/// Input of a terminal. Keystrokes are sent as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum TerminalInput {
    /// The terminal was resized.
    Resize {
        /// The new size.
        size: TerminalSize,
    },
}

/// An event of a terminal. Output is sent as bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum TerminalEvent {
    /// The command runs.
    Started {
        /// The command that was found, such as `/bin/sh`.
        command: Vec<String>,
    },
    /// The command exited; the stream ends after this.
    Exited {
        /// Exit status.
        status: i32,
    },
}
