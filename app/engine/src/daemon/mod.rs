//! The daemon: one per user and state directory. It owns the machines, and serves `engine.sock` and `docker.sock`.
//!
//! Machines outlive it: the next daemon finds them. The remains of a killed daemon (sockets, its process ID in the lock
//! file) do no harm, since only the lock itself matters.

mod log;
mod logs;
mod request;
mod service;
mod shell;

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::PermissionsExt,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        signal::kill,
        stat::{Mode, umask},
    },
    unistd::Pid,
};
#[cfg(test)]
pub(crate) use request::RequestError;
use thiserror::Error;
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::{
    api::engine_server::EngineServer,
    client,
    config::{
        Config, ConfigError, InEffect,
        keys::{self, TakesEffect},
    },
    detached::Readiness,
    docker_socket,
    error::{Coded, Failure},
    home::{Home, HomeError, MachineName},
    machine::{self, Machine},
    ports::Holders,
    routes::Routes,
};

/// How long the daemon waits for a machine that already runs before it serves.
const REACH_LIMIT: Duration = Duration::from_secs(3);
/// Maximum time for a new holder of the lock to write its process ID.
const HOLDER_PATIENCE: Duration = Duration::from_secs(1);
/// Interval of the checks of the lock file.
const HOLDER_AGAIN: Duration = Duration::from_millis(2);
/// How long open calls may continue when the daemon exits.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);

/// Why the daemon cannot serve.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// Another daemon holds the lock.
    #[error("a Rorqual daemon is already running for {home}, as process {process}", home = home.display())]
    AlreadyRunning {
        /// The state directory.
        home: PathBuf,
        /// Its process ID, as it wrote it.
        process: String,
    },
    /// The settings are damaged.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state directory is unusable.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The operating system refused an operation.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// The operation.
        action: &'static str,
        /// Its object.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Serving failed.
    #[error("the daemon stopped serving {path}: {source}", path = path.display())]
    Serve {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: tonic::transport::Error,
    },
}

impl Coded for DaemonError {
    fn code(&self) -> &str {
        match self {
            Self::AlreadyRunning { .. } => "daemon-running",
            Self::Config(error) => error.code(),
            Self::Home(error) => error.code(),
            Self::Io { .. } | Self::Serve { .. } => "daemon-start-failed",
        }
    }

    fn fix(&self) -> Option<String> {
        match self {
            Self::AlreadyRunning { .. } => Some("use that one, or end it with `rorqual quit`".to_owned()),
            Self::Config(error) => error.fix(),
            Self::Home(error) => error.fix(),
            Self::Io { path, .. } => {
                Some(format!("check the permissions of {} and the space on its disk", path.display()))
            }
            Self::Serve { .. } => Some("start it again with `rorqual start`".to_owned()),
        }
    }
}

#[cfg(test)]
crate::error::tests::samples!(DaemonError {
    AlreadyRunning => Self::AlreadyRunning { home: "/h".into(), process: "7".to_owned() },
    Config => {
        let source = crate::error::tests::refusal();
        Self::Config(ConfigError::Io { action: "read", file: "/h/config.toml".into(), source })
    },
    Home => Self::Home(HomeError::Nowhere),
    Io => Self::Io { action: "listen on", path: "/h/run/engine.sock".into(), source: crate::error::tests::refusal() },
    Serve => {
        let source = tonic::transport::Endpoint::from_shared("not a uri").unwrap_err();
        Self::Serve { path: "/h/run/engine.sock".into(), source }
    },
});

/// Serves until `Quit`, SIGTERM or SIGINT. A starter with a readiness pipe ([`client::connect_or_start`]) is notified
/// when the daemon serves, or why it cannot.
pub async fn run(home: Home) -> Result<(), DaemonError> {
    let starter = client::ready_descriptor();
    // Only the user may access what it creates.
    umask(Mode::from_bits_truncate(0o077));
    match Daemon::open(home).await {
        Ok(daemon) => {
            tell(starter, &Readiness::Ready(true));
            daemon.serve().await
        }
        Err(error) => {
            tracing::error!("{error}");
            tell(starter, &Readiness::Error(Failure::of(&error)));
            Err(error)
        }
    }
}

