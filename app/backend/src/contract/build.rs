//! Builds by BuildKit: steps with their time and output, and what was built before.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Milliseconds, NameValue, Timestamp};

/// Builds an image of a folder of this computer. Closing the stream cancels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct BuildRun {
    /// The folder, a full path.
    pub folder: String,
    /// The Dockerfile, relative to the folder; absent is `Dockerfile`.
    pub dockerfile: Option<String>,
    /// `repository:tag`s.
    pub tags: Vec<String>,
    /// Stage to build; absent is the last.
    pub target: Option<String>,
    /// Build arguments.
    pub arguments: Vec<NameValue>,
    /// Use nothing built before.
    pub no_cache: bool,
    /// Pull base images again.
    pub pull: bool,
}

/// What a step does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum BuildStepState {
    /// Not begun.
    Waiting,
    /// At work.
    Running,
    /// Was built before.
    Cached,
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// Not finished because another failed or the build was cancelled.
    Canceled,
}

/// A step of a build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct BuildStep {
    /// Stable within the build.
    pub id: String,
    /// BuildKit's words: `[2/5] RUN make`.
    pub name: String,
    /// What it does now.
    pub state: BuildStepState,
    /// How long it took so far.
    pub took: Milliseconds,
    /// What it says of its progress: `transferring context: 2.1 MB`.
    pub progress: String,
    /// Why it failed.
    pub error: Option<String>,
}

/// What a build tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum BuildEvent {
    /// A step is new or changed.
    Step {
        /// The step, whole.
        step: BuildStep,
    },
    /// Output of a step.
    Output {
        /// The step.
        id: String,
        /// Text with its line ends and escape sequences.
        text: String,
    },
    /// It is over; the stream ends after this.
    Finished {
        /// As in the history.
        record: BuildRecord,
    },
}

/// A build that is over, or under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct BuildRecord {
    /// Identifier.
    pub id: String,
    /// What was asked for.
    pub request: BuildRun,
    /// When it began.
    pub started: Timestamp,
    /// How long it took.
    pub took: Milliseconds,
    /// How it ended.
    pub outcome: BuildOutcome,
    /// All steps as they were at the end.
    pub steps: Vec<BuildStep>,
}

/// How a build ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum BuildOutcome {
    /// Well.
    Succeeded {
        /// Identifier of the image.
        image: String,
    },
    /// Not well.
    Failed {
        /// BuildKit's words.
        message: String,
        /// Line of the Dockerfile, from 1, if it is the Dockerfile's fault.
        line: Option<u32>,
        /// The Dockerfile as it was.
        dockerfile: Option<String>,
    },
    /// By the user.
    Canceled,
}

/// Names a build of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct BuildTarget {
    /// Identifier.
    pub id: String,
}

/// A build of the history with its output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct BuildDetail {
    /// The build.
    pub record: BuildRecord,
    /// Output by step.
    pub outputs: Vec<BuildOutput>,
    /// The Dockerfile as it was.
    pub dockerfile: String,
}

/// Output of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct BuildOutput {
    /// The step.
    pub step: String,
    /// Text.
    pub text: String,
}
