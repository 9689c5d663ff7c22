//! The monitor of a machine: started so that it outlives the daemon, driven and watched over its control socket
//! (docs/contracts.md, "rorqual-vmm").

use std::{
    env, fs,
    fs::OpenOptions,
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    process::Command,
    sync::watch,
    time::timeout,
};

use crate::{
    client::READY_VARIABLE,
    detached::{self, Readiness},
    error::{Coded, Failure, one_line},
    home::MachinePaths,
    image::Accelerator,
};

/// Name of the monitor's executable.
const PROGRAM: &str = "rorqual-vmm";
/// The monitor says that it is ready, or why not, within this.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// A request on the control socket is answered within this.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// While a machine is saved, something is heard within this: a few MiB are written, or all of it is made durable.
const SAVE_LIMIT: Duration = Duration::from_mins(2);
/// A log of the monitor larger than this is begun anew, in bytes.
const LOG_LIMIT: u64 = 1 << 20;

/// Why the monitor cannot be started or reached.
#[derive(Debug, Error)]
pub enum VmmError {
    /// There is no executable.
    #[error("{PROGRAM} is neither beside this program, in {0}, nor in PATH")]
    Missing(PathBuf),
    /// It could not be run.
    #[error("cannot run {program}: {source}", program = program.display())]
    Spawn {
        /// The executable.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the machine cannot be written.
    #[error("cannot write {path}: {source}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It started and refused, in its own words.
    #[error("the machine cannot start: {}", .0.message)]
    Refused(Failure),
    /// It did not report that it is ready; the reason.
    #[error("the machine's monitor did not start: {0}")]
    Died(String),
    /// It runs and does not answer.
    #[error("the machine's monitor (process {process}) does not answer on {path}", path = path.display())]
    Silent {
        /// Its process; 0 when unknown.
        process: u32,
        /// Its control socket.
        path: PathBuf,
    },
    /// It answered with an error, or not as agreed.
    #[error("the machine's monitor refused to {command}: {}", reason.message)]
    Command {
        /// What was asked.
        command: &'static str,
        /// Its own reason.
        reason: Reason,
    },
}

/// Why the monitor did not do what it was asked.
#[derive(Debug, Deserialize)]
pub struct Reason {
    message: String,
    #[serde(default)]
    fix: Option<String>,
}

impl<M: std::fmt::Display> From<M> for Reason {
    fn from(message: M) -> Self {
        Self { message: one_line(&message.to_string()), fix: None }
    }
}

impl Coded for VmmError {
    fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "vmm-missing",
            Self::Refused(failure) => match failure.code.as_str() {
                "file-locked" => "disk-locked",
                "no-memory" => "no-memory",
                "accelerator-unusable" => "accelerator-unusable",
                _ => "vmm-refused",
            },
            Self::Spawn { .. } | Self::Write { .. } | Self::Died(_) => "vmm-start-failed",
            Self::Silent { .. } | Self::Command { .. } => "vmm-unresponsive",
        }
    }

    fn fix(&self) -> Option<String> {
        const LOG: &str = "read more with `rorqual logs vmm`";
        let advice = match self {
            Self::Missing(_) => "install Rorqual again".to_owned(),
            Self::Spawn { program, .. } => {
                format!("check the permissions of {}, or install Rorqual again", program.display())
            }
            Self::Write { path, .. } => {
                format!("check the permissions of {} and the space on its disk", path.display())
            }
            Self::Refused(Failure { fix: Some(fix), .. })
            | Self::Command { reason: Reason { fix: Some(fix), .. }, .. } => fix.clone(),
            Self::Refused(failure) => match failure.code.as_str() {
                "accelerator-unusable" => "run `rorqual doctor` to find out what is missing",
                "file-locked" => "end the program that uses the disk, then start the machine again",
                "file-missing" => "install Rorqual again",
                "no-memory" => "close other programs, or give the machine less memory in machine.toml",
                "snapshot-invalid" => "start it without its saved state: `rorqual start --cold`",
                "socket-in-use" => "end the running machine with `rorqual stop --force`",
                _ => LOG,
            }
            .to_owned(),
            Self::Died(_) | Self::Command { .. } => LOG.to_owned(),
            Self::Silent { .. } => "end the machine at once with `rorqual stop --force`".to_owned(),
        };
        Some(advice)
    }
}

