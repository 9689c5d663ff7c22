//! Reaching the daemon: connect to `engine.sock`, or start the daemon and then connect.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::PathBuf,
    process::{Command, Stdio},
};

use hyper_util::rt::TokioIo;
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::{
    api::engine_client::EngineClient,
    detached::{self, Readiness},
    error::Coded,
    home::Home,
};

/// Environment variable that tells a daemon at which descriptor its starter waits for [`Readiness`].
pub(crate) const READY_VARIABLE: &str = "RORQUAL_READY_FD";

/// A client of the daemon.
pub type Client = EngineClient<Channel>;

/// Why the daemon cannot be reached.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No daemon serves this state directory.
    #[error("the Rorqual daemon is not running ({0} does not answer); start it with: rorqual start")]
    NotRunning(PathBuf),
    /// The socket is there, and something else went wrong.
    #[error("cannot connect to the Rorqual daemon at {path}: {source}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The daemon could not be started at all.
    #[error("cannot start the Rorqual daemon ({what}): {source}")]
    Spawn {
        /// Which part of it failed.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The daemon started and refused to serve; its own words.
    #[error("{message}")]
    Refused {
        /// Stable code.
        code: String,
        /// For a person.
        message: String,
    },
    /// The daemon ended before it served.
    #[error("the Rorqual daemon ended while it started; its log says why: {0}")]
    Died(PathBuf),
}

impl ClientError {
    /// The stable code; that of the daemon when it said why it cannot serve.
    pub fn stable_code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            other => other.code(),
        }
    }
}

impl Coded for ClientError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotRunning(_) => "daemon-not-running",
            Self::Connect { .. } => "daemon-unreachable",
            Self::Spawn { .. } | Self::Died(_) | Self::Refused { .. } => "daemon-start-failed",
        }
    }
}

/// Connects to the daemon of `home`.
///
/// # Errors
///
/// [`ClientError::NotRunning`] when none serves it.
pub async fn connect(home: &Home) -> Result<Client, ClientError> {
    let path = home.engine_socket();
    // The first connection is made here, so that "not running" is told apart from a failing call.
    let first = UnixStream::connect(&path).await.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning(path.clone()),
        _ => ClientError::Connect { path: path.clone(), source },
    })?;
    let mut first = Some(first);
    let connector = service_fn(move |_| {
        let ready = first.take();
        let path = path.clone();
        async move {
            let stream = match ready {
                Some(stream) => stream,
                None => UnixStream::connect(path).await?,
            };
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_static("http://rorqual");
    Ok(EngineClient::new(endpoint.connect_with_connector_lazy(connector)))
}

/// Connects to the daemon of `home`, starting it first when none runs.
///
/// `daemon_command` runs the daemon in the foreground (`<this executable> daemon`); it gets a session of its own, the
/// state directory in `RORQUAL_HOME`, and `run/daemon.log` for its output. Two callers at once start one daemon.
pub async fn connect_or_start(home: &Home, daemon_command: Command) -> Result<Client, ClientError> {
    match connect(home).await {
        Err(ClientError::NotRunning(_)) => {}
        other => return other,
    }
    let _turn = lock_start(home).await?;
    match connect(home).await {
        Err(ClientError::NotRunning(_)) => {}
        other => return other,
    }
    start_daemon(home, daemon_command).await?;
    connect(home).await
}

/// Waits for one's turn to start a daemon; while the lock is held nobody else starts one.
pub async fn lock_start(home: &Home) -> Result<Flock<File>, ClientError> {
    let path = home.start_lock();
    let what = format!("locking {}", path.display());
    let lock = tokio::task::spawn_blocking(move || {
        let file = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(path)?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| io::Error::from(errno))
    });
    let lock = lock.await.map_err(io::Error::other).and_then(|lock| lock);
    lock.map_err(|source| ClientError::Spawn { what, source })
}

async fn start_daemon(home: &Home, command: Command) -> Result<(), ClientError> {
    let mut command = tokio::process::Command::from(command);
    let log_path = home.daemon_log();
    let failed = |what: String| move |source| ClientError::Spawn { what, source };
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&log_path);
    let log = log.map_err(failed(format!("opening {}", log_path.display())))?;
    let second = log.try_clone().map_err(failed(format!("opening {}", log_path.display())))?;
    // Not the caller's directory: the daemon would keep it from being unmounted.
    command.stdin(Stdio::null()).stdout(log).stderr(second).env("RORQUAL_HOME", home.root()).current_dir("/");
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let mut starting = detached::start(command, |command, number| {
        command.env(READY_VARIABLE, number.to_string());
    })
    .map_err(failed(format!("running {program}")))?;
    match starting.ready().await {
        Ok(Some(Readiness::Ready(_))) => Ok(()),
        Ok(Some(Readiness::Error { code, message })) => Err(ClientError::Refused { code, message }),
        Ok(None) => Err(ClientError::Died(log_path)),
        Err(source) => Err(ClientError::Spawn { what: "waiting for it".to_owned(), source }),
    }
}

/// The descriptor number a daemon finds in its environment.
pub(crate) fn ready_descriptor() -> Option<std::os::fd::OwnedFd> {
    let number = std::env::var(READY_VARIABLE).ok()?.parse().ok()?;
    detached::inherited(number).filter(|end| end.as_raw_fd() > 2)
}
