//! Reads a settings file strictly: every key must be known and every value valid. Errors name file and line.

use std::{
    fs, io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use thiserror::Error;
use toml_edit::{Document, Item, TableLike};

use crate::error::{Coded, one_line};

/// Why a settings file cannot be used. The file is never changed.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The text is not TOML, a key is unknown, or a value is invalid.
    #[error("{file}:{line}: {problem}", file = file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// Line number, counted from 1.
        line: usize,
        /// The problem.
        problem: String,
        /// Advice, as an instruction.
        fix: String,
    },
    /// The file cannot be read or written.
    #[error("cannot {action} {file}: {source}", file = file.display())]
    Io {
        /// The operation: "read" or "write".
        action: &'static str,
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl Coded for ConfigError {
    fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "config-invalid",
            Self::Io { .. } => "config-unreadable",
        }
    }

    fn fix(&self) -> Option<String> {
        Some(match self {
            Self::Invalid { fix, .. } => fix.clone(),
            Self::Io { file, .. } => format!("check the permissions of {}", file.display()),
        })
    }
}

#[cfg(test)]
crate::error::tests::samples!(ConfigError {
    Invalid => invalid_sample("cpus = \"many\""),
    Invalid => invalid_sample("cpu = 2"),
    Invalid => invalid_sample("colour = 2"),
    Invalid => invalid_sample("cpus ="),
    Invalid => invalid_sample("section = 3"),
    Io => Self::Io { action: "read", file: "/h/config.toml".into(), source: crate::error::tests::refusal() },
});

/// Builds an error of the file at `line`.
#[cfg(test)]
fn invalid_sample(line: &str) -> ConfigError {
    let file = Path::new("/h/config.toml");
    let read = || {
        let settings = Settings::parse(file, line)?;
        let root = settings.root(&["cpus", "memory_mib", "section"])?;
        root.integer("cpus", &(1..=64), "processors", 1)?;
        settings.section("section", &[]).map(drop)
    };
    read().unwrap_err()
}

/// Reads `file`; writes it from `template` first if it is missing. An empty or damaged file is never overwritten.
pub(super) fn read_or_create(file: &Path, template: &str) -> Result<String, ConfigError> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Written under another name and renamed, so that a crash never leaves half a file.
            let aside = file.with_extension("toml.new");
            let written = fs::write(&aside, template).and_then(|()| fs::rename(&aside, file));
            written.map_err(|source| ConfigError::Io { action: "write", file: file.to_owned(), source })?;
            Ok(template.to_owned())
        }
        other => other.map_err(|source| ConfigError::Io { action: "read", file: file.to_owned(), source }),
    }
}

/// A parsed settings file.
pub(super) struct Settings<'a> {
    file: &'a Path,
    document: Document<&'a str>,
}

impl<'a> Settings<'a> {
    /// Parses `text`, which was read from `file`.
    pub(super) fn parse(file: &'a Path, text: &'a str) -> Result<Self, ConfigError> {
        let document = Document::parse(text).map_err(|error| ConfigError::Invalid {
            file: file.to_owned(),
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            problem: format!("this is not TOML: {}", error.message().trim().replace('\n', ", ")),
            fix: "correct that line: the comments in the file show the form of each setting".to_owned(),
        })?;
        Ok(Self { file, document })
    }

    /// The keys outside sections; any key not in `known` is an error.
    pub(super) fn root(&self, known: &[&str]) -> Result<Section<'_>, ConfigError> {
        let table: &dyn TableLike = self.document.as_table();
        self.check(None, table, known)?;
        Ok(Section { settings: self, name: None, table: Some(table) })
    }

    /// The section `[name]`; empty if the file lacks it.
    pub(super) fn section<'s>(&'s self, name: &'static str, known: &[&str]) -> Result<Section<'s>, ConfigError> {
        let item = self.document.get(name);
        let table = match item {
            None => None,
            Some(item) => Some(item.as_table_like().ok_or_else(|| {
                self.invalid(
                    span_of(self.document.as_table(), name, item),
                    format!("{name} is a value, but must be a section"),
                    format!("write [{name}] on a line of its own, and its settings below it"),
                )
            })?),
        };
        if let Some(table) = table {
            self.check(Some(name), table, known)?;
        }
        Ok(Section { settings: self, name: Some(name), table })
    }

    fn check(&self, section: Option<&str>, table: &dyn TableLike, known: &[&str]) -> Result<(), ConfigError> {
        for (key, item) in table.iter() {
            if known.contains(&key) {
                continue;
            }
            let what = match (section, item.is_table()) {
                (None, true) => format!("unknown section [{key}]"),
                (None, false) => format!("unknown key {key:?}"),
                (Some(section), _) => format!("unknown key {key:?} in [{section}]"),
            };
            let fix = match nearest(key, known) {
                Some(near) => format!("write {near:?} instead, or remove it"),
                None => format!("use one of {}, or remove it", known.join(", ")),
            };
            return Err(self.invalid(span_of(table, key, item), what, fix));
        }
        Ok(())
    }

    fn invalid(&self, offset: usize, problem: String, fix: String) -> ConfigError {
        ConfigError::Invalid { file: self.file.to_owned(), line: line_of(self.document.raw(), offset), problem, fix }
    }

    fn unfit(&self, offset: usize, problem: String) -> ConfigError {
        self.invalid(offset, problem, "correct the value, or remove the line to use the default".to_owned())
    }
}