fn tell(starter: Option<OwnedFd>, what: &Readiness) {
    if let (Some(starter), Ok(mut line)) = (starter, serde_json::to_vec(what)) {
        line.push(b'\n');
        // The starter may have left.
        let _ = File::from(starter).write_all(&line);
    }
}

/// Everything needed to serve.
struct Daemon {
    home: Home,
    lock: Flock<File>,
    machines: BTreeMap<MachineName, Machine>,
    engine: UnixListener,
    docker: UnixListener,
    routes: Routes,
}

impl Daemon {
    async fn open(home: Home) -> Result<Self, DaemonError> {
        let lock = lock(&home)?;
        let config = Config::load(&home)?;
        let log_path = home.daemon_log();
        log::start(&log_path, &config.log).map_err(|source| DaemonError::Io {
            action: "write",
            path: log_path,
            source,
        })?;
        raise_descriptor_limit();
        InEffect::update(&home.in_effect(), |in_effect| {
            in_effect.record(&keys::CONFIG, &config, |_, key| key.takes_effect == TakesEffect::DaemonStart);
        });
        let mut names = home.machines()?;
        if !names.contains(&MachineName::default()) {
            names.push(MachineName::default());
        }
        let holders = Holders::default();
        let mut machines = BTreeMap::new();
        for name in names {
            let machine = machine::open(home.clone(), name.clone(), holders.clone(), None).await;
            // A docker command that reaches the daemon must also reach the engine of a running machine.
            machine.settled(REACH_LIMIT).await;
            machines.insert(name, machine);
        }
        let engine = listen(&home.engine_socket())?;
        let docker = listen(&home.docker_socket())?;
        let routes = Routes::open(&home, &config.routes, holders).await;
        let process = std::process::id();
        tracing::info!("daemon {} serves {} as process {process}", env!("CARGO_PKG_VERSION"), home.root().display());
        Ok(Self { home, lock, machines, engine, docker, routes })
    }

    async fn serve(self) -> Result<(), DaemonError> {
        let Self { home, lock, machines, engine, docker, routes } = self;
        let ending = CancellationToken::new();
        let signals = tokio::spawn(end_by_signal(ending.clone()));
        let docker = machines.get(&MachineName::default()).cloned().map(|machine| {
            let paths = home.machine(machine.name());
            tokio::spawn(docker_socket::serve(docker, machine, paths))
        });
        let service = service::Service::new(home.clone(), machines, routes, ending.clone());
        let serving = Server::builder()
            .add_service(EngineServer::new(service))
            .serve_with_incoming_shutdown(UnixListenerStream::new(engine), ending.clone().cancelled_owned());
        let mut serving = std::pin::pin!(serving);
        let result = tokio::select! {
            result = &mut serving => result,
            // Calls end once notified; a client that does not read is not waited for.
            () = async { ending.cancelled().await; tokio::time::sleep(DRAIN_LIMIT).await } => Ok(()),
        };
        signals.abort();
        if let Some(docker) = docker {
            docker.abort();
        }
        // New clients must see that no daemon runs. Missing files do no harm.
        for socket in [home.engine_socket(), home.docker_socket()] {
            let _ = std::fs::remove_file(socket);
        }
        tracing::info!("the daemon exits; machines keep running");
        drop(lock);
        result.map_err(|source| DaemonError::Serve { path: home.engine_socket(), source })
    }
}

