//! The form of the Settings page, from the engine's table of settings.

use rorqual_engine::config::keys::{self, Key, Kind, Section};

use super::edit;
use crate::contract::{Setting, SettingChoice, SettingKind, SettingValue, TakesEffect};

/// The form's entry for a key in a file: `heading` is the group's title, `text` the content of the file, `default` the
/// settings of a file without keys.
pub(super) fn setting<T>(
    (section, key): (&Section<T>, &Key<T>),
    file: &str,
    heading: &str,
    text: &str,
    default: &T,
    waits: bool,
) -> Setting {
    let name = section.path(key);
    let default = value((key.value)(default));
    Setting {
        file: file.to_owned(),
        section: heading.to_owned(),
        title: key.title.to_owned(),
        description: key.description.to_owned(),
        kind: kind(&key.kind),
        value: edit::read(text, &name).unwrap_or_else(|| default.clone()),
        key: name,
        default,
        takes_effect: takes_effect(key.takes_effect),
        takes_effect_note: key.takes_effect.sentence().to_owned(),
        waits,
    }
}

fn kind(kind: &Kind) -> SettingKind {
    match kind {
        Kind::Switch => SettingKind::Switch,
        Kind::Choice(words) => {
            let choice = |(value, title): &(&str, &str)| SettingChoice {
                value: (*value).to_owned(),
                title: (*title).to_owned(),
            };
            SettingKind::Choice { choices: words.iter().map(choice).collect() }
        }
        Kind::Integer { range, unit } => {
            SettingKind::Integer { minimum: *range.start(), maximum: *range.end(), unit: (*unit).to_owned() }
        }
        Kind::Text { example } => SettingKind::Text { placeholder: (*example).to_owned() },
    }
}

fn value(value: keys::Value) -> SettingValue {
    match value {
        keys::Value::Switch(on) => SettingValue::Switch(on),
        keys::Value::Integer(number) => SettingValue::Integer(number),
        keys::Value::Text(text) => SettingValue::Text(text),
    }
}

fn takes_effect(takes_effect: keys::TakesEffect) -> TakesEffect {
    match takes_effect {
        keys::TakesEffect::NewMachine => TakesEffect::NewMachine,
        keys::TakesEffect::MachineStart => TakesEffect::MachineStart,
        keys::TakesEffect::MachineBoot => TakesEffect::MachineBoot,
        keys::TakesEffect::DaemonStart => TakesEffect::DaemonStart,
        keys::TakesEffect::StartCommand => TakesEffect::StartCommand,
    }
}
