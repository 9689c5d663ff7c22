//! The engine's shared state: what its supervisors change and everybody else asks.
//!
//! The state the host sees is computed from one [`Condition`], which supervisors change under a lock that is never held
//! across an await. Every change goes to a watch channel.

use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rorqual_protocol::agent::EngineState;
use tokio::sync::{Notify, watch};
use tracing::{error, info};

use super::condition::{Condition, Service};
use crate::boot::BootSteps;
use crate::log_ring::{KEPT_BYTES, LogRing};
use crate::processes::Processes;

/// The Docker Engine of this machine.
pub(crate) struct Engine {
    condition: Mutex<Condition>,
    state: watch::Sender<EngineState>,
    first_ready: Notify,
    pub(super) stopping: watch::Sender<bool>,
    clients_leave: watch::Sender<bool>,
    pub(super) processes: Processes,
    pub(super) steps: BootSteps,
    running: [watch::Sender<Option<Pid>>; 2],
    logs: [Arc<LogRing>; 2],
}

impl Engine {
    /// An engine that has not been started.
    pub(crate) fn new(processes: Processes, steps: BootSteps) -> Arc<Self> {
        let condition = Condition::default();
        Arc::new(Self {
            state: watch::Sender::new(condition.state()),
            condition: Mutex::new(condition),
            first_ready: Notify::new(),
            stopping: watch::Sender::new(false),
            clients_leave: watch::Sender::new(false),
            processes,
            steps,
            running: [watch::Sender::new(None), watch::Sender::new(None)],
            logs: [Arc::new(LogRing::new(KEPT_BYTES)), Arc::new(LogRing::new(KEPT_BYTES))],
        })
    }

    /// The engine will not be started. `why` and the instruction `fix` are for the user.
    pub(crate) fn cannot_start(&self, why: String, fix: Option<&'static str>) {
        error!("the engine cannot run: {why}");
        self.change(|condition| condition.cannot_start(why, fix));
    }

    /// The state, and each change of it.
    pub(crate) fn state(&self) -> watch::Receiver<EngineState> {
        self.state.subscribe()
    }

    /// Returns when the API has answered for the first time.
    pub(crate) async fn first_ready(&self) {
        self.first_ready.notified().await;
    }

    /// The output of a service.
    pub(crate) fn log(&self, service: Service) -> &Arc<LogRing> {
        &self.logs[service as usize]
    }

    /// Starts no service from now on.
    pub(crate) fn stop_supervising(&self) {
        self.change(Condition::stopping);
        self.stopping.send_replace(true);
    }

    /// Has everybody who holds a connection to dockerd's API end it, for the rest of this boot.
    pub(crate) fn dismiss_clients(&self) {
        self.clients_leave.send_replace(true);
    }

    /// Becomes true when connections to dockerd's API must end.
    pub(crate) fn clients_dismissed(&self) -> watch::Receiver<bool> {
        self.clients_leave.subscribe()
    }

    /// Signals a service and returns whether it runs.
    pub(crate) fn signal(&self, service: Service, signal: Signal) -> bool {
        let pid = *self.running(service).borrow();
        pid.is_some_and(|pid| self.processes.signal(pid, signal).is_ok())
    }

    /// Waits until a service does not run.
    pub(crate) async fn ended(&self, service: Service) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.running(service).subscribe().wait_for(Option::is_none).await;
    }

    pub(super) fn running(&self, service: Service) -> &watch::Sender<Option<Pid>> {
        &self.running[service as usize]
    }

    /// Ends a service that was started while a shutdown was requested.
    pub(super) fn end_if_stopping(&self, service: Service) {
        if *self.stopping.borrow() {
            self.signal(service, Signal::SIGTERM);
        }
    }

    pub(super) fn change<Changed>(&self, change: impl FnOnce(&mut Condition) -> Changed) -> Changed {
        let mut condition = self.condition.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut condition);
        let state = condition.state();
        // Under the lock, so that states are published in the order they arose.
        self.state.send_if_modified(|published| {
            let different = *published != state;
            *published = state;
            different
        });
        changed
    }

    /// dockerd's API answers. Returns whether this is the first time.
    pub(super) fn api_answers(&self) -> bool {
        self.steps.ended(Service::Dockerd.name());
        let first = self.change(|condition| {
            let first = condition.api_answers();
            if first {
                // Set together with "ready", so that nobody sees an engine that is ready and idle before.
                condition.busy_with(Some("looking for the image rorqual/hello"));
            }
            first
        });
        info!("the Docker API answers");
        if first {
            self.first_ready.notify_one();
        }
        first
    }
}
