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
    /// Driver, mostly `local`.
    pub driver: String,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// What is in it; absent until it is known.
    pub size: Option<Bytes>,
    /// Identifiers of the containers that mount it.
    pub used_by: Vec<String>,
    /// Docker made its name up.
    pub anonymous: bool,
    /// Compose's project, if it belongs to one.
    pub project: Option<String>,
    /// Labels.
    pub labels: Vec<NameValue>,
    /// Where in the machine.
    pub mountpoint: String,
}

/// Names a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct VolumeTarget {
    /// Name.
    pub name: String,
}

/// Makes a volume.
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
    /// Those with a name too; else only anonymous ones.
    pub all: bool,
}
