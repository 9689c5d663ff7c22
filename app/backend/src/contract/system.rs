//! The application itself, the engine as a whole, and what happens in it.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Bytes, NameValue, Timestamp};

/// What the page runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum Platform {
    /// The desktop application.
    Desktop,
    /// A browser.
    Web,
}

/// About Rorqual here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Information {
    /// Version of Rorqual.
    pub version: String,
    /// What the page runs in.
    pub platform: Platform,
    /// The state directory.
    pub home: String,
    /// CPUs of this computer.
    pub cpus: u32,
    /// Memory of this computer.
    pub memory: Bytes,
    /// Nobody has finished the first run yet.
    pub first_run: bool,
}

/// What the engine keeps, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct DiskUsage {
    /// Images.
    pub images: Usage,
    /// Containers' own layers.
    pub containers: Usage,
    /// Volumes.
    pub volumes: Usage,
    /// Build cache.
    pub build_cache: Usage,
}

/// What one kind takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// How many.
    pub count: u32,
    /// All of them.
    pub size: Bytes,
    /// What a prune would give back.
    pub reclaimable: Bytes,
}

/// Something that happened in the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct EngineEvent {
    /// When.
    pub at: Timestamp,
    /// `container`, `image`, `volume`, `network`, `builder`, …
    pub subject: String,
    /// `start`, `die`, `pull`, …
    pub action: String,
    /// Identifier or name of what it happened to.
    pub id: String,
    /// More.
    pub attributes: Vec<NameValue>,
}
