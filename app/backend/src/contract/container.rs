//! Containers: the list, what one is in detail, its logs, terminals, samples, and running a new one.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Bytes, Document, NameValue, PullProgress, TerminalSize, Timestamp};

/// What a container does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum ContainerState {
    /// Never started.
    Created,
    /// Runs.
    Running,
    /// Frozen.
    Paused,
    /// Being started again.
    Restarting,
    /// Ended.
    Exited,
    /// Being removed.
    Removing,
    /// Could not be cleaned up.
    Dead,
}

/// What its health check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum Health {
    /// Not known yet.
    Starting,
    /// Works.
    Healthy,
    /// Does not.
    Unhealthy,
}

/// A container as lists show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Full identifier.
    pub id: String,
    /// Name without the slash.
    pub name: String,
    /// Image as it was given.
    pub image: String,
    /// Identifier of the image.
    pub image_id: String,
    /// Command line as docker shows it.
    pub command: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it last started; absent if never.
    pub started: Option<Timestamp>,
    /// When it last ended; absent while it runs or if never.
    pub finished: Option<Timestamp>,
    /// What it does now.
    pub state: ContainerState,
    /// Exit status of its last run, once there was one.
    pub exit_status: Option<i32>,
    /// Health, when it has a check.
    pub health: Option<Health>,
    /// Ports, published or not.
    pub ports: Vec<ContainerPort>,
    /// Names of its networks.
    pub networks: Vec<String>,
    /// Names of the volumes it has mounted.
    pub volumes: Vec<String>,
    /// Compose's, when it belongs to a project.
    pub compose: Option<ComposeMember>,
    /// Labels.
    pub labels: Vec<NameValue>,
}

/// Where a container stands in a compose project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ComposeMember {
    /// The project.
    pub project: String,
    /// The service.
    pub service: String,
    /// Folder of the project on this computer, if compose said so.
    pub folder: Option<String>,
}

/// A port of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPort {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// In the container.
    pub container_port: u16,
    /// On this computer, when published.
    pub host_port: Option<u16>,
    /// The address on this computer, when published.
    pub host_address: Option<String>,
}

/// Names a container.
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
    /// Kill it first if it runs.
    pub force: bool,
    /// Its anonymous volumes too.
    pub volumes: bool,
}

/// Gives a container another name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRename {
    /// Identifier or name.
    pub id: String,
    /// The new one.
    pub name: String,
}

/// Makes an image of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerCommit {
    /// Identifier or name.
    pub id: String,
    /// `repository:tag` of the image.
    pub reference: String,
    /// Message kept in the image's history.
    pub message: String,
}

/// Identifies something that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    /// Identifier.
    pub id: String,
    /// What the engine warned of.
    pub warnings: Vec<String>,
}

/// All about one container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerDetail {
    /// As in the list.
    pub container: Container,
    /// Entry point and arguments.
    pub command: Vec<String>,
    /// Directory it starts in.
    pub working_directory: String,
    /// User it runs as; empty is root.
    pub user: String,
    /// Restart policy as docker writes it: `no`, `always`, `unless-stopped`, `on-failure:3`.
    pub restart_policy: String,
    /// Environment, in order.
    pub environment: Vec<NameValue>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Its addresses by network.
    pub endpoints: Vec<ContainerEndpoint>,
    /// The `docker run` that makes an equal one.
    pub run_command: String,
    /// The engine's own words.
    pub document: Document,
}

/// Something mounted in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// `volume`, `bind`, `tmpfs`, …
    pub kind: String,
    /// Volume's name or folder.
    pub source: String,
    /// Where in the container.
    pub target: String,
    /// It may be written to.
    pub writable: bool,
}

/// A container's place in a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerEndpoint {
    /// Name of the network.
    pub network: String,
    /// Its address; empty while it does not run.
    pub address: String,
    /// Its IPv6 address, if any.
    pub address6: Option<String>,
    /// Other names it has there.
    pub aliases: Vec<String>,
}

/// Which processes run in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Processes {
    /// Column titles, such as `PID`.
    pub titles: Vec<String>,
    /// A row for each process.
    pub rows: Vec<Vec<String>>,
}

/// Which containers are to be sampled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct SampleTargets {
    /// Identifiers; absent means all that run, as they come and go.
    pub ids: Option<Vec<String>>,
}

/// What containers use now; about once a second, one event for all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSamples {
    /// When.
    pub at: Timestamp,
    /// One for each container.
    pub samples: Vec<ContainerSample>,
}

/// What one container uses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSample {
    /// Identifier.
    pub id: String,
    /// 100 is one processor busy.
    pub cpu_percent: f64,
    /// Without page cache.
    pub memory: Bytes,
    /// What it may use at most; the machine's memory if it has no limit.
    pub memory_limit: Bytes,
    /// Since it started: bytes in from the network.
    pub network_received: Bytes,
    /// Since it started: bytes out to the network.
    pub network_sent: Bytes,
    /// Since it started: bytes from disk.
    pub disk_read: Bytes,
    /// Since it started: bytes to disk.
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
    /// Lines from the end to begin with.
    pub tail: u32,
    /// Go on with what comes; else the stream ends after the last line.
    pub follow: bool,
    /// Only lines after this moment (to go on after a pause).
    pub since: Option<Timestamp>,
}

/// Lines of a log, many at once when they come fast.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct LogLines {
    /// In order.
    pub lines: Vec<LogLine>,
    /// Lines left out before these because the page could not follow.
    pub skipped: u32,
}

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// When it was written; absent when the log driver does not say.
    pub at: Option<Timestamp>,
    /// It came from standard error.
    pub error: bool,
    /// Text without the line end, escape sequences kept; not UTF-8 is replaced; at most 16 KiB a piece.
    pub text: String,
}

/// A terminal in a running container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerTerminal {
    /// Identifier or name.
    pub id: String,
    /// What to run; absent means the best shell that is there.
    pub command: Option<Vec<String>>,
    /// As whom; absent means the container's user.
    pub user: Option<String>,
    /// Size of the terminal.
    pub size: TerminalSize,
}

/// A new container, as `docker run -d` takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRun {
    /// Image; pulled first when it is not there.
    pub image: String,
    /// Name; absent means one that docker makes up.
    pub name: Option<String>,
    /// As `-p` takes them: `8080:80`, `127.0.0.1:53:53/udp`.
    pub ports: Vec<String>,
    /// As `-v` takes them: `data:/var/lib/data`, `/src:/src:ro`.
    pub volumes: Vec<String>,
    /// Environment.
    pub environment: Vec<NameValue>,
    /// Command and arguments; empty means the image's.
    pub command: Vec<String>,
    /// Restart policy as docker writes it; absent is `no`.
    pub restart: Option<String>,
    /// Network; absent is the default one.
    pub network: Option<String>,
    /// Remove it when it ends.
    pub remove: bool,
    /// Give it a terminal and keep its input open (`-it`).
    pub interactive: bool,
    /// Platform, such as `linux/amd64`; absent is the machine's own.
    pub platform: Option<String>,
}

/// Progress of running a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ContainerRunEvent {
    /// Its image is being pulled.
    Pulling {
        /// How far.
        progress: PullProgress,
    },
    /// It was made.
    Created {
        /// Identifier and warnings.
        created: Created,
    },
    /// It runs.
    Started {
        /// Identifier.
        id: String,
    },
}
