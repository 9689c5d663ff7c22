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
    /// By this computer's clock; 1970 if that stands before it.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Of the engine's text; none for text that is not a time and for the engine's zero, the year 1.
    pub(crate) fn of_engine(text: &str) -> Option<Self> {
        model::milliseconds(text).map(Self)
    }
}

/// A span of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, TS)]
#[ts(type = "number")]
pub struct Milliseconds(pub u64);

/// A JSON document as the Docker Engine gave it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, TS)]
#[ts(type = "unknown")]
pub struct Document(pub serde_json::Value);

/// No parameters, or nothing to answer: `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(type = "Record<string, never>")]
pub struct Empty {}

/// A value no stream of its kind ever sends or takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(type = "never")]
pub enum Never {}

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Stable name for programs: `engine-not-running`, `not-found`, `conflict`, `config-invalid`, …
    pub code: String,
    /// What failed, on what and why. No advice.
    pub message: String,
    /// What to do about it, as an instruction; none where nothing sensible can be done.
    pub fix: Option<String>,
}

/// A list that is pushed: all of it first, then what changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ListEvent<T> {
    /// The whole list; what was known before is out of date.
    All {
        /// Every item.
        items: Vec<T>,
    },
    /// Items that are new or different, and the identifiers of those that are gone.
    Changes {
        /// New or changed items, whole.
        changed: Vec<T>,
        /// Identifiers.
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

/// What a prune removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Pruned {
    /// Identifiers or names.
    pub removed: Vec<String>,
    /// What that gave back.
    pub reclaimed: Bytes,
}
