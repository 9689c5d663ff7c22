//! The docker context of a machine, in the docker client's own configuration directory.
//!
//! Docker stores a context as `contexts/meta/<sha256 of the name>/meta.json`, and the name of the current one as
//! `currentContext` in `config.json`. Both belong to the user: Rorqual never changes a context it did not create, never
//! writes a damaged `config.json`, and keeps the position of every other key. Files are replaced by rename, so that
//! another client never reads half of one.

use std::{
    env, fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use rorqual_engine::error::Coded;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, ser::PrettyFormatter};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::exit::Exit;

/// Description that docker shows beside the context. It also marks a context as ours.
const DESCRIPTION: &str = "Rorqual";

/// Docker's name for "no context": the local engine.
const DOCKER_DEFAULT: &str = "default";

const CURRENT_CONTEXT: &str = "currentContext";
/// Key of the proxies for builds and containers, by the engine's address.
const PROXIES: &str = "proxies";

/// Why docker's configuration could not be read or changed.
#[derive(Debug, Error)]
pub(crate) enum ContextError {
    #[error("cannot find docker's configuration: neither DOCKER_CONFIG nor HOME is set")]
    Nowhere,
    #[error("cannot {action} {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("docker's {path} is damaged ({reason}), so it was left as it is")]
    Damaged { path: PathBuf, reason: String },
    #[error("a docker context named {name} exists that Rorqual did not make ({path})")]
    Foreign { name: String, path: PathBuf },
}

impl ContextError {
    /// The exit status of a command that fails with this error.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Damaged { .. } => Exit::BadConfiguration,
            Self::Nowhere | Self::Io { .. } | Self::Foreign { .. } => Exit::Failed,
        }
    }
}

