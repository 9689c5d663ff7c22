//! The application itself, the engine as a whole, and its events.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Bytes, NameValue, Timestamp};

/// Host of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum Platform {
    /// The desktop application.
    Desktop,
    /// A browser.
    Web,
}

/// About this installation of Rorqual.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Information {
    /// Version of Rorqual.
    pub version: String,
    /// Host of the page.
    pub platform: Platform,
    /// Full path of the state directory.
    pub home: String,
    /// Number of this computer's CPUs.
    pub cpus: u32,
    /// Memory of this computer.
    pub memory: Bytes,
    /// The first-run pages have not been completed yet.
    pub first_run: bool,
}

/// Disk space used by the engine, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct DiskUsage {
    /// Images.
    pub images: Usage,
    /// Writable layers of containers.
    pub containers: Usage,
    /// Volumes.
    pub volumes: Usage,
    /// Build cache.
    pub build_cache: Usage,
}

/// Disk space used by one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Number of items.
    pub count: u32,
    /// Size of all of them.
    pub size: Bytes,
    /// Size a prune would reclaim.
    pub reclaimable: Bytes,
}

/// An event of the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct EngineEvent {
    /// Time.
    pub at: Timestamp,
    /// Kind of the object: `container`, `image`, `volume`, `network`, `builder`, …
    pub subject: String,
    /// Action: `start`, `die`, `pull`, …
    pub action: String,
    /// Identifier or name of the object.
    pub id: String,
    /// Attributes.
    pub attributes: Vec<NameValue>,
}
