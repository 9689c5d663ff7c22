//! Containers: the list, details, logs, terminals, samples, and `docker run`.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Bytes, Document, NameValue, PullProgress, TerminalSize, Timestamp};

/// State of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum ContainerState {
    /// Never started.
    Created,
    /// Running.
    Running,
    /// Paused.
    Paused,
    /// Restarting.
    Restarting,
    /// Exited.
    Exited,
    /// Being removed.
    Removing,
    /// Dead: the engine could not remove it completely.
    Dead,
}

/// Result of a health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum Health {
    /// No result yet.
    Starting,
    /// Healthy.
    Healthy,
    /// Unhealthy.
    Unhealthy,
}

/// A container as lists show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Full identifier.
    pub id: String,
    /// Name without the leading slash.
    pub name: String,
    /// Image, as given at creation.
    pub image: String,
    /// Identifier of the image.
    pub image_id: String,
    /// Command line, as `docker ps` prints it.
    pub command: String,
    /// Creation time.
    pub created: Timestamp,
    /// Time of the last start; absent if it never started.
    pub started: Option<Timestamp>,
    /// Time of the last exit; absent while it runs, and if it never started.
    pub finished: Option<Timestamp>,
    /// State.
    pub state: ContainerState,
    /// Exit status of its last run; absent before the first exit.
    pub exit_status: Option<i32>,
    /// Health; absent without a health check.
    pub health: Option<Health>,
    /// Ports, published or not.
    pub ports: Vec<ContainerPort>,
    /// Names of its networks.
    pub networks: Vec<String>,
    /// Names of the volumes it mounts.
    pub volumes: Vec<String>,
    /// Its place in a Compose project, if any.
    pub compose: Option<ComposeMember>,
    /// Labels.
    pub labels: Vec<NameValue>,
}

/// A container's place in a Compose project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ComposeMember {
    /// The project.
    pub project: String,
    /// The service.
    pub service: String,
    /// Folder of the project on this computer, if Compose recorded it.
    pub folder: Option<String>,
}

/// A port of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPort {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Port in the container.
    pub container_port: u16,
    /// Port on this computer, when published.
    pub host_port: Option<u16>,
    /// Address on this computer, when published.
    pub host_address: Option<String>,
}

/// Identifies a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerTarget {
    /// Identifier or name.
    pub id: String,
}

/// Removes a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRemove {
    /// Identifier or name.
    pub id: String,
    /// Kills it first if it runs.
    pub force: bool,
    /// Removes its anonymous volumes too.
    pub volumes: bool,
}

/// Renames a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRename {
    /// Identifier or name.
    pub id: String,
    /// The new name.
    pub name: String,
}

/// Creates an image from a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerCommit {
    /// Identifier or name.
    pub id: String,
    /// `repository:tag` of the image.
    pub reference: String,
    /// Message for the image's history.
    pub message: String,
}

/// The result of a creation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    /// Identifier of what was created.
    pub id: String,
    /// Warnings of the engine.
    pub warnings: Vec<String>,
}

/// Details of one container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerDetail {
    /// The container as in the list.
    pub container: Container,
    /// Entry point and arguments.
    pub command: Vec<String>,
    /// Working directory.
    pub working_directory: String,
    /// User it runs as; empty means root.
    pub user: String,
    /// Restart policy as docker writes it: `no`, `always`, `unless-stopped`, `on-failure:3`.
    pub restart_policy: String,
    /// Environment, in order.
    pub environment: Vec<NameValue>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Its addresses, by network.
    pub endpoints: Vec<ContainerEndpoint>,
    /// A `docker run` command that creates an equal container.
    pub run_command: String,
    /// The engine's own document (`docker inspect`).
    pub document: Document,
}

/// A mount of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// `volume`, `bind`, `tmpfs`, …
    pub kind: String,
    /// Name of the volume, or folder on this computer.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// The container may write to it.
    pub writable: bool,
}