impl Coded for ContextError {
    fn code(&self) -> &'static str {
        match self {
            Self::Nowhere => "docker-config-missing",
            Self::Io { .. } => "docker-config-unusable",
            Self::Damaged { .. } => "docker-config-damaged",
            Self::Foreign { .. } => "docker-context-foreign",
        }
    }

    fn fix(&self) -> Option<String> {
        Some(match self {
            Self::Nowhere => "set DOCKER_CONFIG to docker's directory".to_owned(),
            Self::Io { path, .. } => format!("check the permissions of {} and the space on its disk", path.display()),
            Self::Damaged { path, .. } => format!("correct {} or move it away, then try again", path.display()),
            Self::Foreign { name, .. } => {
                format!("remove it with `docker context rm {name}`, or use the machine with `eval \"$(rorqual env)\"`")
            }
        })
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ContextError {
    move |source| ContextError::Io { action, path: path.to_owned(), source }
}

/// Docker's configuration directory.
#[derive(Clone, Debug)]
pub(crate) struct DockerConfig {
    directory: PathBuf,
}

/// The content of `meta.json`, with docker's spelling and order.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    name: String,
    metadata: Metadata,
    endpoints: Endpoints,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    #[serde(default)]
    description: String,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Endpoints {
    docker: Endpoint,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Endpoint {
    #[serde(rename = "Host")]
    host: String,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

/// The state of a context in docker's configuration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Absent,
    /// Created by Rorqual, with its endpoint.
    Ours(String),
    Foreign,
}

/// The result of ensuring that a context exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ensured {
    Created,
    Updated,
    Unchanged,
}

/// The name of a machine's context.
pub(crate) fn context_name(machine: &str) -> String {
    if machine == "default" { "rorqual".to_owned() } else { format!("rorqual-{machine}") }
}

/// The endpoint of a socket.
pub(crate) fn endpoint(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

impl DockerConfig {
    /// The directory docker uses: `DOCKER_CONFIG`, else `.docker` in the home directory.
    pub(crate) fn locate() -> Result<Self, ContextError> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        match (set("DOCKER_CONFIG"), set("HOME")) {
            (Some(directory), _) => Ok(Self { directory }),
            (None, Some(home)) => Ok(Self { directory: home.join(".docker") }),
            (None, None) => Err(ContextError::Nowhere),
        }
    }

    fn config_file(&self) -> PathBuf {
        self.directory.join("config.json")
    }

    fn meta_directory(&self, name: &str) -> PathBuf {
        let digest = Sha256::digest(name.as_bytes());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.directory.join("contexts").join("meta").join(digest)
    }

    /// The path of a context's `meta.json`.
    pub(crate) fn meta_file(&self, name: &str) -> PathBuf {
        self.meta_directory(name).join("meta.json")
    }

    /// Reads the state of the context.
    pub(crate) fn stored(&self, name: &str) -> Result<Stored, ContextError> {
        let path = self.meta_file(name);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stored::Absent),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        // A file of any other shape was not written by Rorqual.
        Ok(match serde_json::from_slice::<Meta>(&text) {
            Ok(meta) if meta.name == name && meta.metadata.description.starts_with(DESCRIPTION) => {
                Stored::Ours(meta.endpoints.docker.host)
            }
            _ => Stored::Foreign,
        })
    }

    /// Makes the context point at `endpoint`: creates it if it is absent, updates it if it is ours and differs.
    pub(crate) fn ensure(&self, name: &str, endpoint: &str) -> Result<Ensured, ContextError> {
        let ensured = match self.stored(name)? {
            Stored::Ours(host) if host == endpoint => return Ok(Ensured::Unchanged),
            Stored::Ours(_) => Ensured::Updated,
            Stored::Absent => Ensured::Created,
            Stored::Foreign => {
                return Err(ContextError::Foreign { name: name.to_owned(), path: self.meta_file(name) });
            }
        };
        let meta = Meta {
            name: name.to_owned(),
            metadata: Metadata { description: DESCRIPTION.to_owned() },
            endpoints: Endpoints { docker: Endpoint { host: endpoint.to_owned(), skip_tls_verify: false } },
        };
        let path = self.meta_file(name);
        let text = serde_json::to_vec(&meta).map_err(|error| io_error("write", &path)(error.into()))?;
        let directory = self.meta_directory(name);
        fs::create_dir_all(&directory).map_err(io_error("create", &directory))?;
        replace(&path, &text, 0o644)?;
        Ok(ensured)
    }

    /// Removes the context if it is ours. Returns whether it existed.
    pub(crate) fn remove(&self, name: &str) -> Result<bool, ContextError> {
        match self.stored(name)? {
            Stored::Absent => Ok(false),
            Stored::Foreign => Err(ContextError::Foreign { name: name.to_owned(), path: self.meta_file(name) }),
            Stored::Ours(_) => {
                let directory = self.meta_directory(name);
                fs::remove_dir_all(&directory).map_err(io_error("remove", &directory))?;
                Ok(true)
            }
        }
    }

    /// The context named in `config.json`; `None` means docker's default.
    pub(crate) fn current(&self) -> Result<Option<String>, ContextError> {
        let (_, document) = self.read_config()?;
        Ok(current_of(&document))
    }

    /// Makes `name` the current context (`None` means docker's default) and returns the previous one. Writes nothing if
    /// it is current already.
    pub(crate) fn set_current(&self, name: Option<&str>) -> Result<Option<String>, ContextError> {
        let (text, mut document) = self.read_config()?;
        let before = current_of(&document);
        if before.as_deref() == name {
            return Ok(before);
        }
        match name {
            Some(name) => {
                document.insert(CURRENT_CONTEXT.to_owned(), Value::String(name.to_owned()));
            }
            // `shift_remove` preserves the order of the other keys.
            None => {
                document.shift_remove(CURRENT_CONTEXT);
            }
        }
        self.write_config(&text, &document)?;
        Ok(before)
    }

    /// Sets the proxies for builds and containers of the engine at `endpoint`; `None` removes them. Writes nothing if
    /// nothing changes.
    pub(crate) fn set_proxies(&self, endpoint: &str, proxies: Option<Value>) -> Result<(), ContextError> {
        let (text, mut document) = self.read_config()?;
        if document.get(PROXIES).and_then(|all| all.get(endpoint)) == proxies.as_ref() {
            return Ok(());
        }
        let all = document.entry(PROXIES).or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(all) = all else {
            let reason = format!("{PROXIES} is not an object");
            return Err(ContextError::Damaged { path: self.config_file(), reason });
        };
        match proxies {
            Some(proxies) => {
                all.insert(endpoint.to_owned(), proxies);
            }
            None => {
                all.shift_remove(endpoint);
            }
        }
        if all.is_empty() {
            document.shift_remove(PROXIES);
        }
        self.write_config(&text, &document)
    }

    /// Writes `document` in the style of `text`, which it replaces.
    fn write_config(&self, text: &str, document: &Map<String, Value>) -> Result<(), ContextError> {
        let path = self.config_file();
        let indent = indent_of(text);
        let mut bytes = Vec::with_capacity(text.len() + 64);
        let mut serializer =
            serde_json::Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(indent.as_bytes()));
        document.serialize(&mut serializer).map_err(|error| io_error("write", &path)(error.into()))?;
        if text.ends_with('\n') {
            bytes.push(b'\n');
        }
        fs::create_dir_all(&self.directory).map_err(io_error("create", &self.directory))?;
        replace(&path, &bytes, 0o600)
    }

    /// The text of `config.json` and its parsed object; both empty if the file does not exist.
    fn read_config(&self) -> Result<(String, Map<String, Value>), ContextError> {
        let path = self.config_file();
        let damaged = |reason: String| ContextError::Damaged { path: path.clone(), reason };
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((String::new(), Map::new())),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let text = String::from_utf8(bytes).map_err(|_| damaged("it is not UTF-8 text".to_owned()))?;
        let document = match serde_json::from_str(&text) {
            Ok(Value::Object(document)) => document,
            Ok(_) => return Err(damaged("it holds no JSON object".to_owned())),
            Err(error) => return Err(damaged(error.to_string())),
        };
        if document.get(CURRENT_CONTEXT).is_some_and(|value| !value.is_string()) {
            return Err(damaged(format!("{CURRENT_CONTEXT} is not a string")));
        }
        Ok((text, document))
    }
}

