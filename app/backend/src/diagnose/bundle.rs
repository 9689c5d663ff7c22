//! Collects a zip for bug reports: logs, settings, versions, checks, and the engine's information, without secrets. It
//! is saved locally and sent nowhere.

use std::fmt::Write as _;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Cursor, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
};

use bytes::Bytes as Raw;
use serde_json::Value;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{examine, redact::Redaction};
use rorqual_engine::{
    api,
    docker::{DockerError, Query},
    error::Coded,
};

use crate::{
    Inner,
    contract::{Bytes, Check, Download, Empty, Failure, Verdict},
    failure, registries,
    stream::Channel,
};

/// Maximum size of a log's tail in the bundle: it holds what matters, and the bundle stays small enough to send.
const LOG_END: u64 = 1 << 20;
/// Maximum number of lines of each guest log.
const GUEST_LINES: u32 = 5000;
/// Maximum number of containers described.
const CONTAINERS: usize = 200;
const PIECE: usize = 64 << 10;

const README: &str = "\
Rorqual made this bundle for a bug report. It contains the ends of Rorqual's logs, its settings, checks and versions,
and the Docker Engine's information about itself and its containers (docker info, docker version, docker ps, docker
inspect). It contains no files and no logs of containers.

Secrets are replaced by (removed): registry logins; the values of variables, labels, fields and options whose names look
secret (password, token, key, ...), wherever else those values appear; credentials in URLs; and key blocks. Names of
containers, images, volumes and folders remain. Review the bundle before you send it.
";

pub(crate) async fn bundle(inner: Arc<Inner>, _: Empty, channel: Channel) -> Result<(), Failure> {
    let files = gather(&inner).await;
    let content = tokio::task::spawn_blocking(move || pack(files))
        .await
        .map_err(|error| failure::unexpected(error.to_string()))?
        .map_err(|error| failure::unexpected(format!("the bundle cannot be packed: {error}")))?;
    let content = Raw::from(content);
    channel
        .event(&Download { name: "rorqual-diagnosis.zip".to_owned(), size: Some(Bytes(content.len() as u64)) })
        .await?;
    for begin in (0..content.len()).step_by(PIECE) {
        channel.bytes(content.slice(begin..content.len().min(begin + PIECE))).await?;
    }
    Ok(())
}

/// Every file of the bundle by its name, without secrets. An unreadable file is replaced by the reason.
async fn gather(inner: &Inner) -> BTreeMap<String, String> {
    let mut redaction = Redaction::default();
    for secret in registries::secrets() {
        redaction.learn_value(&secret);
    }
    let mut documents = engine(inner).await;
    for document in documents.values() {
        learn(&mut redaction, document);
    }
    let mut files = BTreeMap::from([("README.txt".to_owned(), README.to_owned())]);
    for (name, document) in &mut documents {
        redaction.document(document);
        let text = serde_json::to_string_pretty(document).unwrap_or_else(|error| error.to_string());
        files.insert(format!("docker/{name}.json"), text);
    }
    let mut put = |name: String, text: String| files.insert(name, redaction.text(&text));
    put("checks.txt".to_owned(), checks_text(&examine(inner).await));
    put("versions.txt".to_owned(), versions(inner).await);
    put("config.toml".to_owned(), end_of(&inner.home.config_file()));
    put("logs/daemon.log".to_owned(), end_of(&inner.home.daemon_log()));
    for name in inner.home.machines().unwrap_or_default() {
        let paths = inner.home.machine(&name);
        for path in [paths.settings(), paths.vmm_config(), paths.vmm_log(), paths.console_log()] {
            let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            put(format!("machines/{name}/{file}"), end_of(&path));
        }
        if let Ok(log) = guest_logs(inner, name.as_str()).await {
            for (source, text) in log {
                put(format!("machines/{name}/{source}.log"), text);
            }
        }
    }
    files
}

/// Records the secrets in the variables of containers.
fn learn(redaction: &mut Redaction, document: &Value) {
    match document {
        Value::Array(items) => items.iter().for_each(|item| learn(redaction, item)),
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == "Env" {
                    redaction.learn(value.as_array().into_iter().flatten().filter_map(Value::as_str));
                } else {
                    learn(redaction, value);
                }
            }
        }
        _ => {}
    }
}

