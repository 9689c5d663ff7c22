//! The Docker Engine: containerd and dockerd side by side, each with a supervisor task of its own.
//!
//! The state the host sees is computed from one [`Condition`], which supervisors change under a lock that is never held
//! across an await; every change goes to a watch channel.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::Signal;
use nix::sys::utsname::uname;
use nix::unistd::Pid;
use rorqual_protocol::agent::EngineState;
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

mod condition;
mod docker_api;
mod environment;
mod settings;
mod supervisor;

pub(crate) use condition::Service;
pub(crate) use docker_api::{DockerApiError, HostNetwork, HostNetworkChange};
pub(crate) use settings::command;

use crate::boot::{self, BootSteps, NetworkSettings};
use crate::iptables;
use crate::log_ring::{KEPT_BYTES, LogRing};
use crate::ports::{Ingress, Ports};
use crate::processes::Processes;
use condition::Condition;

/// Where dockerd listens.
pub(crate) const DOCKER_SOCKET: &str = "/run/docker.sock";
/// An image that is there without a registry, so that the first run works offline.
const HELLO_IMAGE: &str = "rorqual/hello:latest";
const HELLO_ARCHIVE: &str = "/usr/lib/rorqual/hello.tar";

/// See the module's text.
pub(crate) struct Engine {
    condition: Mutex<Condition>,
    state: watch::Sender<EngineState>,
    first_ready: Notify,
    stopping: watch::Sender<bool>,
    processes: Processes,
    steps: BootSteps,
    running: [watch::Sender<Option<Pid>>; 2],
    logs: [Arc<LogRing>; 2],
}

impl Engine {
    /// An engine that is not started yet.
    pub(crate) fn new(processes: Processes, steps: BootSteps) -> Arc<Self> {
        let condition = Condition::default();
        Arc::new(Self {
            state: watch::Sender::new(condition.state()),
            condition: Mutex::new(condition),
            first_ready: Notify::new(),
            stopping: watch::Sender::new(false),
            processes,
            steps,
            running: [watch::Sender::new(None), watch::Sender::new(None)],
            logs: [Arc::new(LogRing::new(KEPT_BYTES)), Arc::new(LogRing::new(KEPT_BYTES))],
        })
    }

    /// Starts both services; the data disk must be mounted. Kernel modules are loaded while containerd starts, which
    /// needs none of them.
    pub(crate) async fn start(self: &Arc<Self>, network: &NetworkSettings, ports: Ports) {
        if let Err(error) = settings::write(network) {
            self.cannot_start(format!("{error:#}"));
            return;
        }
        if let Err(error) = iptables::serve(self.processes.clone(), Ingress::new(ports, network)) {
            warn!(
                "each iptables command of dockerd is a process of its own, and ports of a swarm's services are not published: {error}"
            );
        }
        tokio::spawn(supervisor::supervise(Arc::clone(self), Service::Containerd));
        let loaded = tokio::task::spawn_blocking(load_modules).await;
        if let Err(error) = loaded {
            warn!("cannot load the engine's kernel modules: {error}");
        }
        tokio::spawn(supervisor::supervise(Arc::clone(self), Service::Dockerd));
    }

    /// The engine will not be started; `why` is for the user and says what to do.
    pub(crate) fn cannot_start(&self, why: String) {
        error!("the engine cannot run: {why}");
        self.change(|condition| condition.cannot_start(why));
    }

    /// The state, and each change of it.
    pub(crate) fn state(&self) -> watch::Receiver<EngineState> {
        self.state.subscribe()
    }

    /// Returns when the API answered for the first time.
    pub(crate) async fn first_ready(&self) {
        self.first_ready.notified().await;
    }

    /// What a service wrote.
    pub(crate) fn log(&self, service: Service) -> &Arc<LogRing> {
        &self.logs[service as usize]
    }

    /// No service is started from now on.
    pub(crate) fn stop_supervising(&self) {
        self.change(Condition::stopping);
        self.stopping.send_replace(true);
    }

    /// Signals a service; tells whether it runs.
    pub(crate) fn signal(&self, service: Service, signal: Signal) -> bool {
        let pid = *self.running(service).borrow();
        pid.is_some_and(|pid| self.processes.signal(pid, signal).is_ok())
    }

    /// Waits until a service does not run.
    pub(crate) async fn ended(&self, service: Service) {
        // The sender lives in `self`: the wait cannot fail.
        let _ = self.running(service).subscribe().wait_for(Option::is_none).await;
    }

    fn running(&self, service: Service) -> &watch::Sender<Option<Pid>> {
        &self.running[service as usize]
    }

    /// Ends a service that was started while shutdown was asked for.
    fn end_if_stopping(&self, service: Service) {
        if *self.stopping.borrow() {
            self.signal(service, Signal::SIGTERM);
        }
    }

    fn change<Changed>(&self, change: impl FnOnce(&mut Condition) -> Changed) -> Changed {
        let mut condition = self.condition.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut condition);
        let state = condition.state();
        // Under the lock, so that states are told in the order they came to be.
        self.state.send_if_modified(|told| {
            let different = *told != state;
            *told = state;
            different
        });
        changed
    }

    fn api_answers(self: &Arc<Self>) {
        self.steps.ended(Service::Dockerd.name());
        let first = self.change(|condition| {
            let first = condition.api_answers();
            if first {
                // Said together with "ready", so that nobody sees an engine that is ready and idle before.
                condition.busy_with(Some("looking for the image rorqual/hello"));
            }
            first
        });
        info!("the Docker API answers");
        if first {
            self.first_ready.notify_one();
            let engine = Arc::clone(self);
            tokio::spawn(async move {
                engine.provide_hello().await;
                engine.change(|condition| condition.busy_with(None));
            });
        }
    }

    /// Loads the image of the first run if it is not there.
    async fn provide_hello(&self) {
        let socket = Path::new(DOCKER_SOCKET);
        match docker_api::has_image(socket, HELLO_IMAGE).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => return warn!("cannot look for the image {HELLO_IMAGE}: {error}"),
        }
        self.change(|condition| condition.busy_with(Some("loading the image rorqual/hello")));
        let archive = match std::fs::read(HELLO_ARCHIVE) {
            Ok(archive) => archive,
            Err(error) => return warn!("cannot read {HELLO_ARCHIVE}, {HELLO_IMAGE} is not there: {error}"),
        };
        match docker_api::load_images(socket, &archive).await {
            Ok(()) => info!("loaded the image {HELLO_IMAGE}"),
            Err(error) => warn!("cannot load the image {HELLO_IMAGE}: {error}"),
        }
    }
}

/// Loads the modules the engine needs, as the image lists them for this kernel.
fn load_modules() {
    match uname() {
        Ok(kernel) => {
            let release = kernel.release().to_string_lossy();
            let list = format!("/usr/lib/rorqual/modules-{release}");
            boot::load_modules(Path::new(&list), Path::new("/"));
        }
        Err(errno) => warn!("cannot ask for the kernel's release: {errno}"),
    }
}
