//! The history of builds: a file for each in the state directory.

use rorqual_engine::home::Home;
use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
};

use crate::{
    contract::{BuildDetail, BuildOutput, Failure},
    failure,
};

/// Maximum number of builds kept.
const BUILDS: usize = 100;
/// Maximum output kept of a step, and of a build.
const STEP_OUTPUT: usize = 256 << 10;
const BUILD_OUTPUT: usize = 2 << 20;
/// Replaces the output that was left out.
const LEFT_OUT: &str = "\n(output truncated here)\n";

/// The history of a state directory.
#[derive(Clone, Debug)]
pub(super) struct History {
    directory: PathBuf,
}

fn failed(action: &str, path: &std::path::Path, error: &io::Error) -> Failure {
    let message = format!("cannot {action} {}: {error}", path.display());
    failure::advised!("state-unwritable", message, "check its permissions and the free space on its disk")
}

impl History {
    pub(super) fn of(home: &Home) -> Self {
        Self { directory: home.root().join("builds") }
    }

    /// The file of a build; `None` if the identifier is malformed.
    fn file(&self, id: &str) -> Option<PathBuf> {
        let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        plain.then(|| self.directory.join(format!("{id}.json")))
    }

    /// Identifiers, newest first.
    fn ids(&self) -> Result<Vec<String>, Failure> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| failed("read", &self.directory, &error))?,
        };
        let mut ids: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".json").map(str::to_owned))
            .filter(|id| self.file(id).is_some())
            .collect();
        // Identifiers begin with a timestamp of fixed width, so they sort by time.
        ids.sort_by(|one, other| other.cmp(one));
        Ok(ids)
    }

    /// Every build, newest first.
    pub(super) fn all(&self) -> Result<Vec<BuildDetail>, Failure> {
        // A damaged file is skipped.
        Ok(self.ids()?.iter().filter_map(|id| self.read(id).ok()).collect())
    }

    pub(super) fn read(&self, id: &str) -> Result<BuildDetail, Failure> {
        let unknown = || failure::coded("not-found", format!("the history has no build {id:?}"));
        let file = self.file(id).ok_or_else(unknown)?;
        let text = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(unknown()),
            other => other.map_err(|error| failed("read", &file, &error))?,
        };
        serde_json::from_slice(&text).map_err(|error| failed("read", &file, &error.into()))
    }

    /// Stores a build and deletes the oldest ones beyond the maximum.
    pub(super) fn add(&self, build: &BuildDetail) -> Result<(), Failure> {
        let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        created.map_err(|error| failed("create", &self.directory, &error))?;
        let file = self.file(&build.record.id).ok_or_else(|| failure::unexpected("invalid build identifier"))?;
        let aside = file.with_extension("new");
        let write = || {
            let mut options = fs::OpenOptions::new();
            let target = options.create(true).write(true).truncate(true).mode(0o600).open(&aside)?;
            serde_json::to_writer(target, build)?;
            fs::rename(&aside, &file)
        };
        write().map_err(|error| failed("write", &file, &error))?;
        for id in self.ids()?.iter().skip(BUILDS) {
            self.remove(id)?;
        }
        Ok(())
    }

    pub(super) fn remove(&self, id: &str) -> Result<(), Failure> {
        let unknown = || failure::coded("not-found", format!("the history has no build {id:?}"));
        let file = self.file(id).ok_or_else(unknown)?;
        match fs::remove_file(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(unknown()),
            other => other.map_err(|error| failed("remove", &file, &error)),
        }
    }
}

/// The output of each step, up to the maximum.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    kept: Vec<BuildOutput>,
    length: usize,
}

impl Outputs {
    pub(super) fn add(&mut self, step: &str, text: &str) {
        let index = match self.kept.iter().position(|output| output.step == step) {
            Some(index) => index,
            None => {
                self.kept.push(BuildOutput { step: step.to_owned(), text: String::new() });
                self.kept.len() - 1
            }
        };
        let output = &mut self.kept[index].text;
        if output.ends_with(LEFT_OUT) {
            return;
        }
        let room = STEP_OUTPUT.saturating_sub(output.len()).min(BUILD_OUTPUT.saturating_sub(self.length));
        let end = (0..=room.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        output.push_str(&text[..end]);
        self.length += end;
        if end < text.len() {
            output.push_str(LEFT_OUT);
        }
    }

    pub(super) fn take(&mut self) -> Vec<BuildOutput> {
        std::mem::take(&mut self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{BuildOutcome, BuildRecord, BuildRun, Milliseconds, Timestamp};

    fn build(id: &str) -> BuildDetail {
        let record = BuildRecord {
            id: id.to_owned(),
            request: BuildRun::default(),
            started: Timestamp(0),
            took: Milliseconds(0),
            outcome: BuildOutcome::Canceled,
            steps: Vec::new(),
        };
        BuildDetail { record, outputs: Vec::new(), dockerfile: String::new() }
    }

    #[test]
    fn the_newest_come_first_and_the_oldest_go() {
        let parent = tempfile::tempdir().unwrap();
        let history = History { directory: parent.path().join("builds") };
        assert!(history.all().unwrap().is_empty());
        for number in 0..BUILDS + 3 {
            history.add(&build(&format!("{:013}-1", number + 5))).unwrap();
        }
        fs::write(history.directory.join("0000000009999-1.json"), "damaged").unwrap();
        let all = history.all().unwrap();
        assert_eq!(all.len(), BUILDS);
        assert_eq!(all[0].record.id, format!("{:013}-1", BUILDS + 7));
        history.remove(&all[0].record.id).unwrap();
        assert_eq!(history.read(&all[0].record.id).unwrap_err().code, "not-found");
        assert_eq!(history.remove(&all[0].record.id).unwrap_err().code, "not-found");
    }

    #[test]
    fn no_identifier_leads_elsewhere() {
        let history = History { directory: "/builds".into() };
        for id in ["", "../config", "1/2", "a", "."] {
            assert!(history.file(id).is_none(), "{id}");
        }
    }

    #[test]
    fn outputs_are_bounded_and_say_so() {
        let mut outputs = Outputs::default();
        outputs.add("a", "short");
        for _ in 0..10 {
            outputs.add("b", &"é".repeat(50_000));
        }
        let kept = outputs.take();
        assert_eq!(kept[0].text, "short");
        assert!(kept[1].text.len() <= STEP_OUTPUT + LEFT_OUT.len() && kept[1].text.ends_with(LEFT_OUT));
    }
}
