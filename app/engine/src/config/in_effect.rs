//! The settings a running daemon or machine started with, which reveal changes that have not taken effect yet.
//!
//! The daemon writes `run/in-effect.json` when it starts, and a machine's `in-effect.json` when the machine starts. The
//! values are stored as fingerprints, because a proxy's address may contain a password.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::keys::{Key, Section};

/// Length of a value's fingerprint, in bytes.
const FINGERPRINT_BYTES: usize = 16;

/// Fingerprints of the values in effect, by the full names of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InEffect(BTreeMap<String, String>);

impl InEffect {
    /// Records all values in `settings`.
    pub fn of<T>(sections: &[Section<T>], settings: &T) -> Self {
        let mut record = Self::default();
        record.record(sections, settings, |_, _| true);
        record
    }

    /// Reads the record at `path`. A missing or damaged record counts as empty, so that nothing waits.
    pub fn load(path: &Path) -> Self {
        fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Changes the record at `path`. A failure is only logged: without the record, nothing waits.
    pub(crate) fn update(path: &Path, change: impl FnOnce(&mut Self)) {
        let mut record = Self::load(path);
        change(&mut record);
        if let Err(error) = record.save(path) {
            tracing::warn!("cannot write {}: {error}", path.display());
        }
    }

    fn save(&self, path: &Path) -> io::Result<()> {
        // Renamed into place, so that a reader never finds half of it.
        let aside = path.with_extension("json.new");
        fs::write(&aside, serde_json::to_vec(self)?)?;
        fs::rename(&aside, path)
    }

    /// Records the values in `settings` of the keys that `applies` accepts. Other records stay.
    pub(crate) fn record<T>(&mut self, sections: &[Section<T>], settings: &T, applies: impl Fn(&str, &Key<T>) -> bool) {
        for section in sections {
            for key in section.keys {
                let name = section.path(key);
                if applies(&name, key) {
                    self.0.insert(name, fingerprint(key, settings));
                }
            }
        }
    }

    /// Whether a key's recorded value differs from the one in `settings`, the file's current values.
    pub fn differs<T>(&self, section: &Section<T>, key: &Key<T>, settings: &T) -> bool {
        self.0.get(&section.path(key)).is_some_and(|recorded| *recorded != fingerprint(key, settings))
    }
}

fn fingerprint<T>(key: &Key<T>, settings: &T) -> String {
    let digest = Sha256::digest((key.value)(settings).to_string());
    digest.iter().take(FINGERPRINT_BYTES).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, keys};

    #[test]
    fn a_changed_value_differs_until_it_is_recorded_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("in-effect.json");
        let (mut old, mut new) = (Config::default(), Config::default());
        old.proxy.http = crate::proxy::Choice::parse("http://me:s3cret@proxy:1").unwrap();
        new.proxy.http = crate::proxy::Choice::parse("http://me:other@proxy:1").unwrap();
        let differing = |record: &InEffect| {
            let all = keys::CONFIG.iter().flat_map(|section| section.keys.iter().map(move |key| (section, key)));
            all.filter(|(section, key)| record.differs(section, key, &new))
                .map(|(section, key)| section.path(key))
                .collect::<Vec<_>>()
        };
        // A machine of an older version has no record.
        assert_eq!(differing(&InEffect::load(&path)), Vec::<String>::new());
        InEffect::update(&path, |record| *record = InEffect::of(&keys::CONFIG, &old));
        assert!(!fs::read_to_string(&path).unwrap().contains("s3cret"));
        let mut record = InEffect::load(&path);
        assert_eq!(differing(&record), ["proxy.http"]);
        record.record(&keys::CONFIG, &new, |name, _| name == "proxy.https");
        assert_eq!(differing(&record), ["proxy.http"]);
        record.record(&keys::CONFIG, &new, |name, _| name == "proxy.http");
        assert_eq!(differing(&record), Vec::<String>::new());
    }
}