#[cfg(test)]
crate::error::tests::samples!(VmmError {
    Missing => Self::Missing("/usr/bin".into()),
    Spawn => Self::Spawn { program: "/usr/bin/rorqual-vmm".into(), source: crate::error::tests::refusal() },
    Write => Self::Write { path: "/h/vmm.json".into(), source: crate::error::tests::refusal() },
    Refused => refused_sample("config-invalid"),
    Refused => refused_sample("file-missing"),
    Refused => refused_sample("file-locked"),
    Refused => refused_sample("socket-in-use"),
    Refused => refused_sample("no-memory"),
    Refused => refused_sample("accelerator-unusable"),
    Refused => refused_sample("snapshot-invalid"),
    Refused => refused_sample("not-possible"),
    Refused => refused_sample("internal"),
    Died => Self::Died("it ended without a line in its log".to_owned()),
    Silent => Self::Silent { process: 7, path: "/h/control.sock".into() },
    Command => Self::Command { command: "stop", reason: "it is stopping".into() },
});

/// A monitor's failure without advice of its own.
#[cfg(test)]
fn refused_sample(code: &str) -> VmmError {
    VmmError::Refused(Failure { code: code.to_owned(), message: "it does not fit".to_owned(), fix: None })
}

/// `vmm.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct VmmConfig {
    pub(crate) version: u32,
    pub(crate) name: String,
    pub(crate) accelerator: Accelerator,
    pub(crate) kernel: KernelConfig,
    pub(crate) cpus: u32,
    pub(crate) memory_mib: u32,
    pub(crate) block: Vec<BlockConfig>,
    pub(crate) vsock: VsockConfig,
    /// A directory with a saved state to go on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) restore: Option<PathBuf>,
    /// Machines that an older daemon started have none.
    #[serde(default)]
    pub(crate) net: Option<NetConfig>,
    pub(crate) console_log: PathBuf,
    pub(crate) control_socket: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KernelConfig {
    pub(crate) path: PathBuf,
    pub(crate) initramfs: PathBuf,
    pub(crate) command_line: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BlockConfig {
    pub(crate) id: String,
    pub(crate) path: PathBuf,
    pub(crate) read_only: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct VsockConfig {
    pub(crate) guest_cid: u32,
    pub(crate) socket: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NetConfig {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) subnet: Option<String>,
    pub(crate) host_access: bool,
    pub(crate) block_link_local: bool,
}

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) reason: EndReason,
    /// What the monitor adds; may be empty.
    pub(crate) detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EndReason {
    PowerOff,
    Reset,
    Killed,
    Crashed,
    /// The monitor itself died.
    #[serde(skip)]
    Vanished,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Ok(serde_json::Value),
    /// Of a command that takes its time; more follows.
    Progress(Saved),
    Error(Reason),
}

/// How much of a machine's memory is written.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Saved {
    #[serde(rename = "done_bytes")]
    pub(crate) done: u64,
    #[serde(rename = "total_bytes")]
    pub(crate) total: u64,
}

#[derive(Deserialize)]
struct Exited {
    reason: EndReason,
    #[serde(default)]
    detail: String,
}

/// A running monitor. Dropping it leaves the machine alone.
#[derive(Debug)]
pub(crate) struct Vmm {
    /// Its process.
    pub(crate) process: u32,
    /// When the machine started.
    pub(crate) started: Instant,
    control: PathBuf,
    ended: watch::Receiver<Option<Ended>>,
}

/// The monitor's executable: beside this program, else in `PATH`.
pub(crate) fn find_program() -> Result<PathBuf, VmmError> {
    let beside = env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned)).unwrap_or_default();
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places = std::iter::once(beside.clone()).chain(env::split_paths(&path)).map(|place| place.join(PROGRAM));
    let is_program =
        |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    places.find(is_program).ok_or(VmmError::Missing(beside))
}

