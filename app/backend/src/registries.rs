//! Registries and logins. Uses Docker's own `config.json` and credential stores, so that a terminal and the window
//! share logins.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command};

use super::{
    Inner,
    contract::{Empty, Failure, ImageFound, Registry, RegistryLogin, RegistryTarget},
    failure,
};
use rorqual_engine::{
    config::Config,
    docker::{DockerError, Query},
    error::Coded,
    image::Image,
};

/// Key of the default registry in `config.json`.
const DEFAULT_REGISTRY: &str = "https://index.docker.io/v1/";

/// The parts of Docker's `config.json` that are read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DockerConfig {
    auths: BTreeMap<String, Value>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

/// The directory of Docker's `config.json`.
pub(super) fn config_directory() -> Result<PathBuf, Failure> {
    let chosen = env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let usual = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
    chosen.or_else(usual).ok_or_else(|| {
        failure::advised!(
            "no-home",
            "Docker's configuration cannot be found: neither HOME nor DOCKER_CONFIG is set",
            "set HOME",
        )
    })
}

fn read(directory: &Path) -> Result<DockerConfig, Failure> {
    let file = directory.join("config.json");
    match std::fs::read(&file) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| {
            failure::advised!(
                "config-invalid",
                format!("{} cannot be read: {error}", file.display()),
                "correct the file in an editor; docker in a terminal cannot read it either",
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(DockerConfig::default()),
        Err(error) => {
            let message = format!("cannot read {}: {error}", file.display());
            Err(failure::advised!("config-unreadable", message, "check its permissions"))
        }
    }
}

/// Whether the first part of a reference is a registry: it contains a dot or a port, or is localhost (the rule of the
/// distribution project).
pub(super) fn is_host(part: &str) -> bool {
    part.contains('.') || part.contains(':') || part == "localhost"
}

/// The registry of an image's name, by its key in `config.json`.
fn registry_of(name: &str) -> &str {
    match name.split_once('/') {
        Some((host, _)) if is_host(host) => host,
        _ => DEFAULT_REGISTRY,
    }
}

pub(super) async fn list(_: &Arc<Inner>, _: Empty) -> Result<Vec<Registry>, Failure> {
    let config = read(&config_directory()?)?;
    let mut registries = BTreeMap::new();
    for (host, entry) in &config.auths {
        let helper = config.cred_helpers.get(host).or(config.creds_store.as_ref());
        let user = match helper {
            Some(_) => String::new(),
            None => entry["auth"].as_str().and_then(decode).map(|(user, _)| user).unwrap_or_default(),
        };
        registries.insert(
            host.clone(),
            Registry { host: host.clone(), user, store: helper.map_or("config.json".to_owned(), Clone::clone) },
        );
    }
    let stores: Vec<String> = config.creds_store.iter().chain(config.cred_helpers.values()).cloned().collect();
    for store in stores {
        // If a store does not respond, its logins are still known by name from `auths`.
        for (host, user) in stored(&store).await.unwrap_or_default() {
            registries.insert(host.clone(), Registry { host, user, store: store.clone() });
        }
    }
    Ok(registries.into_values().collect())
}

pub(super) async fn login(inner: &Arc<Inner>, asked: RegistryLogin) -> Result<Empty, Failure> {
    if asked.host.starts_with('-') || asked.user.starts_with('-') {
        return Err(failure::bad_request("a registry or user name cannot start with a dash"));
    }
    let mut arguments = vec!["login", "--username", &asked.user, "--password-stdin"];
    if !asked.host.is_empty() {
        arguments.push(&asked.host);
    }
    docker(inner, &arguments, Some(&asked.password)).await
}

pub(super) async fn logout(inner: &Arc<Inner>, asked: RegistryTarget) -> Result<Empty, Failure> {
    if asked.host.starts_with('-') {
        return Err(failure::bad_request("a registry name cannot start with a dash"));
    }
    let host = if asked.host == DEFAULT_REGISTRY { Vec::new() } else { vec![asked.host.as_str()] };
    docker(inner, &[vec!["logout"], host].concat(), None).await
}

/// The docker client: from the state directory, the guest image, or the system.
pub(super) fn client_program(inner: &Inner) -> PathBuf {
    let config = Config::load(&inner.home).unwrap_or_default();
    let own = inner.home.bin_directory().join("docker");
    let of_image = Image::locate(&inner.home, &config).ok().map(|image| image.directory().join("bin/docker"));
    [Some(own), of_image]
        .into_iter()
        .flatten()
        .find(|program| program.exists())
        .unwrap_or_else(|| PathBuf::from("docker"))
}

/// Runs the docker client against the machine's engine.
async fn docker(inner: &Inner, arguments: &[&str], input: Option<&str>) -> Result<Empty, Failure> {
    let program = client_program(inner);
    let mut child = Command::new(&program)
        .args(arguments)
        .env("DOCKER_HOST", format!("unix://{}", inner.home.docker_socket().display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            failure::advised!(
                "docker-client-missing",
                format!("cannot run {}: {error}", program.display()),
                "install the docker client",
            )
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        // If the client exited early, its output tells why.
        stdin.write_all(input.unwrap_or_default().as_bytes()).await.ok();
    }
    let output = child.wait_with_output().await.map_err(|error| failure::unexpected(error.to_string()))?;
    if output.status.success() {
        return Ok(Empty {});
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // The error is the last line, after warnings.
    let message = said
        .lines()
        .rfind(|line| !line.trim().is_empty() && !line.starts_with("WARNING"))
        .unwrap_or("docker failed")
        .to_owned();
    let code = if message.contains("unauthorized") || message.contains("incorrect username") {
        "not-allowed"
    } else {
        "registry-failed"
    };
    Err(failure::coded(code, message))
}

/// Decodes `user:password` from base64.
fn decode(text: &str) -> Option<(String, String)> {
    let bytes = base64_decode(text)?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// Passwords and tokens in `config.json`, in every form they take there, for redaction.
pub(super) fn secrets() -> Vec<String> {
    let Ok(config) = config_directory().and_then(|directory| read(&directory)) else { return Vec::new() };
    let mut secrets = Vec::new();
    for entry in config.auths.values() {
        for field in ["auth", "password", "identitytoken", "registrytoken"] {
            let Some(text) = entry[field].as_str().filter(|text| !text.is_empty()) else { continue };
            secrets.push(text.to_owned());
            secrets.extend(decode(text).map(|(_, password)| password));
        }
    }
    secrets
}

/// Queries a credential store by its own protocol: a verb, and its subject on standard input.
async fn ask_store(store: &str, verb: &str, input: &str) -> Option<Value> {
    let mut child = Command::new(format!("docker-credential-{store}"))
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(input.as_bytes()).await.ok()?;
    let output = child.wait_with_output().await.ok()?;
    output.status.success().then(|| serde_json::from_slice(&output.stdout).ok()).flatten()
}

async fn stored(store: &str) -> Option<Vec<(String, String)>> {
    let answer = ask_store(store, "list", "").await?;
    let entries = answer.as_object()?.iter();
    Some(entries.map(|(host, user)| (host.clone(), user.as_str().unwrap_or_default().to_owned())).collect())
}

/// The engine's header for an image's registry; `None` without a login.
pub(super) async fn authentication(name: &str) -> Option<String> {
    let config = read(&config_directory().ok()?).ok()?;
    let host = registry_of(name);
    let helper = config.cred_helpers.get(host).or(config.creds_store.as_ref());
    let (user, password) = match helper {
        Some(store) => {
            let answer = ask_store(store, "get", host).await?;
            (answer["Username"].as_str()?.to_owned(), answer["Secret"].as_str()?.to_owned())
        }
        None => decode(config.auths.get(host)?["auth"].as_str()?)?,
    };
    Some(base64_encode(json!({"username": user, "password": password, "serveraddress": host}).to_string().as_bytes()))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// base64 with the URL-safe alphabet, which the engine expects in its header (RFC 4648 §5).
fn base64_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let sign = ALPHABET[(number >> (18 - 6 * index) & 63) as usize];
            text.push(if index > chunk.len() { '=' } else { char::from(sign) });
        }
    }
    text
}

pub(super) fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut number, mut bits) = (0u32, 0);
    for byte in text.trim().trim_end_matches('=').bytes() {
        let byte = match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => other,
        };
        number = number << 6 | u32::try_from(ALPHABET.iter().position(|sign| *sign == byte)?).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((number >> bits) as u8);
            number &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

/// The image with exactly this name, if its registry has it. The engine sends the request, so a registry is found
/// wherever a pull finds it; its API allows only one image.
pub(super) async fn catalog(inner: &Inner, host: &str, words: &str) -> Result<Vec<ImageFound>, Failure> {
    let reference = format!("{host}/{words}");
    let found: Result<Value, DockerError> = inner.docker.get(&Query::new("/distribution/{}/json", &[&reference])).await;
    match found {
        Ok(_) => {
            Ok(vec![ImageFound { reference, description: "in this registry".to_owned(), stars: None, official: false }])
        }
        Err(error) if error.code() == "not-found" || error.to_string().contains("manifest unknown") => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_goes_both_ways() {
        for text in ["", "u", "us", "use", "user:pässword?>"] {
            assert_eq!(base64_decode(&base64_encode(text.as_bytes())).unwrap(), text.as_bytes());
        }
        assert_eq!(base64_encode(b"{}"), "e30=");
        assert_eq!(decode("dXNlcjpwYXNz"), Some(("user".to_owned(), "pass".to_owned())));
        assert_eq!(decode("no base64!"), None);
    }

    #[test]
    fn a_name_leads_to_its_registry() {
        assert_eq!(registry_of("localhost:5000/web"), "localhost:5000");
        assert_eq!(registry_of("example.test/a/b"), "example.test");
        assert_eq!(registry_of("library/nginx"), DEFAULT_REGISTRY);
        assert_eq!(registry_of("nginx"), DEFAULT_REGISTRY);
    }
}
