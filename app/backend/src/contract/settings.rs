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
    /// In the order of the files.
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
    /// Why it cannot be read; nothing in it can be changed until then.
    pub error: Option<Failure>,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    /// Identifier of the file.
    pub file: String,
    /// Full key: `network.host_access`.
    pub key: String,
    /// Heading it stands under.
    pub section: String,
    /// Short title.
    pub title: String,
    /// What it does, in one or more sentences. Commands and keys stand in backticks.
    pub description: String,
    /// The values it takes.
    pub kind: SettingKind,
    /// Value in the file; the default if the file has none.
    pub value: SettingValue,
    /// Value if the file has none.
    pub default: SettingValue,
    /// When a change takes effect.
    pub takes_effect: TakesEffect,
    /// The same as a sentence. Commands stand in backticks.
    pub takes_effect_note: String,
    /// The daemon or a machine still runs with another value.
    pub waits: bool,
}

/// The values a setting takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum SettingKind {
    /// On or off.
    Switch,
    /// One of some words.
    Choice {
        /// The words and what they mean.
        choices: Vec<SettingChoice>,
    },
    /// A whole number.
    Integer {
        /// Smallest.
        minimum: u32,
        /// Largest.
        maximum: u32,
        /// `MiB`, `GiB`, or empty.
        unit: String,
    },
    /// Text; empty means none.
    Text {
        /// An example.
        placeholder: String,
    },
}

/// A word a setting takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct SettingChoice {
    /// As in the file.
    pub value: String,
    /// For a person.
    pub title: String,
}

/// The value of a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(untagged)]
pub enum SettingValue {
    /// On or off.
    Switch(bool),
    /// A whole number.
    Integer(u32),
    /// Text or choice.
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
    /// New value; without it the key is removed and the default applies.
    pub value: Option<SettingValue>,
}
