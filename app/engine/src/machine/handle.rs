//! A handle to a machine's task: commands go in, the published state comes out.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use futures_util::{Stream, stream};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;

use super::{
    guest::Agent,
    launch::{Run, StartChoice},
    progress::Progress,
    refusal::{DaemonEnding, NotRunning},
};
use crate::{
    api::{self, machine_status::State},
    config::{Config, MachineConfig},
    disk,
    error::to_status,
    home::{Home, MachineName},
    ports::View,
};

/// A command for a machine's task.
pub(super) enum Command {
    Start { how: StartChoice, reply: oneshot::Sender<Progress> },
    Suspend { reply: oneshot::Sender<Progress> },
    Stop { force: bool, container_seconds: u32, reply: oneshot::Sender<Progress> },
}

/// The state a machine publishes.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) state: State,
    pub(crate) message: String,
    /// What to do about the state that the message explains.
    pub(crate) fix: Option<String>,
    pub(super) run: Option<Run>,
    /// Set while the guest can be reached.
    pub(super) agent: Option<Agent>,
}

/// A handle to a machine's task. Clones refer to the same machine.
#[derive(Clone)]
pub struct Machine {
    pub(super) home: Home,
    pub(super) name: MachineName,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) snapshot: watch::Receiver<Snapshot>,
    pub(super) ports: View,
    /// The monitor's executable; `None` means the installed one.
    pub(super) program: Option<PathBuf>,
}

impl Machine {
    /// The machine's name.
    pub fn name(&self) -> &MachineName {
        &self.name
    }

    /// Starts it, or joins the start under way. The stream reports every step from the first.
    pub(crate) async fn start(
        &self,
        how: StartChoice,
    ) -> Result<impl Stream<Item = Result<api::Progress, Status>> + Send + use<>, Status> {
        Ok(self.ask(move |reply| Command::Start { how, reply }).await?.subscribe())
    }

    /// Saves and ends it, or joins the suspension under way.
    pub(crate) async fn suspend(
        &self,
    ) -> Result<impl Stream<Item = Result<api::Progress, Status>> + Send + use<>, Status> {
        Ok(self.ask(|reply| Command::Suspend { reply }).await?.subscribe())
    }

    /// Stops it, or joins the stop under way.
    pub(crate) async fn stop(
        &self,
        force: bool,
        container_seconds: u32,
    ) -> Result<impl Stream<Item = Result<api::Progress, Status>> + Send + use<>, Status> {
        Ok(self.ask(move |reply| Command::Stop { force, container_seconds, reply }).await?.subscribe())
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<Progress>) -> Command) -> Result<Progress, Status> {
        let ending = || to_status(&DaemonEnding);
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())
    }

    /// Waits until no start is under way, at most for `limit`.
    pub(crate) async fn settled(&self, limit: Duration) {
        let mut snapshot = self.snapshot.clone();
        // The state shows which of the two it was.
        let _ = tokio::time::timeout(limit, snapshot.wait_for(|snapshot| snapshot.state != State::Starting)).await;
    }

    /// The state now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.snapshot.borrow().clone()
    }

    /// The agent of the running guest.
    ///
    /// # Errors
    ///
    /// A status that names the state the machine is in instead.
    pub(crate) fn agent(&self) -> Result<Agent, Status> {
        let snapshot = self.snapshot();
        snapshot.agent.clone().ok_or_else(|| to_status(&self.not_running(snapshot)))
    }

    /// Why a machine in this state cannot do anything.
    pub(crate) fn not_running(&self, snapshot: Snapshot) -> NotRunning {
        let Snapshot { state, message, fix, .. } = snapshot;
        NotRunning { machine: self.name.clone(), state, reason: message, advice: fix }
    }

    /// The status now, for a user.
    pub fn status(&self) -> api::MachineStatus {
        self.describe(&self.snapshot())
    }

    /// The status now and after each change. Changes that come faster than they are read are merged.
    pub fn watch(&self) -> impl Stream<Item = api::MachineStatus> + Send + use<> {
        let machine = self.clone();
        stream::unfold((machine, true), |(mut machine, first)| async move {
            if !first {
                let changed = tokio::select! {
                    changed = machine.snapshot.changed() => changed,
                    changed = machine.ports.changed() => changed,
                };
                changed.ok()?;
            }
            machine.snapshot.mark_unchanged();
            machine.ports.mark_unchanged();
            let status = machine.status();
            Some((status, (machine, false)))
        })
    }

    fn describe(&self, snapshot: &Snapshot) -> api::MachineStatus {
        let paths = self.home.machine(&self.name);
        let (disk_bytes, disk_allocated_bytes) = disk::sizes(&paths.data_disk());
        let run = snapshot.run.clone().unwrap_or_else(|| self.next_run());
        api::MachineStatus {
            name: self.name.to_string(),
            state: snapshot.state.into(),
            message: snapshot.message.clone(),
            fix: snapshot.fix.clone().unwrap_or_default(),
            accelerator: run.accelerator,
            accelerator_reason: run.accelerator_reason,
            cpus: run.cpus,
            memory_bytes: run.memory_mib << 20,
            disk_bytes,
            disk_allocated_bytes,
            vmm_process: run.vmm_process,
            ready_after_ms: run.ready_after_ms.unwrap_or_default(),
            uptime_seconds: run.started.map_or(0, |started| Instant::now().duration_since(started).as_secs()),
            docker_socket: self.home.docker_socket().display().to_string(),
            image_version: run.image_version,
            kernel_release: run.kernel_release,
            ports: self.ports.borrow().values().cloned().collect(),
            routes: None,
        }
    }

    /// What the machine will have at its next start, as far as its settings can be read.
    fn next_run(&self) -> Run {
        let config = Config::load(&self.home).unwrap_or_default();
        let paths = self.home.machine(&self.name);
        let settings = if paths.settings().exists() {
            MachineConfig::load(&paths, &config.machine).unwrap_or(config.machine)
        } else {
            config.machine
        };
        Run { cpus: settings.cpus, memory_mib: settings.memory_mib.into(), ..Run::default() }
    }
}
