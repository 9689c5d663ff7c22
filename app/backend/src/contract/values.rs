//! Small values used everywhere.

use rorqual_engine::docker::model;
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};
use ts_rs::TS;

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, TS)]
#[ts(type = "number")]
pub struct Bytes(pub u64);

/// Milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, TS)]
#[ts(type = "number")]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The current time by this computer's clock; 0 if the clock is set before 1970.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Parses the engine's text. `None` if it is not a time, or is the engine's zero, the year 1.
    pub(crate) fn of_engine(text: &str) -> Option<Self> {
        model::milliseconds(text).map(Self)
    }
}

/// A duration in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, TS)]
#[ts(type = "number")]
pub struct Milliseconds(pub u64);

/// A JSON document as the Docker Engine returned it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, TS)]
#[ts(type = "unknown")]
pub struct Document(pub serde_json::Value);

/// No parameters, or no result: `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(type = "Record<string, never>")]
pub struct Empty {}

/// A type without values, for a direction of a stream that carries none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(type = "never")]
pub enum Never {}

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Stable code for programs: `engine-not-running`, `not-found`, `conflict`, `config-invalid`, …
    pub code: String,
    /// What failed, on what, and why. No advice.
    pub message: String,
    /// Advice, as an instruction; absent when nothing sensible can be done.
    pub fix: Option<String>,
}

/// An event of a list: the whole list first, then its changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ListEvent<T> {
    /// The whole list, which replaces what the reader knew.
    All {
        /// Every item.
        items: Vec<T>,
    },
    /// A change of the list.
    Changes {
        /// New or changed items, complete.
        changed: Vec<T>,
        /// Identifiers of removed items.
        removed: Vec<String>,
    },
}

/// A name and a value: a label, a build argument, an environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct NameValue {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// The result of a prune.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Pruned {
    /// Identifiers or names of what was removed.
    pub removed: Vec<String>,
    /// Disk space reclaimed.
    pub reclaimed: Bytes,
}
