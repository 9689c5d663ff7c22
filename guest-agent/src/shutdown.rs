//! The orderly end of the machine, at the first request for it. Each step does what it can, and the next follows even
//! if it fails.
//!
//! Containers are stopped by dockerd's own shutdown and not by stop requests: a container stopped by request counts as
//! stopped by the user and would not come back with `--restart unless-stopped`.

use std::fs;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, sync};
use rorqual_protocol::agent::ShutdownStep;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::engine::{Engine, Service};
use crate::processes::Processes;
use crate::{containers, data_disk, log};

/// The time dockerd gets after its containers have ended, and containerd. Both only have to close their files.
const SERVICE_PATIENCE: Duration = Duration::from_secs(10);
/// How long dockerd's clients may still receive answers after the last container has ended.
const ANSWER_PATIENCE: Duration = Duration::from_millis(300);
/// How long killed processes may take to end.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// The one shutdown of a boot.
#[derive(Clone)]
pub(crate) struct Shutdown {
    begun: Arc<AtomicBool>,
    steps: watch::Sender<Vec<ShutdownStep>>,
    engine: Arc<Engine>,
    processes: Processes,
}

impl Shutdown {
    /// A shutdown that has not been requested.
    pub(crate) fn new(engine: Arc<Engine>, processes: Processes) -> Self {
        Self { begun: Arc::default(), steps: watch::Sender::new(Vec::new()), engine, processes }
    }

    /// Begins, unless it has begun already, and returns the steps done so far and to come. `container_patience` is how
    /// long containers get at most; `None` is the default.
    pub(crate) fn begin(&self, container_patience: Option<Duration>) -> watch::Receiver<Vec<ShutdownStep>> {
        let steps = self.steps.subscribe();
        if !self.begun.swap(true, Ordering::SeqCst) {
            info!("shutting the machine down");
            let shutdown = self.clone();
            tokio::spawn(async move { shutdown.run(container_patience.unwrap_or(containers::PATIENCE)).await });
        }
        steps
    }

    async fn run(self, container_patience: Duration) {
        self.engine.stop_supervising();
        let docker = self.engine.signal(Service::Dockerd, Signal::SIGTERM);
        self.step("containers", stop_containers(docker, container_patience)).await;
        self.step("dockerd", self.dockerd_ends()).await;
        self.engine.signal(Service::Containerd, Signal::SIGTERM);
        self.step("containerd", self.service_ends(Service::Containerd)).await;
        self.end_every_process().await;
        if data_disk::is_mounted() {
            self.step("trim", blocking(trim)).await;
            self.step("unmount", blocking(unmount)).await;
        }
        self.told("power-off", Ok(String::new()));
        // Lets the last step reach the host: the stream's task runs while this one sleeps.
        tokio::time::sleep(Duration::from_millis(20)).await;
        log::power_off()
    }

    async fn step(&self, name: &str, work: impl Future<Output = Result<String>>) {
        let result = work.await;
        self.told(name, result);
    }

    fn told(&self, name: &str, result: Result<String>) {
        let (failed, message) = match result {
            Ok(message) => (false, message),
            Err(error) => (true, format!("{error:#}")),
        };
        if failed {
            warn!("shutdown: {name}: {message}");
        } else {
            info!("shutdown: {name} {message}");
        }
        self.steps.send_modify(|steps| steps.push(ShutdownStep { name: name.to_owned(), failed, message }));
    }

    /// Waits for dockerd, whose containers have ended. It grants open requests five seconds, and a request for events
    /// never ends by itself.
    async fn dockerd_ends(&self) -> Result<String> {
        if timeout(ANSWER_PATIENCE, self.engine.ended(Service::Dockerd)).await.is_err() {
            self.engine.dismiss_clients();
        }
        self.service_ends(Service::Dockerd).await
    }

    /// Waits for a service that was signalled, and kills it if it takes too long.
    async fn service_ends(&self, service: Service) -> Result<String> {
        if timeout(SERVICE_PATIENCE, self.engine.ended(service)).await.is_ok() {
            return Ok(String::new());
        }
        self.engine.signal(service, Signal::SIGKILL);
        let _ = timeout(KILL_PATIENCE, self.engine.ended(service)).await;
        bail!("{} did not end within {} s and was killed", service.name(), SERVICE_PATIENCE.as_secs())
    }

    /// Ends whatever still runs: shims and shells hold files of the data disk open.
    async fn end_every_process(&self) {
        match kill(Pid::from_raw(-1), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => warn!("cannot end the remaining processes: {errno}"),
        }
        if timeout(KILL_PATIENCE, self.processes.none_left()).await.is_err() {
            warn!("some processes are stuck in the kernel");
        }
    }
}

async fn blocking(work: fn() -> Result<String>) -> Result<String> {
    tokio::task::spawn_blocking(work).await.context("the step broke off")?
}

/// Waits until dockerd, which has been signalled, has stopped its containers; without a dockerd they are signalled
/// here. Those that still run after `patience` are killed.
async fn stop_containers(docker_runs: bool, patience: Duration) -> Result<String> {
    if !docker_runs {
        containers::ask_all_to_end();
    }
    if containers::wait_or_kill(patience).await? {
        return Ok(String::new());
    }
    bail!("some containers did not stop within {} s and were killed", patience.as_secs())
}

fn trim() -> Result<String> {
    sync();
    let bytes = data_disk::trim()?;
    Ok(format!("returned {} MiB to the host", bytes >> 20))
}

/// Unmounts everything on the data disk, the last mount first. A file system that is still busy is made read-only
/// instead, which also leaves it clean.
fn unmount() -> Result<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    let targets = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let on_disk = |target: &&str| {
        data_disk::FOLDERS.iter().any(|(_, folder)| Path::new(target).starts_with(folder))
            || Path::new(target).starts_with(data_disk::MOUNT_POINT)
    };
    let mut targets: Vec<&str> = targets.filter(on_disk).collect();
    targets.reverse();
    for target in targets {
        match umount2(target, MntFlags::empty()) {
            Ok(()) => {}
            Err(errno) if target == data_disk::MOUNT_POINT => {
                sync();
                let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
                mount(None::<&str>, target, None::<&str>, flags, None::<&str>).with_context(|| {
                    format!("cannot unmount the data disk ({errno}) or make it read-only; the next start will check it")
                })?;
                return Ok(format!("still busy ({errno}), so made read-only"));
            }
            Err(_) => {
                let _ = umount2(target, MntFlags::MNT_DETACH);
            }
        }
    }
    Ok(String::new())
}
