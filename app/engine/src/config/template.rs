//! Writes the settings files that a user finds: every key with its meaning and its default, from the table of
//! [`keys`](super::keys).

use super::{
    keys::{self, Key, Kind, Section},
    values::{Config, MachineConfig},
};

/// Columns of a comment.
const WIDTH: usize = 110;

/// `config.toml` with every key commented out at its default.
pub(super) fn config() -> String {
    let default = Config::default();
    let mut text = String::new();
    comment(
        &mut text,
        "Settings of Rorqual. Each key is commented out at its default; remove the # in front of a key to change it. \
         CPUs, memory and disk of an existing machine are in machines/<name>/machine.toml.",
    );
    for section in &keys::CONFIG {
        text.push_str(&format!("\n[{}]\n", section.name));
        keys_of(&mut text, section, |text, key| {
            text.push_str(&format!("# {} = {}\n", key.name, (key.value)(&default)));
        });
    }
    text
}

/// `machine.toml` with the values a machine was created with.
pub(super) fn machine(settings: &MachineConfig) -> String {
    let mut text = "# Settings of this machine.\n".to_owned();
    keys_of(&mut text, &keys::MACHINE, |text, key| {
        text.push_str(&format!("{} = {}\n", key.name, (key.value)(settings)));
    });
    text
}

fn keys_of<T>(text: &mut String, section: &Section<T>, write: impl Fn(&mut String, &Key<T>)) {
    let first = section.keys.first().map(|key| key.takes_effect);
    let common =
        first.filter(|common| section.keys.len() > 1 && section.keys.iter().all(|key| key.takes_effect == *common));
    if let Some(common) = common {
        comment(text, common.sentence());
        text.push('\n');
    }
    for (index, key) in section.keys.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        comment(text, key.description);
        if let Some(values) = values(&key.kind) {
            comment(text, &values);
        }
        if common.is_none() {
            comment(text, key.takes_effect.sentence());
        }
        write(text, key);
    }
}

fn values(kind: &Kind) -> Option<String> {
    match kind {
        Kind::Switch => None,
        Kind::Choice(words) => {
            let words: Vec<_> = words.iter().map(|(word, title)| format!("{word:?} ({title})")).collect();
            Some(format!("One of {}.", words.join(", ")))
        }
        Kind::Integer { range, unit } => {
            let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
            Some(format!("From {} to {}{unit}.", range.start(), range.end()))
        }
        Kind::Text { example } => Some(format!("Example: {example:?}.")),
    }
}

/// Appends a paragraph as comment lines.
fn comment(text: &mut String, paragraph: &str) {
    let mut line = String::from("#");
    for word in paragraph.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}
