//! Builds by BuildKit: steps with their durations and output, and the history of builds.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Milliseconds, NameValue, Timestamp};

/// Builds an image from a folder of this computer. Closing the stream cancels the build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct BuildRun {
    /// Full path of the folder.
    pub folder: String,
    /// Path of the Dockerfile relative to the folder; absent means `Dockerfile`.
    pub dockerfile: Option<String>,
    /// Tags of the image, `repository:tag`.
    pub tags: Vec<String>,
    /// Stage to build; absent means the last.
    pub target: Option<String>,
    /// Build arguments.
    pub arguments: Vec<NameValue>,
    /// Ignores the build cache.
    pub no_cache: bool,
    /// Pulls base images even if they exist.
    pub pull: bool,
}

/// State of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum BuildStepState {
    /// Not started.
    Waiting,
    /// Running.
    Running,
    /// Taken from the build cache.
    Cached,
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// Not finished, because another step failed or the build was cancelled.
    Canceled,
}

/// A step of a build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct BuildStep {
    /// Identifier, stable within the build.
    pub id: String,
    /// Name by BuildKit: `[2/5] RUN make`.
    pub name: String,
    /// State.
    pub state: BuildStepState,
    /// Duration so far.
    pub took: Milliseconds,
    /// Latest progress message: `transferring context: 2.1 MB`.
    pub progress: String,
    /// Why it failed.
    pub error: Option<String>,
}

/// An event of a build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum BuildEvent {
    /// A new or changed step.
    Step {
        /// The step, complete.
        step: BuildStep,
    },
    /// Output of a step.
    Output {
        /// Identifier of the step.
        id: String,
        /// Text with its line ends and escape sequences.
        text: String,
    },
    /// The build ended; the stream ends after this.
    Finished {
        /// The build as in the history.
        record: BuildRecord,
    },
}

/// A build, finished or running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct BuildRecord {
    /// Identifier.
    pub id: String,
    /// The request.
    pub request: BuildRun,
    /// Start time.
    pub started: Timestamp,
    /// Duration.
    pub took: Milliseconds,
    /// Outcome.
    pub outcome: BuildOutcome,
    /// All steps in their final state.
    pub steps: Vec<BuildStep>,
}

/// Outcome of a build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum BuildOutcome {
    /// Success.
    Succeeded {
        /// Identifier of the image.
        image: String,
    },
    /// Failure.
    Failed {
        /// BuildKit's message.
        message: String,
        /// Line of the Dockerfile at fault, counted from 1, if known.
        line: Option<u32>,
        /// The Dockerfile at the time of the build.
        dockerfile: Option<String>,
    },
    /// Cancelled by the user.
    Canceled,
}

/// Identifies a build of the history.
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
    /// The Dockerfile at the time of the build.
    pub dockerfile: String,
}

/// Output of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct BuildOutput {
    /// Identifier of the step.
    pub step: String,
    /// Text.
    pub text: String,
}
