//! Settings: every key of `config.toml` and of a machine's `machine.toml`.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// All settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// Files they are in.
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
    /// Why it cannot be read as it is; nothing is changed until it can.
    pub error: Option<String>,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    /// The file.
    pub file: String,
    /// Full key: `network.host_access`.
    pub key: String,
    /// Short title.
    pub title: String,
    /// What it does, in a sentence or two.
    pub description: String,
    /// What it takes.
    pub kind: SettingKind,
    /// As it is in the file; the default when the file does not say.
    pub value: SettingValue,
    /// What it is when the file does not say.
    pub default: SettingValue,
    /// From when a change counts.
    pub takes_effect: TakesEffect,
}

/// What a setting takes.
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
    /// Texts.
    List {
        /// An example of one.
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
    /// Texts.
    List(Vec<String>),
}

/// From when a changed setting counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum TakesEffect {
    /// Now.
    AtOnce,
    /// From the machine's next start.
    MachineStart,
    /// From the daemon's next start.
    DaemonStart,
    /// For machines that are made later.
    NewMachine,
}

/// Changes one setting. Comments and other keys of the file stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct SettingChange {
    /// The file.
    pub file: String,
    /// Full key.
    pub key: String,
    /// New value; absent takes the key out, so that the default counts.
    pub value: Option<SettingValue>,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct SettingChanged {
    /// The setting as it is now.
    pub setting: Setting,
    /// It counts already; else `takes_effect` says when.
    pub applied: bool,
    /// Why it does not count yet, as a sentence; empty when it does.
    pub reason: String,
}