impl Vmm {
    /// Starts a machine. It runs when this returns.
    pub(crate) async fn launch(program: &Path, config: &VmmConfig, paths: &MachinePaths) -> Result<Self, VmmError> {
        let config_path = paths.vmm_config();
        let failed = |path: PathBuf| move |source| VmmError::Write { path, source };
        let text = serde_json::to_vec_pretty(config).map_err(io::Error::other);
        text.and_then(|text| fs::write(&config_path, text)).map_err(failed(config_path.clone()))?;
        for stale in [paths.control_socket(), paths.vsock_socket()] {
            remove_stale_socket(&stale).map_err(failed(stale.clone()))?;
        }
        let log_path = paths.vmm_log();
        let begin_anew = fs::metadata(&log_path).is_ok_and(|log| log.len() > LOG_LIMIT);
        let mut options = OpenOptions::new();
        // Appending, so that what the kernel's own process writes cannot overwrite.
        options.create(true).append(true).mode(0o600);
        let log = options.open(&log_path).and_then(|log| {
            if begin_anew {
                log.set_len(0)?;
            }
            Ok((log.try_clone()?, log))
        });
        let (output, errors) = log.map_err(failed(log_path.clone()))?;
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(&config_path).stdin(Stdio::null()).stdout(output).stderr(errors);
        command.env_remove(READY_VARIABLE).current_dir(paths.directory());
        let mut starting = detached::start(command, |command, number| {
            command.arg("--ready-fd").arg(number.to_string());
        })
        .map_err(|source| VmmError::Spawn { program: program.to_owned(), source })?;
        let process = starting.child.id().unwrap_or_default();
        let spoke = timeout(READY_LIMIT, starting.ready()).await;
        let problem = match spoke {
            Ok(Ok(Some(Readiness::Ready(true)))) => None,
            Ok(Ok(Some(Readiness::Error(failure)))) => Some(VmmError::Refused(failure)),
            Ok(Ok(_)) => Some(VmmError::Died(match last_words(&log_path) {
                Some(words) => format!("it ended, and the last line of its log is {words:?}"),
                None => "it ended without a line in its log".to_owned(),
            })),
            Ok(Err(error)) => Some(VmmError::Died(format!("its report cannot be read: {error}"))),
            Err(_) => Some(VmmError::Died(format!("it was not ready within {} s", READY_LIMIT.as_secs()))),
        };
        let connected = match problem {
            None => Self::connect(&paths.control_socket(), process).await,
            Some(problem) => Err(problem),
        };
        if connected.is_err() {
            // Ended already, or of no use.
            let _ = starting.child.start_kill();
            let _ = starting.child.wait().await;
        }
        connected
    }

    /// Finds the monitor that runs this machine already, if one does.
    ///
    /// # Errors
    ///
    /// When one runs that does not answer.
    pub(crate) async fn adopt(paths: &MachinePaths) -> Result<Option<Self>, VmmError> {
        let control = paths.control_socket();
        let Ok(stream) = UnixStream::connect(&control).await else { return Ok(None) };
        let process = stream.peer_cred().ok().and_then(|peer| peer.pid()).and_then(|pid| u32::try_from(pid).ok());
        drop(stream);
        match Self::connect(&control, process.unwrap_or_default()).await {
            Ok(vmm) => Ok(Some(vmm)),
            Err(error) => {
                // It may have ended between the two.
                if UnixStream::connect(&control).await.is_err() { Ok(None) } else { Err(error) }
            }
        }
    }

    async fn connect(control: &Path, process: u32) -> Result<Self, VmmError> {
        let silent = || VmmError::Silent { process, path: control.to_owned() };
        let state = request(control, process, "state").await?;
        if state.get("state").and_then(serde_json::Value::as_str) == Some("paused") {
            // A daemon that was saving it has died.
            request(control, process, "resume").await?;
        }
        let uptime = state.get("uptime_ms").and_then(serde_json::Value::as_u64).unwrap_or_default();
        let now = Instant::now();
        let mut stream = BufReader::new(open(control).await.map_err(|_| silent())?);
        let watching = timeout(ANSWER_LIMIT, ask(&mut stream, "watch")).await.map_err(|_| silent())?;
        watching.map_err(|reason| VmmError::Command { command: "watch", reason })?;
        let (sender, ended) = watch::channel(None);
        tokio::spawn(async move {
            let mut line = String::new();
            let exited = match stream.read_line(&mut line).await {
                Ok(_) => serde_json::from_str::<Exited>(&line).ok(),
                Err(_) => None,
            };
            if exited.is_some() {
                // Its locks go with the process, so the end of the file is what counts.
                let mut rest = Vec::new();
                let _ = timeout(ANSWER_LIMIT, stream.read_until(0, &mut rest)).await;
            }
            let ended = exited.map(|exited| Ended { reason: exited.reason, detail: exited.detail });
            let _ = sender.send(Some(ended.unwrap_or(Ended { reason: EndReason::Vanished, detail: String::new() })));
        });
        let started = now.checked_sub(Duration::from_millis(uptime)).unwrap_or(now);
        Ok(Self { process, started, control: control.to_owned(), ended })
    }

