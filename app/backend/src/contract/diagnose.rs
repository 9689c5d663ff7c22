//! Diagnosis: the checks of `rorqual doctor`, a bundle to send, and levels of reset.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// `kvm`, `uml`, `image`, `disk-space`, …
    pub id: String,
    /// How bad.
    pub verdict: Verdict,
    /// What was found.
    pub finding: String,
    /// What to do; empty when nothing needs doing.
    pub fix: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Well.
    Ok,
    /// Works, with something worth knowing.
    Note,
    /// Does not work.
    Problem,
}

/// How much a reset takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum ResetLevel {
    /// The machine is started again; nothing is deleted.
    Restart,
    /// Everything in the Docker Engine that nothing uses.
    Prune,
    /// All of the Docker Engine's data: the machine's disk is made anew.
    Data,
    /// Everything Rorqual keeps, settings included.
    Factory,
}

/// A level of reset, with what it would do here and now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ResetPlan {
    /// Which.
    pub level: ResetLevel,
    /// What is deleted, a line each: `12 containers`, `3 volumes (1.2 GB)`.
    pub deletes: Vec<String>,
    /// What stays.
    pub keeps: Vec<String>,
}

/// Carries a reset out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Reset {
    /// Which.
    pub level: ResetLevel,
    /// The user has read what is deleted: for `data` and `factory` this must be the word `delete`.
    pub confirmation: String,
}
