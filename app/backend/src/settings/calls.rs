//! The calls of the Settings page. The strict reader validates a changed file before it replaces the old one.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use rorqual_engine::{
    config::{
        Config, ConfigError, MachineConfig,
        keys::{self, Key, Section},
    },
    home::MachineName,
};

use super::{edit, form, waiting::Running};
use crate::{
    Inner,
    contract::{Empty, Failure, Setting, SettingChange, Settings, SettingsFile},
    failure,
};

/// A settings file.
struct File {
    id: String,
    path: PathBuf,
    /// The machine of a `machine.toml`; `None` for `config.toml`.
    machine: Option<MachineName>,
    /// The defaults of the machine's keys.
    defaults: MachineConfig,
}

impl File {
    fn check(&self, text: &str) -> Result<(), ConfigError> {
        match self.machine {
            Some(_) => MachineConfig::parse(&self.path, text, &self.defaults).map(drop),
            None => Config::parse(&self.path, text).map(drop),
        }
    }

    fn text(&self) -> Result<String, Failure> {
        match fs::read_to_string(&self.path) {
            // The daemon or the machine creates the file when it first starts.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other.map_err(|error| {
                let message = format!("cannot read {}: {error}", self.path.display());
                failure::advised!("config-unreadable", message, "check its permissions")
            }),
        }
    }

    /// Every setting of the file, which holds `text`.
    fn settings(&self, text: &str, running: &Running) -> Vec<Setting> {
        let mut settings = Vec::new();
        if let Some(name) = &self.machine {
            let now = MachineConfig::parse(&self.path, text, &self.defaults).ok();
            let heading = format!("{} {name}", keys::MACHINE.title);
            self.add(&mut settings, &keys::MACHINE, &heading, text, &self.defaults, |pair| {
                now.as_ref().is_some_and(|now| running.waits(Some(name), pair, now))
            });
        } else {
            let now = Config::parse(&self.path, text).ok();
            for section in &keys::CONFIG {
                self.add(&mut settings, section, section.title, text, &Config::default(), |pair| {
                    now.as_ref().is_some_and(|now| running.waits(None, pair, now))
                });
            }
        }
        settings
    }

    fn add<T>(
        &self,
        settings: &mut Vec<Setting>,
        section: &Section<T>,
        heading: &str,
        text: &str,
        default: &T,
        waits: impl Fn((&Section<T>, &Key<T>)) -> bool,
    ) {
        for key in section.keys {
            let pair = (section, key);
            settings.push(form::setting(pair, &self.id, heading, text, default, waits(pair)));
        }
    }
}

/// Every settings file: `config.toml`, then each machine's.
fn files(inner: &Inner) -> Result<Vec<File>, Failure> {
    let home = &inner.home;
    // This writes the file with its comments if there is none. Its errors are reported with the file.
    let defaults = Config::load(home).unwrap_or_default().machine;
    let file = |id, path, machine| File { id, path, machine, defaults: defaults.clone() };
    let mut files = vec![file("config".to_owned(), home.config_file(), None)];
    let machines = home.machines()?;
    for name in machines {
        let path = home.machine(&name).settings();
        files.push(file(format!("machine/{name}"), path, Some(name)));
    }
    Ok(files)
}

pub(crate) async fn get(inner: &Arc<Inner>, _: Empty) -> Result<Settings, Failure> {
    let running = Running::look(inner).await;
    let mut all = Settings { files: Vec::new(), settings: Vec::new() };
    for file in files(inner)? {
        let (text, error) = match file.text() {
            Ok(text) => {
                let error = file.check(&text).err().map(Failure::from);
                (text, error)
            }
            Err(failure) => (String::new(), Some(failure)),
        };
        all.settings.extend(file.settings(&text, &running));
        all.files.push(SettingsFile { id: file.id, path: file.path.display().to_string(), error });
    }
    Ok(all)
}

pub(crate) async fn change(inner: &Arc<Inner>, asked: SettingChange) -> Result<Setting, Failure> {
    let files = files(inner)?;
    let file = files
        .iter()
        .find(|file| file.id == asked.file)
        .ok_or_else(|| failure::coded("not-found", format!("unknown settings file {:?}", asked.file)))?;
    let running = Running::look(inner).await;
    let setting = |text: &str| {
        file.settings(text, &running).into_iter().find(|setting| setting.key == asked.key).ok_or_else(|| {
            failure::coded("not-found", format!("{} has no setting {:?}", file.path.display(), asked.key))
        })
    };
    let text = file.text()?;
    let before = setting(&text)?;
    file.check(&text)?;
    let changed = edit::change(&text, &asked.key, asked.value.as_ref(), &before.default)
        .map_err(|error| failure::unexpected(error.to_string()))?;
    // The line of the error is that of a file that is never written, so only the sentence helps.
    if let Err(error) = file.check(&changed) {
        return Err(match error {
            ConfigError::Invalid { problem, .. } => failure::coded("config-invalid", problem),
            ConfigError::Io { .. } => error.into(),
        });
    }
    if changed != text {
        replace(&file.path, &changed).map_err(|error| {
            failure::advised!(
                "config-unwritable",
                format!("cannot write {}: {error}", file.path.display()),
                "check its permissions and the free space on its disk",
            )
        })?;
    }
    setting(&changed)
}

