//! Settings: every key of `config.toml` and of a machine's `machine.toml`.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::Failure;

/// All settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// The files that hold them.
    pub files: Vec<SettingsFile>,
    /// The settings, in the order of the files.
    pub settings: Vec<Setting>,
}

/// A settings file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct SettingsFile {
    /// `config` or `machine/<name>`.
    pub id: String,
    /// Full path.
    pub path: String,
    /// Why the file cannot be read; until that is corrected its settings cannot be changed.
    pub error: Option<Failure>,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    /// Identifier of the file.
    pub file: String,
    /// Full key, such as `network.host_access`.
    pub key: String,
    /// Heading of its group.
    pub section: String,
    /// Short title.
    pub title: String,
    /// What it does, in one or more sentences. Commands and keys are in backticks.
    pub description: String,
    /// The values it accepts.
    pub kind: SettingKind,
    /// Current value: the file's, or the default.
    pub value: SettingValue,
    /// Default value.
    pub default: SettingValue,
    /// When a change takes effect.
    pub takes_effect: TakesEffect,
    /// The same as a sentence. Commands are in backticks.
    pub takes_effect_note: String,
    /// A running daemon or machine still uses another value.
    pub waits: bool,
}

/// The values a setting accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum SettingKind {
    /// A boolean.
    Switch,
    /// One of a few words.
    Choice {
        /// The accepted words and their meanings.
        choices: Vec<SettingChoice>,
    },
    /// An integer.
    Integer {
        /// Smallest accepted value.
        minimum: u32,
        /// Largest accepted value.
        maximum: u32,
        /// Unit: `MiB`, `GiB`, or empty.
        unit: String,
    },
    /// Text; empty means unset.
    Text {
        /// An example.
        placeholder: String,
    },
}

/// A word a setting accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct SettingChoice {
    /// As in the file.
    pub value: String,
    /// Label for a person.
    pub title: String,
}

/// The value of a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(untagged)]
pub enum SettingValue {
    /// A boolean.
    Switch(bool),
    /// An integer.
    Integer(u32),
    /// Text or one of the accepted words.
    Text(String),
}

/// When a changed setting takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum TakesEffect {
    /// For machines created after the change.
    NewMachine,
    /// When a machine boots or resumes.
    MachineStart,
    /// When a machine boots; a resumed machine keeps the old value.
    MachineBoot,
    /// When the daemon starts.
    DaemonStart,
    /// When `rorqual start` runs.
    StartCommand,
}

/// Changes one setting. Comments and other keys of the file stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct SettingChange {
    /// Identifier of the file.
    pub file: String,
    /// Full key.
    pub key: String,
    /// New value; absent removes the key, so that the default applies.
    pub value: Option<SettingValue>,
}
