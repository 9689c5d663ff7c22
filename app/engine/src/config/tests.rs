//! Checks the table of settings against everything derived from it.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use super::{
    Config, MachineConfig,
    keys::{self, Key, Kind, Section, TakesEffect, Value},
    template,
};

/// Environment variable that makes the test of the user guide write its table.
const WRITE: &str = "RORQUAL_WRITE_DOCS";
const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/user-guide.md");
/// Lines of the guide around the table.
const MARKS: [&str; 2] = [
    "<!-- Settings: written by `RORQUAL_WRITE_DOCS=1 cargo test -p rorqual-engine --lib config`. -->",
    "<!-- End of settings. -->",
];

fn parse(text: &str) -> Config {
    Config::parse(Path::new("config.toml"), text).unwrap()
}

fn parse_machine(text: &str) -> MachineConfig {
    MachineConfig::parse(Path::new("machine.toml"), text, &MachineConfig::default()).unwrap()
}

/// The template with the # in front of each key removed.
fn uncommented(template: &str) -> String {
    let keys = keys::CONFIG.iter().flat_map(Section::names).map(|name| format!("# {name} = ")).collect::<Vec<_>>();
    let lines = template.lines().map(|line| {
        let is_key = keys.iter().any(|key| line.starts_with(key.as_str()));
        if is_key { line.trim_start_matches("# ") } else { line }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Every section of `config.toml` with each of its keys.
fn all() -> impl Iterator<Item = (&'static Section<Config>, &'static Key<Config>)> {
    keys::CONFIG.iter().flat_map(|section| section.keys.iter().map(move |key| (section, key)))
}

/// A valid value other than the default.
fn other<T>(key: &Key<T>, default: &T) -> Value {
    match (&key.kind, (key.value)(default)) {
        (Kind::Switch, Value::Switch(on)) => Value::Switch(!on),
        (Kind::Integer { .. }, Value::Integer(number)) => Value::Integer(number + 1),
        (Kind::Choice(words), Value::Text(text)) => {
            Value::Text(words.iter().map(|(word, _)| *word).find(|word| *word != text).unwrap().to_owned())
        }
        (Kind::Text { .. }, _) if key.name == "log" => Value::Text("debug".to_owned()),
        (Kind::Text { example }, _) => Value::Text((*example).to_owned()),
        _ => panic!("the default of {} is of another kind", key.name),
    }
}

#[test]
fn the_template_holds_every_key_once_at_its_default() {
    let template = template::config();
    assert_eq!(parse(&template), Config::default());
    let uncommented = uncommented(&template);
    assert_eq!(parse(&uncommented), Config::default());
    let document: toml_edit::DocumentMut = uncommented.parse().unwrap();
    let sections: Vec<_> = document.iter().map(|(name, _)| name).collect();
    assert_eq!(sections, keys::sections());
    for section in &keys::CONFIG {
        let written: Vec<_> = document[section.name].as_table().unwrap().iter().map(|(name, _)| name).collect();
        assert_eq!(written, section.names());
    }
    assert!(template.lines().all(|line| line.len() <= 110));
}

#[test]
fn the_template_of_a_machine_holds_every_key_once_at_its_value() {
    let made = MachineConfig { cpus: 3, memory_mib: 4096, disk_gib: 5 };
    let template = template::machine(&made);
    assert_eq!(parse_machine(&template), made);
    let document: toml_edit::DocumentMut = template.parse().unwrap();
    assert_eq!(document.iter().map(|(name, _)| name).collect::<Vec<_>>(), keys::MACHINE.names());
}

#[test]
fn the_reader_takes_every_key_to_its_own_place() {
    let default = Config::default();
    for (section, key) in all() {
        let value = other(key, &default);
        let config = parse(&format!("[{}]\n{} = {value}\n", section.name, key.name));
        assert_eq!((key.value)(&config), value, "{}", section.path(key));
        let changed: Vec<_> = all().filter(|(_, key)| (key.value)(&config) != (key.value)(&default)).collect();
        assert_eq!(changed.len(), 1, "{}", section.path(key));
    }
    let default = MachineConfig::default();
    for key in keys::MACHINE.keys {
        let value = other(key, &default);
        assert_eq!((key.value)(&parse_machine(&format!("{} = {value}\n", key.name))), value, "{}", key.name);
    }
}

#[test]
fn the_reader_takes_every_word_of_a_choice_and_both_ends_of_a_range() {
    for (section, key) in all() {
        let values = match &key.kind {
            Kind::Choice(words) => words.iter().map(|(word, _)| Value::Text((*word).to_owned())).collect(),
            Kind::Integer { range, .. } => vec![Value::Integer(*range.start()), Value::Integer(*range.end())],
            Kind::Switch | Kind::Text { .. } => Vec::new(),
        };
        for value in values {
            let config = parse(&format!("[{}]\n{} = {value}\n", section.name, key.name));
            assert_eq!((key.value)(&config), value, "{}", section.path(key));
        }
    }
}

#[test]
fn every_key_is_described_in_sentences() {
    let mut titles = BTreeSet::new();
    for (section, key) in all() {
        assert!(key.description.ends_with('.') && !key.description.contains("  "), "{}", section.path(key));
        assert!(titles.insert(key.title), "two keys are called {:?}", key.title);
    }
    assert!(keys::MACHINE.keys.iter().all(|key| key.description.ends_with('.')));
}

#[test]
fn the_user_guide_has_the_table_of_settings() {
    let guide = fs::read_to_string(GUIDE).unwrap();
    let (before, rest) = guide.split_once(MARKS[0]).expect("the guide lacks the mark of the table's beginning");
    let (_, after) = rest.split_once(MARKS[1]).expect("the guide lacks the mark of the table's end");
    let wanted = format!("{before}{}\n\n{}\n\n{}{after}", MARKS[0], markdown(), MARKS[1]);
    if std::env::var_os(WRITE).is_some() {
        fs::write(GUIDE, &wanted).unwrap();
    } else {
        assert!(guide == wanted, "docs/user-guide.md is not up to date; run this test with {WRITE}=1");
    }
}

fn markdown() -> String {
    let config = Config::default();
    let mut text = String::new();
    for section in &keys::CONFIG {
        write!(text, "`[{}]`", section.name).unwrap();
        table(&mut text, section, &config);
    }
    text.push_str("`machines/<name>/machine.toml`, which starts with the values of `[machine]`");
    table(&mut text, &keys::MACHINE, &config.machine);
    text.trim_end().to_owned()
}

fn table<T>(text: &mut String, section: &Section<T>, default: &T) {
    text.push_str(":\n\n| key | default | what it does | a change takes effect |\n|---|---|---|---|\n");
    for key in section.keys {
        let when = match key.takes_effect {
            TakesEffect::NewMachine => "for machines created from now on",
            TakesEffect::MachineStart => "when the machine restarts",
            TakesEffect::MachineBoot => "when the machine restarts; not when it resumes",
            TakesEffect::DaemonStart => "when the daemon restarts",
            TakesEffect::StartCommand => "at the next `rorqual start`",
        };
        let description = key.description.replace('|', "\\|");
        writeln!(text, "| `{}` | `{}` | {description} | {when} |", key.name, (key.value)(default)).unwrap();
    }
    text.push('\n');
}
