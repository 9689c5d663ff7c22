//! Files of containers and volumes.
//!
//! Each request runs a short program (`guest.sh`) in the machine, through the daemon's shell. It accesses files where
//! the machine stores them, so the container needs neither to run nor to have a shell, and a large directory is listed
//! without reading its files. It resolves every path inside the container itself.

mod host;
mod listing;

use std::{collections::hash_map::RandomState, hash::BuildHasher, sync::Arc};

use bytes::{Bytes as Raw, BytesMut};
pub(super) use host::host_folder;
use rorqual_engine::docker::{Query, body_bytes};
use serde_json::Value;
use tokio::sync::mpsc;
use tonic::Streaming;

use super::{
    Inner,
    contract::{Bytes, Download, Empty, Failure, FileList, FileMove, FilePlace, FileTarget, FileWrite, UploadInput},
    failure, machine,
    stream::{Channel, Input, parse},
};
use rorqual_engine::api::{self, shell_input, shell_output};

const PROGRAM: &str = include_str!("guest.sh");
/// Maximum number of bytes read from the program's standard error.
const LONGEST_COMPLAINT: usize = 4096;

/// Location of the files.
enum Root {
    /// A directory of the machine.
    Directory(String),
    /// The layers of a container that is not running.
    Layers(String),
}

async fn root(inner: &Inner, place: &FilePlace) -> Result<Root, Failure> {
    let missing = |what: &str| failure::unexpected(format!("the engine did not report the location of the {what}"));
    match place {
        FilePlace::Volume { name } => {
            let volume: Value = inner.docker.get(&Query::new("/volumes/{}", &[name])).await?;
            let mountpoint = volume["Mountpoint"].as_str().filter(|path| path.starts_with('/'));
            mountpoint.map(|path| Root::Directory(path.to_owned())).ok_or_else(|| missing("volume"))
        }
        FilePlace::Container { id } => {
            let container: Value = inner.docker.get(&Query::new("/containers/{}/json", &[id])).await?;
            // The root of the container's process includes its volumes.
            if let Some(process) = container["State"]["Pid"].as_u64().filter(|process| *process > 0) {
                return Ok(Root::Directory(format!("/proc/{process}/root")));
            }
            let upper = container["GraphDriver"]["Data"]["UpperDir"].as_str();
            let layers = upper.and_then(|path| path.strip_suffix("/diff")).filter(|path| path.starts_with('/'));
            layers.map(|path| Root::Layers(path.to_owned())).ok_or_else(|| missing("container's file system"))
        }
    }
}

/// A running program.
struct Work {
    inputs: mpsc::Sender<api::ShellInput>,
    outputs: Streaming<api::ShellOutput>,
    complaint: Vec<u8>,
}

impl Work {
    async fn begin(inner: &Inner, target: &FileTarget, verb: &str, more: &[&str]) -> Result<Self, Failure> {
        let path = absolute(&target.path)?;
        let root = root(inner, &target.place).await?;
        let mut command: Vec<&str> = Vec::new();
        let place = match &root {
            Root::Directory(path) => path.clone(),
            Root::Layers(path) => {
                // The mount is private to this process and disappears with it.
                command.extend(["unshare", "-m"]);
                format!("overlay:{path}")
            }
        };
        command.extend(["sh", "-c", PROGRAM, "rorqual-files", &place, verb, path]);
        command.extend(more);
        let start = api::ShellStart {
            machine: String::new(),
            command: command.into_iter().map(str::to_owned).collect(),
            term: String::new(),
            size: None,
        };
        let (inputs, outputs) = machine::open_shell(inner, start).await?;
        Ok(Self { inputs, outputs, complaint: Vec::new() })
    }

    /// The next piece of its output; `None` once it exited successfully.
    async fn next(&mut self) -> Result<Option<Raw>, Failure> {
        loop {
            match self.outputs.message().await?.and_then(|output| output.output) {
                Some(shell_output::Output::Stdout(data)) => return Ok(Some(Raw::from(data))),
                Some(shell_output::Output::Stderr(data)) => {
                    let room = LONGEST_COMPLAINT.saturating_sub(self.complaint.len());
                    self.complaint.extend(data.into_iter().take(room));
                }
                Some(shell_output::Output::ExitStatus(0)) => return Ok(None),
                Some(shell_output::Output::ExitStatus(status)) => return Err(refusal(status, &self.complaint)),
                None => {
                    return Err(failure::advised!(
                        "machine-lost",
                        "the connection to the machine was lost",
                        "check whether the machine still runs",
                    ));
                }
            }
        }
    }

