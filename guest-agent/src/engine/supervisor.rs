//! Keeps one service running: starts it, reads its output into its log, and restarts it after a pause when it ends.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::unistd::read;
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tracing::{debug, info, warn};

use super::condition::{End, Service};
use super::state::Engine;
use super::{environment, hello, settings};
use crate::backoff::Backoff;
use crate::containers;
use crate::docker_api::{self, DOCKER_SOCKET};
use crate::log_ring::LogRing;
use crate::readiness;

/// OOM score adjustment of the services (proc(5)); containers have 0.
const SPARED: &str = "-500";

/// Supervises `service` until a shutdown is requested and it has ended.
pub(super) async fn supervise(engine: Arc<Engine>, service: Service) {
    let mut backoff = Backoff::default();
    let mut stopping = engine.stopping.subscribe();
    while !*stopping.borrow_and_update() {
        let started = Instant::now();
        let (how, gave_up) = match run(&engine, service).await {
            Ok(status) => (status.to_string(), status.code().is_some()),
            Err(error) => (format!("it cannot be started: {error}"), false),
        };
        engine.running(service).send_replace(None);
        if *stopping.borrow_and_update() {
            info!("{} ended: {how}", service.name());
            return;
        }
        // The last line explains why a service gave up; one that was killed had no time to log anything.
        let how = match engine.log(service).last_line() {
            Some(line) if gave_up => format!("{how} ({line})"),
            _ => how,
        };
        let rest = backoff.ended_after(started.elapsed());
        warn!("{} ended: {how}; it restarts in {rest:?}", service.name());
        engine.change(|condition| condition.ended(service, End { how, rest, in_a_row: backoff.ends_in_a_row() }));
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            _ = stopping.changed() => continue,
        }
        if service == Service::Dockerd {
            tokio::select! {
                () = containers::end_abandoned() => {}
                _ = stopping.changed() => {}
            }
        }
    }
}

/// Runs the service once, until it ends.
async fn run(engine: &Arc<Engine>, service: Service) -> io::Result<ExitStatus> {
    let socket = match service {
        Service::Dockerd => {
            for leftover in [settings::DOCKERD_PID_FILE, DOCKER_SOCKET] {
                match std::fs::remove_file(leftover) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            Some(SocketWatch::new(Path::new("/run"))?)
        }
        Service::Containerd => None,
    };
    let (output, given) = io::pipe()?;
    let mut command = settings::service_command(service);
    if service == Service::Dockerd {
        command.envs(environment::of_host().await);
    }
    command.stdin(Stdio::null()).stdout(given.try_clone()?).stderr(given);
    let process = engine.processes.start(&mut command)?;
    drop(command);
    info!("{} started as process {}", service.name(), process.pid);
    // When memory runs out, the kernel should kill a container, which dockerd then reports, and not dockerd.
    if let Err(error) = std::fs::write(format!("/proc/{}/oom_score_adj", process.pid), SPARED) {
        debug!("{} may be killed when memory runs out: {error}", service.name());
    }
    tokio::spawn(read_output(output.into(), Arc::clone(engine.log(service))));

    engine.running(service).send_replace(Some(process.pid));
    engine.change(|condition| condition.started(service));
    engine.end_if_stopping(service);
    let mut exit = process.exit;
    if let Some(socket) = socket {
        tokio::select! {
            ended = &mut exit => return ended.map_err(io::Error::other),
            () = socket.wait_for_api() => {
                if engine.api_answers() {
                    tokio::spawn(hello::provide(Arc::clone(engine)));
                }
            }
        }
    } else {
        engine.steps.ended(service.name());
    }
    exit.await.map_err(io::Error::other)
}

/// Reads a service's output until the last process with the pipe open ends.
async fn read_output(output: OwnedFd, log: Arc<LogRing>) {
    let mut output = match pipe::Receiver::from_owned_fd(output) {
        Ok(output) => output,
        Err(error) => {
            warn!("cannot read a service's output: {error}");
            return;
        }
    };
    let mut buffer = vec![0; 16 << 10];
    loop {
        match output.read(&mut buffer).await {
            Ok(0) => return,
            Ok(length) => log.write(&buffer[..length]),
            Err(error) => {
                warn!("cannot read a service's output: {error}");
                return;
            }
        }
    }
}

/// Watches for dockerd's socket. dockerd listens long before it serves, and answers a request sent meanwhile as soon as
/// it serves, so that no request has to be repeated.
struct SocketWatch(AsyncFd<OwnedFd>);

impl SocketWatch {
    fn new(folder: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        // dockerd sets the socket's mode once it listens, which is the attribute event.
        let events = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_MOVED_TO;
        inotify.add_watch(folder, events)?;
        readiness::watch(inotify).map(Self)
    }

    /// Returns when the API answers.
    async fn wait_for_api(&self) {
        loop {
            match docker_api::ping(Path::new(DOCKER_SOCKET)).await {
                Ok(()) => return,
                Err(error) => debug!("{error}"),
            }
            let mut events = [0; 4096];
            let drained =
                self.0.async_io(tokio::io::Interest::READABLE, |inotify| Ok(read(inotify.as_fd(), &mut events)?));
            if let Err(error) = drained.await {
                // Without events, only trying again is left.
                warn!("cannot watch for {DOCKER_SOCKET}: {error}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}