/// The engine's information about itself and its containers.
async fn engine(inner: &Inner) -> BTreeMap<&'static str, Value> {
    let ask = async |path: &str| {
        let answer: Result<Value, DockerError> = inner.docker.get(&Query::new(path, &[])).await;
        answer.unwrap_or_else(|error| Value::from(format!("{}: {error}", error.code())))
    };
    let containers = ask("/containers/json?all=1").await;
    let mut inspected = Vec::new();
    for container in containers.as_array().into_iter().flatten().take(CONTAINERS) {
        let id = container["Id"].as_str().unwrap_or_default();
        // A container that was removed since is left out.
        inspected.extend(inner.docker.get::<Value>(&Query::new("/containers/{}/json", &[id])).await.ok());
    }
    BTreeMap::from([
        ("info", ask("/info").await),
        ("version", ask("/version").await),
        ("images", ask("/images/json").await),
        ("volumes", ask("/volumes").await),
        ("networks", ask("/networks").await),
        ("containers", containers),
        ("inspected", Value::from(inspected)),
    ])
}

async fn guest_logs(inner: &Inner, machine: &str) -> Result<Vec<(&'static str, String)>, Failure> {
    let mut client = inner.daemon().await?;
    let mut logs = Vec::new();
    for source in ["agent", "containerd", "dockerd"] {
        let request = api::LogsRequest {
            machine: machine.to_owned(),
            source: source.to_owned(),
            follow: false,
            tail: GUEST_LINES,
        };
        let mut chunks = client.logs(request).await?.into_inner();
        let mut text = Vec::new();
        while let Some(chunk) = chunks.message().await? {
            text.extend_from_slice(&chunk.data);
        }
        logs.push((source, String::from_utf8_lossy(&text).into_owned()));
    }
    Ok(logs)
}

async fn versions(inner: &Inner) -> String {
    let daemon = match inner.daemon().await {
        Ok(mut client) => client.version(api::VersionRequest {}).await.ok().map(tonic::Response::into_inner),
        Err(_) => None,
    };
    let daemon = daemon.map_or_else(
        || "daemon: not running\n".to_owned(),
        |reply| format!("daemon: {}\nguest image: {}\n", reply.daemon_version, reply.image_version),
    );
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let system = read("/etc/os-release").lines().find_map(|line| line.strip_prefix("PRETTY_NAME=").map(str::to_owned));
    format!(
        "rorqual: {}\n{daemon}system: {}\nkernel: {}processors: {}\n{}",
        env!("CARGO_PKG_VERSION"),
        system.unwrap_or_default().trim_matches('"'),
        read("/proc/version"),
        std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        read("/proc/meminfo").lines().take(3).collect::<Vec<_>>().join("\n"),
    )
}

fn checks_text(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let verdict = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Problem => "problem",
        };
        let _ = writeln!(text, "{verdict:8} {:16} {}", check.id, check.finding);
        if !check.fix.is_empty() {
            let _ = writeln!(text, "{:25} Fix: {}", "", check.fix);
        }
    }
    text
}

/// The tail of a text file, from the start of a line.
fn end_of(path: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let skipped = length.saturating_sub(LOG_END);
        file.seek(SeekFrom::Start(skipped))?;
        let mut content = Vec::new();
        file.take(LOG_END).read_to_end(&mut content)?;
        let text = String::from_utf8_lossy(&content);
        Ok(match text.split_once('\n') {
            Some((_, rest)) if skipped > 0 => rest.to_owned(),
            _ => text.into_owned(),
        })
    };
    read().unwrap_or_else(|error| format!("cannot be read: {error}\n"))
}

fn pack(files: BTreeMap<String, String>) -> io::Result<Vec<u8>> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).unix_permissions(0o644);
    for (name, text) in files {
        archive.start_file(name, options)?;
        archive.write_all(text.as_bytes())?;
    }
    Ok(archive.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_of_containers_are_learnt_from_every_depth() {
        let mut redaction = Redaction::default();
        learn(&mut redaction, &json!([{"Config": {"Env": ["DB_PASSWORD=planted secret", "A=plain text"]}}]));
        assert_eq!(redaction.text("planted secret, plain text"), "(removed), plain text");
    }

    #[test]
    fn the_end_of_a_long_log_begins_with_a_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = format!("{}\n", "x".repeat(99));
        std::fs::write(file.path(), line.repeat(20_000)).unwrap();
        let end = end_of(file.path());
        assert!(end.len() as u64 <= LOG_END && end.len() as u64 > LOG_END - 200);
        assert!(end.starts_with("xx") && end.len().is_multiple_of(100));
        assert!(end_of(Path::new("/nowhere")).starts_with("cannot be read"));
    }

    #[test]
    fn a_bundle_can_be_read_back() {
        let packed = pack(BTreeMap::from([("logs/a.log".to_owned(), "hello\n".repeat(100))])).unwrap();
        let mut archive = zip::ZipArchive::new(Cursor::new(packed)).unwrap();
        let mut text = String::new();
        archive.by_name("logs/a.log").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello\n".repeat(100));
    }
}