    async fn end(mut self) -> Result<(), Failure> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    /// The first line of its output, and the rest of that piece.
    async fn first_line(&mut self) -> Result<(String, BytesMut), Failure> {
        let mut buffer = BytesMut::new();
        loop {
            if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(end + 1);
                return Ok((String::from_utf8_lossy(&line[..end]).into_owned(), buffer));
            }
            match self.next().await? {
                Some(bytes) => buffer.extend_from_slice(&bytes),
                None => return Err(failure::unexpected("the machine's response ended early")),
            }
        }
    }
}

/// Maps exit statuses of the program to failures.
fn refusal(status: i32, complaint: &[u8]) -> Failure {
    let said = String::from_utf8_lossy(complaint);
    let said = said.trim().lines().last().unwrap_or_default();
    // Removes the shell's prefix, which means nothing to a user: "mv: can't rename './a': Read-only file system".
    let reason = said.rsplit(": ").next().unwrap_or(said);
    match status {
        44 => failure::advised!("not-found", "this file or folder no longer exists", "reload the folder"),
        45 => failure::coded("not-a-directory", "this is not a folder"),
        46 => failure::coded("is-a-directory", "this is a folder, not a file"),
        47 => {
            failure::advised!("conflict", "a file or folder with this name already exists", "choose a different name")
        }
        48 => failure::advised!(
            "cut-short",
            "only part of the file arrived, so the existing file was left unchanged",
            "try again",
        ),
        49 => failure::coded("not-a-file", "this is a device, a pipe or a socket, not a file"),
        50 => failure::advised!("conflict", "the folder was moved during the operation", "reload the folder"),
        _ if said.contains("No space left") => failure::advised!(
            "no-space",
            "the machine's disk is full",
            "delete unused images and volumes, or enlarge the disk",
        ),
        _ if reason.is_empty() => failure::unexpected(format!("the operation failed in the machine (status {status})")),
        _ => failure::coded("refused", format!("the operation failed: {reason}")),
    }
}

/// Accepts a full path without `..`, which only symbolic links may contain.
fn absolute(path: &str) -> Result<&str, Failure> {
    if !path.starts_with('/') || path.contains('\0') || path.split('/').any(|part| part == "..") {
        return Err(failure::bad_request(format!("{path:?} is not an absolute path without \"..\"")));
    }
    Ok(path)
}

fn last_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

pub(super) async fn list(inner: &Arc<Inner>, target: FileTarget) -> Result<FileList, Failure> {
    let mut work = Work::begin(inner, &target, "list", &[]).await?;
    let (length, mut answer) = work.first_line().await?;
    let length: usize =
        length.trim().parse().map_err(|_| failure::unexpected("the machine's response is malformed"))?;
    while let Some(bytes) = work.next().await? {
        answer.extend_from_slice(&bytes);
        // The directory has more than is shown; the rest is not read.
        if answer.len() > length && listing::is_enough(&answer[length..]) {
            break;
        }
    }
    let names = answer.split_to(length.min(answer.len()));
    Ok(listing::read(&names, &answer))
}

pub(super) async fn remove(inner: &Arc<Inner>, target: FileTarget) -> Result<Empty, Failure> {
    if last_name(&target.path).is_empty() {
        return Err(failure::bad_request("the top folder cannot be removed"));
    }
    Work::begin(inner, &target, "remove", &[]).await?.end().await?;
    Ok(Empty {})
}

pub(super) async fn create_folder(inner: &Arc<Inner>, target: FileTarget) -> Result<Empty, Failure> {
    Work::begin(inner, &target, "folder", &[]).await?.end().await?;
    Ok(Empty {})
}