/// Replaces a file by rename and keeps its permissions. Follows a link, so that it stays one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let aside = path.with_extension("toml.new");
    let mut file = fs::File::create(&aside)?;
    if let Ok(metadata) = fs::metadata(&path) {
        file.set_permissions(metadata.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&aside, &path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rorqual_engine::home::Home;

    use crate::contract::{Platform, SettingKind, SettingValue};

    fn inner() -> (tempfile::TempDir, Arc<Inner>) {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::at(parent.path().join("h")).unwrap();
        let paths = home.create_machine(&MachineName::default()).unwrap();
        MachineConfig::load(&paths, &MachineConfig { cpus: 4, ..MachineConfig::default() }).unwrap();
        let docker = rorqual_engine::docker::Docker::at(home.docker_socket());
        (parent, Arc::new(Inner { home, docker, platform: Platform::Web, program: PathBuf::new() }))
    }

    fn asked(file: &str, key: &str, value: Option<SettingValue>) -> SettingChange {
        SettingChange { file: file.to_owned(), key: key.to_owned(), value }
    }

    #[tokio::test]
    async fn every_key_of_the_files_is_a_setting() {
        let (_parent, inner) = inner();
        let all = get(&inner, Empty {}).await.unwrap();
        assert!(all.files.iter().all(|file| file.error.is_none()));
        let of_config = all.settings.iter().filter(|setting| setting.file == "config");
        let keys = keys::CONFIG.iter().flat_map(|section| section.keys.iter().map(|key| section.path(key)));
        assert!(of_config.clone().map(|setting| setting.key.clone()).eq(keys));
        assert!(of_config.clone().all(|setting| setting.value == setting.default));
        let mut headings: Vec<_> = of_config.map(|setting| setting.section.as_str()).collect();
        headings.dedup();
        assert!(headings.contains(&"Container names") && headings.len() == keys::CONFIG.len(), "{headings:?}");
        let cpus =
            all.settings.iter().find(|setting| setting.file == "machine/default" && setting.key == "cpus").unwrap();
        assert_eq!(cpus.value, SettingValue::Integer(4));
        assert!(matches!(cpus.kind, SettingKind::Integer { minimum: 1, .. }));
    }

    #[tokio::test]
    async fn a_change_is_read_back_and_taken_back() {
        let (_parent, inner) = inner();
        let before = get(&inner, Empty {}).await.unwrap();
        let text = fs::read_to_string(inner.home.config_file()).unwrap();
        for setting in &before.settings {
            let value = match (&setting.kind, &setting.value) {
                (SettingKind::Switch, SettingValue::Switch(on)) => SettingValue::Switch(!on),
                (SettingKind::Integer { .. }, SettingValue::Integer(number)) => SettingValue::Integer(number + 1),
                (SettingKind::Choice { choices }, _) => SettingValue::Text(choices[1].value.clone()),
                (SettingKind::Text { placeholder }, _) => SettingValue::Text(placeholder.clone()),
                other => panic!("{other:?}"),
            };
            let changed = change(&inner, asked(&setting.file, &setting.key, Some(value.clone()))).await.unwrap();
            assert_eq!(changed.value, value);
            // No daemon runs, so the next one reads it.
            assert!(!changed.waits && !changed.takes_effect_note.is_empty());
            let back = change(&inner, asked(&setting.file, &setting.key, None)).await.unwrap();
            assert_eq!(back.value, setting.default);
        }
        assert_eq!(fs::read_to_string(inner.home.config_file()).unwrap(), text);
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_and_the_file_stays() {
        let (_parent, inner) = inner();
        get(&inner, Empty {}).await.unwrap();
        let text = fs::read_to_string(inner.home.config_file()).unwrap();
        for (key, value, words) in [
            ("machine.cpus", SettingValue::Integer(0), "from 1 to 64"),
            ("machine.accelerator", SettingValue::Text("tcg".to_owned()), "one of"),
            ("network.host_access", SettingValue::Text("yes".to_owned()), "true or false"),
            ("network.subnet", SettingValue::Text("10.0.0.0/30".to_owned()), "16 addresses"),
        ] {
            let failure = change(&inner, asked("config", key, Some(value))).await.unwrap_err();
            assert_eq!(failure.code, "config-invalid");
            assert!(failure.message.contains(words), "{}", failure.message);
        }
        assert_eq!(change(&inner, asked("config", "machine.name", None)).await.unwrap_err().code, "not-found");
        assert_eq!(change(&inner, asked("machine/other", "cpus", None)).await.unwrap_err().code, "not-found");
        assert_eq!(fs::read_to_string(inner.home.config_file()).unwrap(), text);
    }

    #[tokio::test]
    async fn a_damaged_file_is_told_of_and_never_changed() {
        let (_parent, inner) = inner();
        fs::write(inner.home.config_file(), "[machine\n").unwrap();
        let all = get(&inner, Empty {}).await.unwrap();
        assert!(all.files[0].error.as_ref().unwrap().message.contains("not TOML"));
        let failure =
            change(&inner, asked("config", "machine.cpus", Some(SettingValue::Integer(1)))).await.unwrap_err();
        assert_eq!(failure.code, "config-invalid");
        assert_eq!(fs::read_to_string(inner.home.config_file()).unwrap(), "[machine\n");
    }

    #[tokio::test]
    async fn a_link_to_settings_stays_a_link() {
        let (parent, inner) = inner();
        get(&inner, Empty {}).await.unwrap();
        let elsewhere = parent.path().join("dotfiles.toml");
        fs::rename(inner.home.config_file(), &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, inner.home.config_file()).unwrap();
        change(&inner, asked("config", "machine.cpus", Some(SettingValue::Integer(7)))).await.unwrap();
        assert!(inner.home.config_file().is_symlink());
        assert_eq!(Config::load(&inner.home).unwrap().machine.cpus, 7);
    }
}