/// A container's place in a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerEndpoint {
    /// Name of the network.
    pub network: String,
    /// IPv4 address; empty while it does not run.
    pub address: String,
    /// IPv6 address, if any.
    pub address6: Option<String>,
    /// Its aliases there.
    pub aliases: Vec<String>,
}

/// Processes of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Processes {
    /// Column titles, such as `PID`.
    pub titles: Vec<String>,
    /// One row a process.
    pub rows: Vec<Vec<String>>,
}

/// Containers to sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct SampleTargets {
    /// Identifiers; absent means all running containers, including those that start later.
    pub ids: Option<Vec<String>>,
}

/// Resource use of containers; about one event a second for all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSamples {
    /// Time of the sample.
    pub at: Timestamp,
    /// One entry a container.
    pub samples: Vec<ContainerSample>,
}

/// Resource use of one container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSample {
    /// Identifier.
    pub id: String,
    /// Percentage of one processor: 100 means one processor is busy.
    pub cpu_percent: f64,
    /// Memory without page cache.
    pub memory: Bytes,
    /// Memory limit; the machine's memory if the container has none.
    pub memory_limit: Bytes,
    /// Bytes received from the network since it started.
    pub network_received: Bytes,
    /// Bytes sent to the network since it started.
    pub network_sent: Bytes,
    /// Bytes read from disk since it started.
    pub disk_read: Bytes,
    /// Bytes written to disk since it started.
    pub disk_written: Bytes,
    /// Number of processes and threads.
    pub processes: u32,
}

/// Follows a container's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerLogs {
    /// Identifier or name.
    pub id: String,
    /// Number of existing lines to send first, counted from the end.
    pub tail: u32,
    /// Keeps sending new lines; otherwise the stream ends after the last existing line.
    pub follow: bool,
    /// Sends only lines after this moment, for resuming after a pause.
    pub since: Option<Timestamp>,
}

/// Lines of a log, batched when they arrive fast.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct LogLines {
    /// The lines, in order.
    pub lines: Vec<LogLine>,
    /// Number of lines dropped before these because the page read too slowly.
    pub skipped: u32,
}

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// Time of writing; absent when the log driver does not record it.
    pub at: Option<Timestamp>,
    /// Whether it was written to standard error.
    pub error: bool,
    /// Text without the line end, with escape sequences. Invalid UTF-8 is replaced. Longer lines arrive in pieces of at
    /// most 16 KiB.
    pub text: String,
}

/// A terminal in a running container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerTerminal {
    /// Identifier or name.
    pub id: String,
    /// Command to run; absent means the best shell the container has.
    pub command: Option<Vec<String>>,
    /// User to run as; absent means the container's user.
    pub user: Option<String>,
    /// Size of the terminal.
    pub size: TerminalSize,
}

/// A new container, with the options of `docker run -d`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRun {
    /// Image; pulled first if it is missing.
    pub image: String,
    /// Name; absent means Docker generates one.
    pub name: Option<String>,
    /// Published ports in the form of `-p`: `8080:80`, `127.0.0.1:53:53/udp`.
    pub ports: Vec<String>,
    /// Mounts in the form of `-v`: `data:/var/lib/data`, `/src:/src:ro`.
    pub volumes: Vec<String>,
    /// Environment.
    pub environment: Vec<NameValue>,
    /// Command and arguments; empty means the image's own.
    pub command: Vec<String>,
    /// Restart policy as docker writes it; absent means `no`.
    pub restart: Option<String>,
    /// Network; absent means the default one.
    pub network: Option<String>,
    /// Removes the container when it exits.
    pub remove: bool,
    /// Allocates a terminal and keeps the input open (`-it`).
    pub interactive: bool,
    /// Platform, such as `linux/amd64`; absent means the machine's own.
    pub platform: Option<String>,
}

/// Progress of running a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ContainerRunEvent {
    /// The image is being pulled.
    Pulling {
        /// Progress of the pull.
        progress: PullProgress,
    },
    /// The container was created.
    Created {
        /// Identifier and warnings.
        created: Created,
    },
    /// The container runs.
    Started {
        /// Identifier.
        id: String,
    },
}