/// One section of a settings file. All its keys are known.
pub(super) struct Section<'s> {
    settings: &'s Settings<'s>,
    name: Option<&'static str>,
    table: Option<&'s dyn TableLike>,
}

impl Section<'_> {
    /// An integer within `range`, in `unit`.
    pub(super) fn integer(
        &self,
        key: &str,
        range: &RangeInclusive<u32>,
        unit: &str,
        default: u32,
    ) -> Result<u32, ConfigError> {
        let Some(item) = self.get(key) else { return Ok(default) };
        let value = item.as_integer().and_then(|value| u32::try_from(value).ok()).filter(|value| range.contains(value));
        value.ok_or_else(|| {
            let (low, high) = (range.start(), range.end());
            self.bad(key, item, &format!("must be a whole number of {unit} from {low} to {high}"))
        })
    }

    /// A boolean.
    pub(super) fn boolean(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        let Some(item) = self.get(key) else { return Ok(default) };
        item.as_bool().ok_or_else(|| self.bad(key, item, "must be true or false"))
    }

    /// One word of `choices`, each with its meaning.
    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)], default: T) -> Result<T, ConfigError> {
        let Some(item) = self.get(key) else { return Ok(default) };
        let chosen = item.as_str().and_then(|text| choices.iter().find(|(word, _)| *word == text));
        chosen.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<_> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.bad(key, item, &format!("must be one of {}", words.join(", ")))
        })
    }

    /// Text that `accept` finds valid; otherwise it returns the expected form.
    pub(super) fn text(
        &self,
        key: &str,
        accept: impl Fn(&str) -> Result<(), String>,
    ) -> Result<Option<String>, ConfigError> {
        let Some(item) = self.get(key) else { return Ok(None) };
        let Some(text) = item.as_str() else { return Err(self.bad(key, item, "must be text in double quotes")) };
        accept(text).map_err(|wanted| self.bad(key, item, &wanted))?;
        Ok(Some(text.to_owned()))
    }

    /// Text that may contain a password, so errors do not repeat it.
    pub(super) fn secret(
        &self,
        key: &str,
        accept: impl Fn(&str) -> Result<(), String>,
    ) -> Result<Option<String>, ConfigError> {
        let Some(item) = self.get(key) else { return Ok(None) };
        let text = item.as_str().ok_or_else(|| "must be text in double quotes".to_owned());
        match text.and_then(|text| accept(text).map(|()| text.to_owned())) {
            Ok(text) => Ok(Some(text)),
            Err(wanted) => Err(self.settings.unfit(self.offset(key, item), format!("{key}{} {wanted}", self.place()))),
        }
    }

    /// An error about a value that is valid alone but conflicts with others.
    pub(super) fn refuse(&self, key: &str, wanted: &str) -> ConfigError {
        match self.get(key) {
            Some(item) => self.bad(key, item, wanted),
            None => self.settings.unfit(0, format!("{key} {wanted}")),
        }
    }

    fn get(&self, key: &str) -> Option<&Item> {
        self.table?.get(key)
    }

    fn bad(&self, key: &str, item: &Item, wanted: &str) -> ConfigError {
        let given = one_line(&item.to_string());
        self.settings.unfit(self.offset(key, item), format!("{key}{} {wanted}, but it is {given}", self.place()))
    }

    fn place(&self) -> String {
        self.name.map(|name| format!(" in [{name}]")).unwrap_or_default()
    }

    fn offset(&self, key: &str, item: &Item) -> usize {
        self.table.map_or(0, |table| span_of(table, key, item))
    }
}

/// The offset of a key, else of its value.
fn span_of(table: &dyn TableLike, key: &str, item: &Item) -> usize {
    let key = table.get_key_value(key).and_then(|(key, _)| key.span());
    key.or_else(|| item.span()).map_or(0, |span| span.start)
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count() + 1
}

/// The known key closest to `key`, if one is close.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let wanted = key.to_lowercase().replace('-', "_");
    let best = known.iter().min_by_key(|candidate| distance(&wanted, candidate))?;
    let starts = !wanted.is_empty() && (best.starts_with(&wanted) || wanted.starts_with(best));
    (starts || distance(&wanted, best) <= wanted.chars().count().max(6) / 3).then_some(*best)
}

/// Number of letters to insert, remove or replace to turn one word into the other (Levenshtein distance).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, &b) in to.iter().enumerate() {
            let replace = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[to.len()]
}