fn current_of(document: &Map<String, Value>) -> Option<String> {
    let name = document.get(CURRENT_CONTEXT)?.as_str()?;
    (!name.is_empty() && name != DOCKER_DEFAULT).then(|| name.to_owned())
}

/// The indentation of a JSON text; docker's own is a tab.
fn indent_of(text: &str) -> &str {
    let indented = text.lines().skip(1).find_map(|line| {
        let content = line.trim_start_matches([' ', '\t']);
        line.strip_suffix(content).filter(|indent| !indent.is_empty())
    });
    indented.unwrap_or("\t")
}

/// Replaces a file by rename and keeps its permissions; a new file gets `mode`. Follows a symbolic link, so that it
/// stays one.
fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), ContextError> {
    use std::os::unix::fs::PermissionsExt;

    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let permissions = match fs::metadata(&target) {
        Ok(metadata) => metadata.permissions(),
        Err(_) => fs::Permissions::from_mode(mode),
    };
    let directory = target.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".rorqual-")
        .permissions(permissions)
        .tempfile_in(directory)
        .map_err(io_error("write in", directory))?;
    file.write_all(content).and_then(|()| file.as_file().sync_all()).map_err(io_error("write", &target))?;
    file.persist(&target).map_err(|error| io_error("replace", &target)(error.error))?;
    Ok(())
}

