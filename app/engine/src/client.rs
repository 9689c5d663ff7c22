//! The way to the daemon: connects to `engine.sock`, starting the daemon first if needed.

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
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use crate::{
    api::engine_client::EngineClient,
    detached::{self, Readiness},
    error::{self, Coded, Failure, one_line},
    home::Home,
};

/// Environment variable with the descriptor number at which the daemon reports its [`Readiness`].
pub(crate) const READY_VARIABLE: &str = "RORQUAL_READY_FD";

/// A client of the daemon.
pub type Client = EngineClient<Channel>;

/// Why the daemon cannot be reached, or a call failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No daemon serves this state directory.
    #[error("the Rorqual daemon is not running: {0} does not answer")]
    NotRunning(PathBuf),
    /// The socket exists, but connecting to it failed.
    #[error("cannot connect to the Rorqual daemon at {path}: {source}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The daemon could not be started at all.
    #[error("cannot start the Rorqual daemon: {what} failed: {source}")]
    Spawn {
        /// The operation that failed.
        what: String,
        /// The system's error.
        source: io::Error,
    },
    /// The daemon started and refused to serve; the failure it reported.
    #[error("{}", .0.message)]
    Refused(Failure),
    /// The daemon exited before it served.
    #[error("the Rorqual daemon ended while it started, without a reason")]
    Died {
        /// Its log.
        log: PathBuf,
    },
    /// The connection was lost during a call.
    #[error("lost the connection to the Rorqual daemon: {0}")]
    Lost(String),
    /// The daemon does not implement the call.
    #[error("the running Rorqual daemon is of another version and does not know this request")]
    OtherVersion,
    /// The daemon returned an error without a code, which none of its errors lacks.
    #[error("the Rorqual daemon failed: {0}")]
    Failed(String),
}

impl Coded for ClientError {
    fn code(&self) -> &str {
        match self {
            Self::NotRunning(_) => "daemon-not-running",
            Self::Connect { .. } | Self::Lost(_) => "daemon-unreachable",
            Self::Spawn { .. } | Self::Died { .. } => "daemon-start-failed",
            Self::Refused(failure) => &failure.code,
            Self::OtherVersion => "daemon-other-version",
            Self::Failed(_) => "internal",
        }
    }

    fn fix(&self) -> Option<String> {
        match self {
            Self::NotRunning(_) => Some("start it with `rorqual start`".to_owned()),
            Self::Connect { path, .. } => Some(format!("check the permissions of {}", path.display())),
            Self::Spawn { .. } => {
                Some("check the permissions of the state directory and the space on its disk".to_owned())
            }
            Self::Refused(failure) => failure.fix.clone(),
            Self::Died { log } => Some(format!("read the end of {}", log.display())),
            Self::Lost(_) => {
                Some("read why with `rorqual logs daemon`, then try again: the command starts a new daemon".to_owned())
            }
            Self::OtherVersion => {
                Some("end it with `rorqual quit`, then try again: machines keep running meanwhile".to_owned())
            }
            Self::Failed(_) => Some("read more with `rorqual logs daemon`".to_owned()),
        }
    }
}

#[cfg(test)]
crate::error::tests::samples!(ClientError {
    NotRunning => Self::NotRunning("/h/run/engine.sock".into()),
    Connect => Self::Connect { path: "/h/run/engine.sock".into(), source: crate::error::tests::refusal() },
    Spawn => Self::Spawn { what: "opening /h/run/daemon.log".to_owned(), source: crate::error::tests::refusal() },
    Refused => Self::Refused(Failure::of(&crate::home::HomeError::Nowhere)),
    Died => Self::Died { log: "/h/run/daemon.log".into() },
    Lost => Self::Lost("transport error".to_owned()),
    OtherVersion => Self::OtherVersion,
    Failed => Self::Failed("out of range (OutOfRange)".to_owned()),
});

/// Converts the status of a failed call: to the daemon's own failure, or to what happened to the call.
impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let message = || one_line(status.message());
        error::failure_of(&status).unwrap_or_else(|| {
            Self::of(&match status.code() {
                Code::Unavailable | Code::Cancelled | Code::Unknown => ClientError::Lost(message()),
                Code::Unimplemented => ClientError::OtherVersion,
                code => ClientError::Failed(format!("{} ({code:?})", message())),
            })
        })
    }
}

/// Connects to the daemon of `home`.
///
/// # Errors
///
/// [`ClientError::NotRunning`] if no daemon serves it.
pub async fn connect(home: &Home) -> Result<Client, ClientError> {
    let path = home.engine_socket();
    // Connects now, so that "not running" is distinguished from a failing call.
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

/// Connects to the daemon of `home`, starting it first if none runs.
///
/// `daemon_command` runs the daemon in the foreground (`<this executable> daemon`). It runs in a session of its own,
/// with the state directory in `RORQUAL_HOME` and its output in `run/daemon.log`. Concurrent callers start one daemon.
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

/// Takes the lock for starting a daemon; while it is held, no other process starts one.
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
    // In the caller's directory, the daemon would keep its file system from being unmounted.
    command.stdin(Stdio::null()).stdout(log).stderr(second).env("RORQUAL_HOME", home.root()).current_dir("/");
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let mut starting = detached::start(command, |command, number| {
        command.env(READY_VARIABLE, number.to_string());
    })
    .map_err(failed(format!("running {program}")))?;
    match starting.ready().await {
        Ok(Some(Readiness::Ready(_))) => Ok(()),
        Ok(Some(Readiness::Error(failure))) => Err(ClientError::Refused(failure)),
        Ok(None) => Err(ClientError::Died { log: log_path }),
        Err(source) => Err(ClientError::Spawn { what: "waiting for it".to_owned(), source }),
    }
}

/// The readiness descriptor's number from this daemon's environment.
pub(crate) fn ready_descriptor() -> Option<std::os::fd::OwnedFd> {
    let number = std::env::var(READY_VARIABLE).ok()?.parse().ok()?;
    detached::inherited(number).filter(|end| end.as_raw_fd() > 2)
}
