//! Diagnosis: the checks of `rorqual doctor`, a bundle for bug reports, and levels of reset.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Identifier: `kvm`, `uml`, `image`, `disk-space`, …
    pub id: String,
    /// Severity.
    pub verdict: Verdict,
    /// The finding, as a sentence.
    pub finding: String,
    /// Advice, as an instruction; empty when none is needed.
    pub fix: String,
}

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// No problem.
    Ok,
    /// Works, with a caveat.
    Note,
    /// Does not work.
    Problem,
}

/// How much a reset deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum ResetLevel {
    /// Restarts the machine; deletes nothing.
    Restart,
    /// Deletes everything in the Docker Engine that is unused.
    Prune,
    /// Deletes all data of the Docker Engine: the machine gets a new disk.
    Data,
    /// Deletes everything Rorqual stores, settings included.
    Factory,
}

/// A level of reset, with its effect in the current state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ResetPlan {
    /// The level.
    pub level: ResetLevel,
    /// What it deletes, one entry a line: `12 containers`, `3 volumes (1.2 GB)`.
    pub deletes: Vec<String>,
    /// What it keeps, one entry a line.
    pub keeps: Vec<String>,
}

/// Performs a reset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Reset {
    /// The level.
    pub level: ResetLevel,
    /// The user's confirmation. Levels `data` and `factory` require the word `delete`.
    pub confirmation: String,
}