/// Records, in our own state directory, which context was current before `rorqual context use`.
#[derive(Debug)]
pub(crate) struct Previous {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct PreviousDocument {
    /// `None` means docker's default.
    previous: Option<String>,
}

impl Previous {
    pub(crate) fn in_directory(root: &Path) -> Self {
        Self { path: root.join("docker-context.json") }
    }

    /// The recorded name; `None` also if nothing is recorded.
    pub(crate) fn recall(&self) -> Option<String> {
        let text = fs::read(&self.path).ok()?;
        serde_json::from_slice::<PreviousDocument>(&text).ok()?.previous
    }

    pub(crate) fn remember(&self, previous: Option<String>) -> Result<(), ContextError> {
        let text = serde_json::to_vec(&PreviousDocument { previous })
            .map_err(|error| io_error("write", &self.path)(error.into()))?;
        replace(&self.path, &text, 0o600)
    }

    pub(crate) fn forget(&self) -> Result<(), ContextError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &self.path)(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn config() -> (tempfile::TempDir, DockerConfig) {
        let directory = tempfile::tempdir().unwrap();
        let config = DockerConfig { directory: directory.path().join("docker") };
        (directory, config)
    }

    fn with_config(text: &str) -> (tempfile::TempDir, DockerConfig) {
        let (directory, config) = config();
        fs::create_dir(&config.directory).unwrap();
        fs::write(config.config_file(), text).unwrap();
        (directory, config)
    }

    #[test]
    fn proxies_are_for_one_engine_and_leave_all_else_alone() {
        let directory = tempfile::tempdir().unwrap();
        let config = DockerConfig { directory: directory.path().to_owned() };
        let path = config.config_file();
        let ours = serde_json::json!({"httpProxy": "http://p:1"});
        config.set_proxies("unix:///a.sock", None).unwrap();
        assert!(!path.exists());
        let before =
            "{\n  \"auths\": {},\n  \"proxies\": {\n    \"default\": {\n      \"noProxy\": \"x\"\n    }\n  }\n}\n";
        fs::write(&path, before).unwrap();
        config.set_proxies("unix:///a.sock", Some(ours.clone())).unwrap();
        let (_, document) = config.read_config().unwrap();
        assert_eq!(document["proxies"], serde_json::json!({"default": {"noProxy": "x"}, "unix:///a.sock": ours}));
        config.set_proxies("unix:///a.sock", None).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), before);
        fs::write(&path, "{\"proxies\": 3}").unwrap();
        config.set_proxies("unix:///a.sock", Some(ours)).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"proxies\": 3}");
    }

    #[test]
    fn a_context_lies_where_docker_looks_and_in_its_words() {
        let (_directory, config) = config();
        assert_eq!(config.ensure("rorqual", "unix:///x/docker.sock").unwrap(), Ensured::Created);
        // sha256sum of the seven letters
        let digest = "d6e288762c4f63d466e9bed6c3fa8fe920ceda9b64b87ab853af6fc36c043010";
        let path = config.directory.join("contexts/meta").join(digest).join("meta.json");
        assert_eq!(
            fs::read_to_string(path).unwrap(),
            concat!(
                r#"{"Name":"rorqual","Metadata":{"Description":"Rorqual"},"#,
                r#""Endpoints":{"docker":{"Host":"unix:///x/docker.sock","SkipTLSVerify":false}}}"#
            )
        );
        assert_eq!(config.ensure("rorqual", "unix:///x/docker.sock").unwrap(), Ensured::Unchanged);
        assert_eq!(config.ensure("rorqual", "unix:///y/docker.sock").unwrap(), Ensured::Updated);
        assert_eq!(config.stored("rorqual").unwrap(), Stored::Ours("unix:///y/docker.sock".to_owned()));
        assert!(!config.config_file().exists(), "creating a context does not change the one in use");
    }

    #[test]
    fn a_context_of_somebody_else_is_left_alone() {
        let (_directory, config) = config();
        let path = config.meta_file("rorqual");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let theirs = r#"{"Name":"rorqual","Metadata":{},"Endpoints":{"docker":{"Host":"ssh://there"}}}"#;
        for text in [theirs, "not json"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(config.ensure("rorqual", "unix:///x"), Err(ContextError::Foreign { .. })));
            assert!(matches!(config.remove("rorqual"), Err(ContextError::Foreign { .. })));
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn changing_the_current_context_keeps_every_other_key_and_the_layout() {
        let before = "{\n\
            \t\"auths\": {\n\
            \t\t\"b.example\": {\n\t\t\t\"auth\": \"eDp5\"\n\t\t},\n\
            \t\t\"a.example\": {}\n\
            \t},\n\
            \t\"credsStore\": \"pass\",\n\
            \t\"currentContext\": \"mine\",\n\
            \t\"psFormat\": \"a\"\n\
            }";
        let (_directory, config) = with_config(before);
        fs::set_permissions(config.config_file(), fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(config.set_current(Some("rorqual")).unwrap(), Some("mine".to_owned()));
        let after = fs::read_to_string(config.config_file()).unwrap();
        assert_eq!(after, before.replace("mine", "rorqual"));
        assert_eq!(fs::metadata(config.config_file()).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(config.set_current(Some("mine")).unwrap(), Some("rorqual".to_owned()));
        assert_eq!(fs::read_to_string(config.config_file()).unwrap(), before);
    }

    #[test]
    fn going_back_to_the_default_takes_the_key_away_and_keeps_the_order() {
        let (_directory, config) =
            with_config("{\n  \"z\": 1,\n  \"currentContext\": \"rorqual\",\n  \"b\": 2,\n  \"a\": 3\n}\n");
        assert_eq!(config.set_current(None).unwrap(), Some("rorqual".to_owned()));
        assert_eq!(fs::read_to_string(config.config_file()).unwrap(), "{\n  \"z\": 1,\n  \"b\": 2,\n  \"a\": 3\n}\n");
    }

    #[test]
    fn a_damaged_config_is_refused_and_not_written() {
        for text in ["{\"auths\": {", "[]", "{\"currentContext\": 3}", ""] {
            let (_directory, config) = with_config(text);
            let error = config.set_current(Some("rorqual")).unwrap_err();
            assert!(matches!(error, ContextError::Damaged { .. }), "{text}: {error}");
            assert_eq!(fs::read_to_string(config.config_file()).unwrap(), text);
            assert_eq!(error.exit(), Exit::BadConfiguration);
        }
    }

    #[test]
    fn a_linked_config_stays_a_link() {
        let (directory, config) = with_config("{}");
        let elsewhere = directory.path().join("elsewhere.json");
        fs::rename(config.config_file(), &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, config.config_file()).unwrap();
        config.set_current(Some("rorqual")).unwrap();
        assert!(config.config_file().symlink_metadata().unwrap().is_symlink());
        assert!(fs::read_to_string(elsewhere).unwrap().contains("rorqual"));
    }

    #[test]
    fn without_a_config_one_is_made_that_only_its_owner_reads() {
        let (_directory, config) = config();
        assert_eq!(config.set_current(Some("rorqual")).unwrap(), None);
        assert_eq!(config.current().unwrap(), Some("rorqual".to_owned()));
        assert_eq!(fs::metadata(config.config_file()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_default_context_counts_as_none() {
        let (_directory, config) = with_config("{\"currentContext\": \"default\"}");
        assert_eq!(config.current().unwrap(), None);
    }

    #[test]
    fn what_was_current_before_is_remembered_until_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let previous = Previous::in_directory(directory.path());
        assert_eq!(previous.recall(), None);
        previous.remember(Some("mine".to_owned())).unwrap();
        assert_eq!(previous.recall(), Some("mine".to_owned()));
        previous.forget().unwrap();
        previous.forget().unwrap();
        assert_eq!(previous.recall(), None);
    }
}