/// Takes the lock that makes this the one daemon, and writes the process ID into it.
fn lock(home: &Home) -> Result<Flock<File>, DaemonError> {
    let path = home.daemon_lock();
    let io = |action| move |source| DaemonError::Io { action, path: home.daemon_lock(), source };
    let file = OpenOptions::new().create(true).read(true).write(true).truncate(false).mode(0o600).open(&path);
    match Flock::lock(file.map_err(io("open"))?, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            let written = lock
                .set_len(0)
                .and_then(|()| lock.seek(SeekFrom::Start(0)))
                .and_then(|_| writeln!(lock, "{}", std::process::id()));
            written.map_err(io("write"))?;
            Ok(lock)
        }
        Err((file, Errno::EWOULDBLOCK)) => {
            let process = holder(file).map_err(io("read"))?;
            Err(DaemonError::AlreadyRunning { home: home.root().to_owned(), process })
        }
        Err((_, errno)) => Err(io("lock")(errno.into())),
    }
}

/// The process ID in the lock file. The holder writes it right after taking the lock; until then the file is empty or
/// names an earlier process.
fn holder(mut file: File) -> io::Result<String> {
    let deadline = Instant::now() + HOLDER_PATIENCE;
    loop {
        let mut text = String::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_string(&mut text)?;
        let process = text.strip_suffix('\n').and_then(|process| process.parse().ok());
        // A process of another user cannot be signalled but exists.
        let alive = process.is_some_and(|process| kill(Pid::from_raw(process), None) != Err(Errno::ESRCH));
        if alive {
            return Ok(text.trim().to_owned());
        }
        if Instant::now() >= deadline {
            return Ok("unknown".to_owned());
        }
        std::thread::sleep(HOLDER_AGAIN);
    }
}

/// Binds a socket. This process holds the lock, so an existing file is a leftover.
fn listen(path: &Path) -> Result<UnixListener, DaemonError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(DaemonError::Io { action: "remove", path: path.to_owned(), source });
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(|source| DaemonError::Io {
        action: "listen on",
        path: path.to_owned(),
        source,
    })?;
    // The umask leaves the owner's execute bit, which a socket does not need.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(|source| DaemonError::Io {
        action: "protect",
        path: path.to_owned(),
        source,
    })?;
    Ok(listener)
}

/// Raises the limit on open files to the maximum: each published port and each connection needs some.
fn raise_descriptor_limit() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(errno) = raised {
        tracing::warn!("cannot raise the limit on open files: {errno}");
    }
}

async fn end_by_signal(ending: CancellationToken) {
    let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    match (terminate, interrupt) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => tracing::info!("exiting on SIGTERM"),
                _ = interrupt.recv() => tracing::info!("exiting on SIGINT"),
            }
            ending.cancel();
        }
        (Err(error), _) | (_, Err(error)) => tracing::error!("cannot handle signals: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_names_the_first() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::at(parent.path().join("h")).unwrap();
        let held = lock(&home).unwrap();
        let error = lock(&home).unwrap_err().to_string();
        assert!(error.contains(&format!("as process {}", std::process::id())), "{error}");
        drop(held);
        lock(&home).unwrap();
    }

    #[test]
    fn a_process_id_not_written_yet_is_waited_for() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::at(parent.path().join("h")).unwrap();
        let held = lock(&home).unwrap();
        held.set_len(0).unwrap();
        let path = home.daemon_lock();
        let other = std::thread::spawn(move || holder(File::open(path).unwrap()).unwrap());
        std::fs::write(home.daemon_lock(), format!("{}\n", std::process::id())).unwrap();
        assert_eq!(other.join().unwrap(), std::process::id().to_string());
    }

    #[test]
    fn a_process_id_left_in_the_lock_file_stops_nobody() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::at(parent.path().join("h")).unwrap();
        std::fs::write(home.daemon_lock(), "1234567\n").unwrap();
        let _held = lock(&home).unwrap();
        assert_eq!(std::fs::read_to_string(home.daemon_lock()).unwrap(), format!("{}\n", std::process::id()));
    }

    #[tokio::test]
    async fn a_socket_left_by_a_killed_daemon_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("engine.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let _listener = listen(&path).unwrap();
        std::os::unix::net::UnixStream::connect(&path).unwrap();
    }
}