pub(super) async fn move_file(inner: &Arc<Inner>, asked: FileMove) -> Result<Empty, Failure> {
    let to = absolute(&asked.path)?;
    Work::begin(inner, &asked.target, "move", &[to]).await?.end().await?;
    Ok(Empty {})
}

pub(super) async fn read(inner: Arc<Inner>, target: FileTarget, channel: Channel) -> Result<(), Failure> {
    let name = last_name(&target.path).to_owned();
    let mut work = Work::begin(&inner, &target, "read", &[]).await?;
    let (size, rest) = match work.first_line().await {
        Err(failure) if failure.code == "is-a-directory" => return archive(&inner, &target, &name, &channel).await,
        other => other?,
    };
    channel.event(&Download { name, size: size.trim().parse().ok().map(Bytes) }).await?;
    if !rest.is_empty() {
        channel.bytes(rest.freeze()).await?;
    }
    while let Some(bytes) = work.next().await? {
        channel.bytes(bytes).await?;
    }
    Ok(())
}

/// A directory as a tar, made by the engine for a container and by the machine for a volume.
async fn archive(inner: &Inner, target: &FileTarget, name: &str, channel: &Channel) -> Result<(), Failure> {
    let file = if name.is_empty() { "files.tar".to_owned() } else { format!("{name}.tar") };
    let download = Download { name: file, size: None };
    match &target.place {
        FilePlace::Container { id } => {
            // The trailing slash makes a link to a directory stand for the directory.
            let path = format!("{}/", target.path.trim_end_matches('/'));
            let query = Query::new("/containers/{}/archive", &[id]).with("path", &path);
            let mut body = inner.docker.stream(&query).await?;
            channel.event(&download).await?;
            while let Some(bytes) = body_bytes(&mut body).await? {
                channel.bytes(bytes).await?;
            }
        }
        FilePlace::Volume { .. } => {
            let mut work = Work::begin(inner, target, "archive", &[]).await?;
            channel.event(&download).await?;
            while let Some(bytes) = work.next().await? {
                channel.bytes(bytes).await?;
            }
        }
    }
    Ok(())
}

pub(super) async fn write(inner: Arc<Inner>, asked: FileWrite, mut channel: Channel) -> Result<(), Failure> {
    let mode = asked.mode.map(|mode| format!("{:o}", mode & 0o7777)).unwrap_or_default();
    // The name is unpredictable to processes in the container: the hasher's keys are random.
    let aside = format!(".rorqual-{:016x}", RandomState::new().hash_one(&asked.target.path));
    let size = asked.size.0.to_string();
    let mut work = Work::begin(&inner, &asked.target, "write", &[&size, &mode, &aside]).await?;
    let inputs = work.inputs.clone();
    let send = async |input| {
        // If the program exited, the loop below reports why.
        inputs.send(api::ShellInput { input: Some(input) }).await.ok();
    };
    let mut ended = false;
    loop {
        tokio::select! {
            output = work.next() => if output?.is_none() {
                return channel.event(&Empty {}).await;
            },
            input = channel.input(), if !ended => match input {
                None => return Err(failure::canceled()),
                Some(Input::Bytes(bytes)) => send(shell_input::Input::Data(bytes.to_vec())).await,
                Some(Input::Value(value)) => {
                    let UploadInput::Finish = parse(value)?;
                    ended = true;
                    send(shell_input::Input::Close(true)).await;
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_full_paths_without_dots_are_taken() {
        for path in ["/", "/a/b", "/a..b/...", "//a"] {
            assert_eq!(absolute(path).unwrap(), path);
        }
        for path in ["", "a", "/a/../b", "/..", "/a\0b"] {
            assert_eq!(absolute(path).unwrap_err().code, "bad-request");
        }
        assert_eq!((last_name("/a/b/"), last_name("/")), ("b", ""));
    }

    #[test]
    fn refusals_say_why() {
        assert_eq!(refusal(44, b"").code, "not-found");
        assert_eq!(refusal(1, b"cat: write error: No space left on device\n").code, "no-space");
        let refused = refusal(1, b"mv: can't rename './a': Read-only file system\n");
        assert_eq!(refused.message, "the operation failed: Read-only file system");
    }
}
