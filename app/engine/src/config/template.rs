//! Writes the settings files: every key with its meaning and its default, from the table of [`keys`](super::keys).

use super::{
    keys::{self, Key, Kind, Section},
    values::{Config, MachineConfig},
};

/// Maximum width of a comment, in columns.
const WIDTH: usize = 110;

/// `config.toml` with every key commented out at its default.
pub(super) fn config() -> String {
    let default = Config::default();
    let mut lines = Vec::new();
    comment(
        &mut lines,
        "Settings of Rorqual. Each key is commented out at its default; remove the # in front of a key to change it. \
         CPUs, memory and disk of an existing machine are in machines/<name>/machine.toml.",
    );
    for section in &keys::CONFIG {
        lines.extend([String::new(), format!("[{}]", section.name)]);
        keys_of(&mut lines, section, |key| format!("# {} = {}", key.name, (key.value)(&default)));
    }
    lines.join("\n") + "\n"
}

/// `machine.toml` with the values a machine was created with.
pub(super) fn machine(settings: &MachineConfig) -> String {
    let mut lines = vec!["# Settings of this machine.".to_owned()];
    keys_of(&mut lines, &keys::MACHINE, |key| format!("{} = {}", key.name, (key.value)(settings)));
    lines.join("\n") + "\n"
}

/// The keys of a section with their comments. If all changes take effect at the same time, the section's comment states
/// it once.
fn keys_of<T>(lines: &mut Vec<String>, section: &Section<T>, write: impl Fn(&Key<T>) -> String) {
    let first = section.keys.first().map(|key| key.takes_effect);
    let common =
        first.filter(|common| section.keys.len() > 1 && section.keys.iter().all(|key| key.takes_effect == *common));
    if let Some(common) = common {
        comment(lines, common.sentence());
        lines.push(String::new());
    }
    for (index, key) in section.keys.iter().enumerate() {
        if index > 0 {
            lines.push(String::new());
        }
        comment(lines, key.description);
        if let Some(values) = values(&key.kind) {
            comment(lines, &values);
        }
        if common.is_none() {
            comment(lines, key.takes_effect.sentence());
        }
        lines.push(write(key));
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
fn comment(lines: &mut Vec<String>, paragraph: &str) {
    let mut line = String::from("#");
    for word in paragraph.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            lines.push(std::mem::replace(&mut line, String::from("#")));
        }
        line.push(' ');
        line.push_str(word);
    }
    lines.push(line);
}
