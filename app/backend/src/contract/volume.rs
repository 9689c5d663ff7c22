//! Volumes.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Bytes, NameValue, Timestamp};

/// A volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Name.
    pub name: String,
    /// Driver, usually `local`.
    pub driver: String,
    /// Creation time.
    pub created: Option<Timestamp>,
    /// Size of its content; absent until known.
    pub size: Option<Bytes>,
    /// Identifiers of the containers that mount it.
    pub used_by: Vec<String>,
    /// Anonymous: Docker generated its name.
    pub anonymous: bool,
    /// Its Compose project, if any.
    pub project: Option<String>,
    /// Labels.
    pub labels: Vec<NameValue>,
    /// Path in the machine.
    pub mountpoint: String,
}

/// Identifies a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct VolumeTarget {
    /// Name.
    pub name: String,
}

/// Creates a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct VolumeCreate {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: Vec<NameValue>,
}

/// Removes volumes that no container mounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct VolumesPrune {
    /// Includes named volumes; otherwise only anonymous ones.
    pub all: bool,
}