    /// Waits for the machine's end.
    pub(crate) async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        let seen = ended.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
        seen.unwrap_or(Ended { reason: EndReason::Vanished, detail: String::new() })
    }

    /// Waits for the machine's end, at most for `limit`.
    pub(crate) async fn ended_within(&self, limit: Duration) -> Option<Ended> {
        timeout(limit, self.ended()).await.ok()
    }

    /// Whether it still answers. A process that was killed a moment ago may not have been seen to end yet.
    pub(crate) async fn check(&self) -> Result<(), VmmError> {
        request(&self.control, self.process, "state").await.map(drop)
    }

    /// Writes the machine to `directory`; it stands still afterwards. To drop this cancels: the machine goes on.
    pub(crate) async fn save(&self, directory: &Path, mut progress: impl FnMut(Saved)) -> Result<(), VmmError> {
        let silent = || VmmError::Silent { process: self.process, path: self.control.clone() };
        let refused = |reason| VmmError::Command { command: "save the machine", reason };
        let mut stream = BufReader::new(open(&self.control).await.map_err(|_| silent())?);
        let line = serde_json::json!({"command": "save", "directory": directory});
        stream.get_mut().write_all(format!("{line}\n").as_bytes()).await.map_err(|_| silent())?;
        loop {
            match timeout(SAVE_LIMIT, answer(&mut stream)).await.map_err(|_| silent())?.map_err(refused)? {
                Answer::Ok(_) => return Ok(()),
                Answer::Progress(saved) => progress(saved),
                Answer::Error(reason) => return Err(refused(reason)),
            }
        }
    }

    /// Lets a machine that stands still go on; running already: nothing.
    pub(crate) async fn resume(&self) -> Result<(), VmmError> {
        request(&self.control, self.process, "resume").await.map(drop)
    }

    /// Asks the guest to power off, as by its power button.
    pub(crate) async fn stop(&self) -> Result<(), VmmError> {
        request(&self.control, self.process, "stop").await.map(drop)
    }

    /// Ends the machine at once, by request and if need be by signal, and waits until it has ended.
    pub(crate) async fn kill(&self) -> Result<(), VmmError> {
        let asked = request(&self.control, self.process, "kill").await;
        if asked.is_ok() && self.ended_within(ANSWER_LIMIT).await.is_some() {
            return Ok(());
        }
        if self.ended.borrow().is_none() {
            kill_process(self.process);
        }
        match self.ended_within(ANSWER_LIMIT).await {
            Some(_) => Ok(()),
            None => Err(VmmError::Silent { process: self.process, path: self.control.clone() }),
        }
    }
}

/// Ends a monitor that runs and does not answer.
pub(crate) async fn kill_silent(paths: &MachinePaths) {
    if let Ok(stream) = UnixStream::connect(paths.control_socket()).await
        && let Some(process) = stream.peer_cred().ok().and_then(|peer| peer.pid())
        && let Ok(process) = u32::try_from(process)
    {
        kill_process(process);
        // It holds the other end until it is gone.
        let mut stream = BufReader::new(stream);
        let mut rest = Vec::new();
        let _ = timeout(ANSWER_LIMIT, stream.read_until(0, &mut rest)).await;
    }
}

fn kill_process(process: u32) {
    // Process 0 and 1 are never monitors; 0 would be our own group.
    if let Some(process) = i32::try_from(process).ok().filter(|&process| process > 1) {
        let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
    }
}

async fn open(control: &Path) -> io::Result<UnixStream> {
    timeout(ANSWER_LIMIT, UnixStream::connect(control)).await.map_err(io::Error::from)?
}

async fn request(control: &Path, process: u32, command: &'static str) -> Result<serde_json::Value, VmmError> {
    let silent = || VmmError::Silent { process, path: control.to_owned() };
    let stream = open(control).await.map_err(|_| silent())?;
    let answer = timeout(ANSWER_LIMIT, ask(&mut BufReader::new(stream), command)).await.map_err(|_| silent())?;
    answer.map_err(|reason| VmmError::Command { command, reason })
}

async fn ask(stream: &mut BufReader<UnixStream>, command: &str) -> Result<serde_json::Value, Reason> {
    let line = format!("{{\"command\":\"{command}\"}}\n");
    stream.get_mut().write_all(line.as_bytes()).await?;
    match answer(stream).await? {
        Answer::Ok(value) => Ok(value),
        Answer::Error(reason) => Err(reason),
        Answer::Progress(_) => Err("it reported progress where none was expected".into()),
    }
}

async fn answer(stream: &mut BufReader<UnixStream>) -> Result<Answer, Reason> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    serde_json::from_str(&line).map_err(|error| format!("it answered {line:?} ({error})").into())
}

/// Removes what a killed process left behind; a socket somebody serves stays, and the caller will meet its owner.
pub(crate) fn remove_stale_socket(path: &Path) -> io::Result<()> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The last line of a log that has text, as part of a message.
pub(crate) fn last_words(log: &Path) -> Option<String> {
    /// Lines among which one with text is looked for.
    const LINES: usize = 6;
    let lines = crate::follow::last_lines(log, LINES).unwrap_or_default();
    let text = String::from_utf8_lossy(&lines);
    text.lines().rev().map(one_line).find(|line| !line.is_empty())
}
