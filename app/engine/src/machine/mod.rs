//! Machines. Each is one task ([`actor`]) that owns its state; a [`Machine`] is the way to it.
//!
//! A start goes: settings, image, disk, accelerator, monitor ([`launch`]); then the guest calls and its agent is held on
//! to ([`guest`]) until the engine answers. A stop is asked of the agent, then of the monitor ([`stop`]); a suspension of both
//! ([`suspend`]), and the next start goes on from what it saved. The monitor is
//! a process of its own ([`vmm`]) that outlives the daemon.

pub(crate) mod accelerator;
mod actor;
mod clock;
mod environment;
pub(crate) mod guest;
mod launch;
mod progress;
mod refusal;
mod stop;
mod suspend;
#[cfg(test)]
mod tests;
pub(crate) mod vmm;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

pub use accelerator::AcceleratorError;
use futures_util::{Stream, stream};
use guest::Agent;
use launch::Run;
pub use launch::StartError;
use progress::Progress;
pub(crate) use refusal::{DaemonEnding, NotRunning};
#[cfg(test)]
pub(crate) use suspend::SuspendError;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;
pub use vmm::VmmError;

use crate::{
    api::{self, machine_status::State},
    config::{AcceleratorChoice, Config, MachineConfig},
    disk,
    error::to_status,
    home::{Home, MachineName},
    ports::{Holders, View},
};

/// Commands that may wait for a machine.
const COMMANDS: usize = 16;

/// What a machine is asked.
enum Command {
    Start { how: StartChoice, reply: oneshot::Sender<Progress> },
    Suspend { reply: oneshot::Sender<Progress> },
    Stop { force: bool, container_seconds: u32, reply: oneshot::Sender<Progress> },
}

/// How a machine is to be started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StartChoice {
    /// What runs its processors; else what the configuration says.
    pub(crate) accelerator: Option<AcceleratorChoice>,
    /// Boot, even if there is a saved state to go on from: it is given up.
    pub(crate) cold: bool,
}

/// What a machine says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) state: State,
    pub(crate) message: String,
    /// What to do about a state that the message explains.
    pub(crate) fix: Option<String>,
    run: Option<Run>,
    /// Set while the guest can be spoken to.
    agent: Option<Agent>,
}

/// The way to a machine's task. Clones lead to the same machine.
#[derive(Clone)]
pub struct Machine {
    home: Home,
    name: MachineName,
    commands: mpsc::Sender<Command>,
    snapshot: watch::Receiver<Snapshot>,
    ports: View,
    /// The monitor's executable; `None` means the installed one.
    program: Option<PathBuf>,
}

impl Machine {
    /// Begins to look after a machine. It is found when it runs already; otherwise nothing is started.
    pub(crate) async fn open(home: Home, name: MachineName, holders: Holders, program: Option<PathBuf>) -> Self {
        let (commands, received) = mpsc::channel(COMMANDS);
        let stopped = Snapshot { state: State::Stopped, message: String::new(), fix: None, run: None, agent: None };
        let (published, snapshot) = watch::channel(stopped);
        let (ports_sender, ports) = watch::channel(BTreeMap::new());
        let machine = Self { home, name, commands, snapshot, ports, program };
        actor::spawn(machine.clone(), received, published, ports_sender, holders).await;
        machine
    }

    /// The machine's name.
    pub fn name(&self) -> &MachineName {
        &self.name
    }

    /// Starts it, or joins the start under way. The stream tells all of it from its beginning.
    pub(crate) async fn start(
        &self,
        how: StartChoice,
    ) -> Result<impl Stream<Item = Result<api::Progress, Status>> + Send + use<>, Status> {
        Ok(self.ask(move |reply| Command::Start { how, reply }).await?.subscribe())
    }

    /// Saves it and ends it, or joins the suspension under way.
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
        // Either outcome is fine: the state says it.
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
    /// A status that says in which state the machine is instead.
    pub(crate) fn agent(&self) -> Result<Agent, Status> {
        let snapshot = self.snapshot();
        snapshot.agent.clone().ok_or_else(|| to_status(&self.not_running(snapshot)))
    }

    /// Why nothing can be asked of a machine in this state.
    pub(crate) fn not_running(&self, snapshot: Snapshot) -> NotRunning {
        let Snapshot { state, message, fix, .. } = snapshot;
        NotRunning { machine: self.name.clone(), state, reason: message, advice: fix }
    }

    /// The status now, for a user.
    pub fn status(&self) -> api::MachineStatus {
        self.describe(&self.snapshot())
    }

    /// The status now and after each change of it. Changes that come faster than they are read are seen as one.
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
            memory_bytes: u64::from(run.memory_mib) << 20,
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

    /// What the machine will get when it is started, as far as its settings can be read.
    fn next_run(&self) -> Run {
        let config = Config::load(&self.home).unwrap_or_default();
        let paths = self.home.machine(&self.name);
        let settings = if paths.settings().exists() {
            MachineConfig::load(&paths, &config.machine).unwrap_or(config.machine)
        } else {
            config.machine
        };
        Run { cpus: settings.cpus, memory_mib: settings.memory_mib, ..Run::default() }
    }
}
