//! Settings: read, and changed one by one. What a change makes of a file is read by the same strict reader before it
//! takes the file's place.

mod edit;
mod schema;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use schema::Key;

use super::{
    Inner,
    contract::{Empty, Failure, Setting, SettingChange, SettingChanged, Settings, SettingsFile, TakesEffect},
    failure,
};
use rorqual_engine::{
    api::{self, machine_status::State},
    config::{Config, ConfigError, MachineConfig},
    home::MachineName,
};

/// A settings file with what may be in it.
struct File {
    id: String,
    path: PathBuf,
    keys: Vec<Key>,
    /// A machine's; else `config.toml`.
    machine: Option<MachineName>,
}

impl File {
    fn check(&self, text: &str) -> Result<(), ConfigError> {
        match self.machine {
            Some(_) => MachineConfig::parse(&self.path, text, &MachineConfig::default()).map(drop),
            None => Config::parse(&self.path, text).map(drop),
        }
    }

    fn text(&self) -> Result<String, Failure> {
        match fs::read_to_string(&self.path) {
            // It is written when the machine or the daemon first starts.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other.map_err(|error| {
                let message = format!("cannot read {}: {error}", self.path.display());
                failure::coded("config-unreadable", message, "check its permissions")
            }),
        }
    }

    fn setting(&self, key: &Key, text: &str) -> Setting {
        Setting {
            file: self.id.clone(),
            key: key.name.to_owned(),
            title: key.title.to_owned(),
            description: key.description.to_owned(),
            kind: key.kind.clone(),
            value: edit::read(text, key.name).unwrap_or_else(|| key.default.clone()),
            default: key.default.clone(),
            takes_effect: key.takes_effect,
        }
    }
}

/// Every settings file: the one for all, then each machine's.
fn files(inner: &Inner) -> Result<Vec<File>, Failure> {
    let home = &inner.home;
    // Writes the file with its comments when there is none; damaged settings are told of as such.
    let config = Config::load(home).unwrap_or_default();
    let mut files =
        vec![File { id: "config".to_owned(), path: home.config_file(), keys: schema::config(), machine: None }];
    let machines = home.machines()?;
    for name in machines {
        let path = home.machine(&name).settings();
        let keys = schema::machine(&config.machine);
        files.push(File { id: format!("machine/{name}"), path, keys, machine: Some(name) });
    }
    Ok(files)
}

pub(super) async fn get(inner: &Arc<Inner>, _: Empty) -> Result<Settings, Failure> {
    let mut all = Settings { files: Vec::new(), settings: Vec::new() };
    for file in files(inner)? {
        let (text, error) = match file.text() {
            Ok(text) => {
                let error = file.check(&text).err().map(|error| error.to_string());
                (text, error)
            }
            Err(failure) => (String::new(), Some(failure.message)),
        };
        all.settings.extend(file.keys.iter().map(|key| file.setting(key, &text)));
        all.files.push(SettingsFile { id: file.id, path: file.path.display().to_string(), error });
    }
    Ok(all)
}

pub(super) async fn change(inner: &Arc<Inner>, asked: SettingChange) -> Result<SettingChanged, Failure> {
    let files = files(inner)?;
    let file = files
        .iter()
        .find(|file| file.id == asked.file)
        .ok_or_else(|| failure::coded("not-found", format!("there is no settings file {:?}", asked.file), None))?;
    let key = file.keys.iter().find(|key| key.name == asked.key).ok_or_else(|| {
        failure::coded("not-found", format!("{} has no setting {:?}", file.path.display(), asked.key), None)
    })?;
    let text = file.text()?;
    file.check(&text)?;
    let changed = edit::change(&text, key.name, asked.value.as_ref(), &key.default)
        .map_err(|error| failure::unexpected(error.to_string()))?;
    // The line of the complaint is of a file that is never written: the sentence alone is what helps.
    if let Err(error) = file.check(&changed) {
        return Err(match error {
            ConfigError::Invalid { problem, .. } => failure::coded("config-invalid", problem, None),
            ConfigError::Io { .. } => error.into(),
        });
    }
    if changed != text {
        replace(&file.path, &changed).map_err(|error| {
            failure::coded(
                "config-unwritable",
                format!("cannot write {}: {error}", file.path.display()),
                "check its permissions and the space on its disk",
            )
        })?;
    }
    let (applied, reason) = applied(inner, key.takes_effect, file.machine.as_ref()).await;
    Ok(SettingChanged { setting: file.setting(key, &changed), applied, reason })
}

/// Replaces a file at once or not at all, through a link to where it leads, with the permissions it had.
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

/// Whether a change counts already, and if not, why.
async fn applied(inner: &Inner, takes_effect: TakesEffect, machine: Option<&MachineName>) -> (bool, String) {
    let daemon = inner.daemon().await.ok();
    let reason = match takes_effect {
        TakesEffect::AtOnce => String::new(),
        TakesEffect::NewMachine => {
            "It counts for machines that are made later; those there are have their own.".to_owned()
        }
        TakesEffect::DaemonStart if daemon.is_none() => String::new(),
        TakesEffect::DaemonStart => "The daemon reads it when it starts. Machines go on while it does.".to_owned(),
        TakesEffect::MachineStart => {
            let machine = machine.map(ToString::to_string).unwrap_or_default();
            let status = match daemon {
                Some(mut client) => client.status(api::StatusRequest { machine }).await.ok(),
                None => None,
            };
            let state =
                status.and_then(|reply| reply.into_inner().machine).map_or(State::Stopped, |machine| machine.state());
            match state {
                State::Stopped | State::Failed | State::Unspecified => String::new(),
                State::Suspended => {
                    "The machine is saved as it was; it counts when the machine boots again.".to_owned()
                }
                _ => "The machine runs with what it was started with; restart it for this to count.".to_owned(),
            }
        }
    };
    (reason.is_empty(), reason)
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
        // The written files are the manual: they name every key.
        let config = fs::read_to_string(inner.home.config_file()).unwrap();
        let written = config.lines().filter(|line| {
            line.strip_prefix("# ").and_then(|line| line.split_once(" = ")).is_some_and(|(key, _)| !key.contains(' '))
        });
        let of_config = all.settings.iter().filter(|setting| setting.file == "config");
        assert_eq!(of_config.clone().count(), written.count());
        assert!(of_config.into_iter().all(|setting| setting.value == setting.default));
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
            assert_eq!(changed.setting.value, value);
            assert_eq!(changed.applied, changed.reason.is_empty());
            let back = change(&inner, asked(&setting.file, &setting.key, None)).await.unwrap();
            assert_eq!(back.setting.value, setting.default);
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
        assert!(all.files[0].error.as_deref().unwrap().contains("not TOML"));
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
