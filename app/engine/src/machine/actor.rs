//! The task that owns a machine.
//!
//! ```text
//! Stopped ──start──► Starting ──engine answers──► Running ◄──► Degraded
//!    ▲ ▲                │  │                        │             │
//!    │ └──── Stopping ◄─stop┴───────────stop────────┴─────────────┤
//!    │      Suspended ◄── Suspending ◄──suspend─────┴─────────────┤
//!    └─(start again)─ Failed ◄──────the monitor ended─────────────┘
//! ```

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use rorqual_protocol::agent::{EngineState, HealthReply, engine_state};
use rorqual_vmm_protocol::{Accelerator, EndReason};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    guest::{self, GuestEvent},
    handle::{Command, Machine, Snapshot},
    launch::{self, END_ADVICE, ENGINE_ADVICE, Launched, Origin, StartChoice, StartError},
    phase::{Happened, Launching, Next, Phase, Stopping, Suspending, Up},
    progress::{Progress, milliseconds},
    saved_state, stop,
    suspend::{self, SuspendError},
};
use crate::{
    api::{self, machine_status::State},
    error::{Coded, one_line, to_status},
    home::{Home, MachineName, MachinePaths},
    monitor::{self, Ended, VmmError},
    ports::{Holders, Table},
};

/// The guest's agent calls within this, on the slowest computer.
const BOOT_LIMIT: Duration = Duration::from_mins(2);
/// The engine answers within this, a first start's image and a repair of the disk included.
const ENGINE_LIMIT: Duration = Duration::from_mins(5);
/// A killed monitor ends within this, however much memory the system has to reclaim.
const END_LIMIT: Duration = Duration::from_secs(5);
/// What to do while the engine recovers.
const WAIT_ADVICE: &str = "wait, or read what it is doing with `rorqual logs dockerd`";
/// Commands that may wait for the task.
const MAX_COMMANDS: usize = 16;
/// News of the guest that may wait.
const MAX_EVENTS: usize = 32;

/// The explanation of a state: its reason, and what to do about it.
#[derive(Default)]
struct Explained {
    message: String,
    fix: Option<String>,
}

impl Explained {
    fn new(message: String, fix: &str) -> Self {
        Self { message, fix: Some(fix.to_owned()) }
    }

    fn by(error: &dyn Coded) -> Self {
        Self { message: error.to_string(), fix: error.fix() }
    }
}

struct Actor {
    machine: Machine,
    paths: MachinePaths,
    phase: Phase,
    published: watch::Sender<Snapshot>,
    ports: watch::Sender<BTreeMap<u64, api::Port>>,
    holders: Holders,
}

/// Opens a machine: starts its task, which lives as long as the daemon. A machine that runs already is found; otherwise
/// nothing is started. `program` is the monitor's executable; `None` means the installed one.
pub(crate) async fn open(home: Home, name: MachineName, holders: Holders, program: Option<PathBuf>) -> Machine {
    let (commands, received) = mpsc::channel(MAX_COMMANDS);
    let stopped = Snapshot { state: State::Stopped, message: String::new(), fix: None, run: None, agent: None };
    let (published, snapshot) = watch::channel(stopped);
    let (ports_sender, ports) = watch::channel(BTreeMap::new());
    let machine = Machine { home, name, commands, snapshot, ports, program };
    let paths = machine.home.machine(&machine.name);
    let (phase, ports) = (Phase::Down, ports_sender);
    let mut actor = Actor { machine: machine.clone(), paths, phase, published, ports, holders };
    // Before any command, so that a running machine never appears stopped.
    match launch::adopt(&actor.machine.home, &actor.machine.name).await {
        Ok(Some(launched)) => {
            tracing::info!("machine {} is already running, as process {}", actor.machine.name, launched.vmm.process);
            actor.up(launched, Progress::new());
        }
        Ok(None) => actor.publish(actor.at_rest(), Explained::default()),
        Err(error) => {
            tracing::error!("{error}");
            actor.publish(State::Failed, Explained::by(&error));
        }
    }
    tokio::spawn(actor.run(received));
    machine
}

impl Actor {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Start { how, reply }) => self.start(how, reply).await,
                    Some(Command::Suspend { reply }) => self.suspend(reply),
                    Some(Command::Stop { force, container_seconds, reply }) => {
                        self.stop(force, container_seconds, reply).await;
                    }
                    None => return,
                },
                happened = self.phase.next() => self.happened(happened),
            }
        }
    }

    async fn start(&mut self, how: StartChoice, reply: oneshot::Sender<Progress>) {
        let progress = match &mut self.phase {
            Phase::Launching(launching) => launching.progress.clone(),
            Phase::Up(up) => match &up.start {
                Some((progress, _)) => progress.clone(),
                None => self.start_again(how).await,
            },
            Phase::Suspending(suspending) => {
                suspending.cancel.cancel();
                match suspending.next.get_or_insert_with(|| Next::Start(how, Progress::new())) {
                    Next::Start(_, progress) | Next::Stop { progress, .. } => progress.clone(),
                }
            }
            Phase::Stopping(stopping) => stopping.next.get_or_insert_with(|| (how, Progress::new())).1.clone(),
            Phase::Down => {
                let progress = Progress::new();
                self.launch(how, progress.clone());
                progress
            }
        };
        // A caller that left does not cancel the start.
        let _ = reply.send(progress);
    }

    /// A start while the machine seems to run: done already, unless the monitor was killed just now.
    async fn start_again(&mut self, how: StartChoice) -> Progress {
        let Phase::Up(up) = &self.phase else { return self.done() };
        let Err(error) = up.vmm.check().await else { return self.done() };
        let progress = Progress::new();
        match up.vmm.ended_within(END_LIMIT).await {
            Some(ended) => {
                self.phase = Phase::Down;
                self.ended(&ended, None);
                self.launch(how, progress.clone());
            }
            None => progress.failed(to_status(&error)),
        }
        progress
    }

    fn launch(&mut self, how: StartChoice, progress: Progress) {
        tracing::info!("machine {} starts", self.machine.name);
        let cancel = CancellationToken::new();
        let (home, name) = (self.machine.home.clone(), self.machine.name.clone());
        let program = self.machine.program.clone();
        let task = tokio::spawn(launch::launch(home, name, program, how, progress.clone(), cancel.clone()));
        self.phase = Phase::Launching(Launching { task, cancel, progress });
        self.publish(State::Starting, Explained::default());
    }

    async fn stop(&mut self, force: bool, container_seconds: u32, reply: oneshot::Sender<Progress>) {
        let progress = match std::mem::replace(&mut self.phase, Phase::Down) {
            Phase::Down => {
                if force {
                    // Nothing else can end a monitor that does not answer.
                    monitor::kill_silent(&self.paths).await;
                }
                self.publish(self.at_rest(), Explained::default());
                self.done()
            }
            Phase::Suspending(mut suspending) => {
                suspending.cancel.cancel();
                let progress = Progress::new();
                let next = Next::Stop { force, container_seconds, progress: progress.clone() };
                if let Some(Next::Start(_, start)) = suspending.next.replace(next) {
                    start.failed(to_status(&StartError::Cancelled));
                }
                self.phase = Phase::Suspending(suspending);
                progress
            }
            Phase::Launching(Launching { task, cancel, progress }) => {
                cancel.cancel();
                progress.failed(to_status(&StartError::Cancelled));
                let stop = Progress::new();
                stop.step("power-off", "Cancelling the start");
                let work = async move {
                    match task.await {
                        Ok(Ok(launched)) => launched.vmm.kill().await,
                        _ => Ok(()),
                    }
                };
                self.stopping(tokio::spawn(work), CancellationToken::new(), stop, None)
            }
            Phase::Up(mut up) => {
                if let Some((start, _)) = up.start.take() {
                    start.failed(to_status(&StartError::Cancelled));
                }
                self.end(&up, force, container_seconds, Progress::new(), None)
            }
            Phase::Stopping(mut stopping) => {
                if force {
                    stopping.force.cancel();
                }
                if let Some((_, next)) = stopping.next.take() {
                    next.failed(to_status(&StartError::Cancelled));
                }
                let progress = stopping.progress.clone();
                self.phase = Phase::Stopping(stopping);
                progress
            }
        };
        let _ = reply.send(progress);
    }

    /// The state of a machine that does not run.
    fn at_rest(&self) -> State {
        if saved_state::exists(&self.paths) { State::Suspended } else { State::Stopped }
    }

    fn suspend(&mut self, reply: oneshot::Sender<Progress>) {
        let failed = |error: SuspendError| {
            let progress = Progress::new();
            progress.failed(to_status(&error));
            progress
        };
        let progress = match std::mem::replace(&mut self.phase, Phase::Down) {
            Phase::Up(up) if up.run.accelerator != Accelerator::Kvm.name() => {
                self.phase = Phase::Up(up);
                failed(SuspendError::Accelerator)
            }
            Phase::Up(up) if up.start.is_none() && up.reached => {
                tracing::info!("machine {} is being saved", self.machine.name);
                let (progress, cancel) = (Progress::new(), CancellationToken::new());
                let directory = self.paths.snapshot();
                let work = suspend::suspend(
                    Arc::clone(&up.vmm),
                    up.agent.clone(),
                    directory,
                    progress.clone(),
                    cancel.clone(),
                );
                let task = tokio::spawn(work);
                let suspending = Suspending { task, cancel, progress: progress.clone(), up, next: None };
                self.phase = Phase::Suspending(suspending);
                self.publish(State::Suspending, Explained::default());
                progress
            }
            Phase::Suspending(suspending) => {
                let progress = suspending.progress.clone();
                self.phase = Phase::Suspending(suspending);
                progress
            }
            Phase::Down if saved_state::exists(&self.paths) => self.done(),
            phase => {
                self.phase = phase;
                failed(SuspendError::NotRunning)
            }
        };
        let _ = reply.send(progress);
    }

    /// The suspension has ended, successfully or not.
    fn suspended(&mut self, result: Result<(), SuspendError>, suspending: Suspending) {
        let Suspending { progress, mut up, next, .. } = suspending;
        match result {
            Ok(()) => {
                tracing::info!("machine {} is saved", self.machine.name);
                drop(up);
                self.clear_run();
                self.publish(State::Suspended, Explained::default());
                progress.done(self.machine.status());
                match next {
                    Some(Next::Start(how, progress)) => self.launch(how, progress),
                    Some(Next::Stop { progress, .. }) => progress.done(self.machine.status()),
                    None => {}
                }
            }
            Err(error) => {
                tracing::warn!("machine {} is not saved: {error}", self.machine.name);
                progress.failed(to_status(&error));
                self.publish(State::Running, Explained::default());
                match next {
                    Some(Next::Stop { force, container_seconds, progress }) => {
                        up.start = None;
                        self.end(&up, force, container_seconds, progress, None);
                        return;
                    }
                    Some(Next::Start(_, progress)) => progress.done(self.machine.status()),
                    None => {}
                }
                self.phase = Phase::Up(up);
            }
        }
    }

    /// Starts the shutdown of a machine that is up.
    fn end(
        &mut self,
        up: &Up,
        force: bool,
        container_seconds: u32,
        progress: Progress,
        failure: Option<StartError>,
    ) -> Progress {
        let token = CancellationToken::new();
        if force {
            token.cancel();
        }
        let agent = up.reached.then(|| up.agent.clone());
        let work = stop::stop(Arc::clone(&up.vmm), agent, container_seconds, progress.clone(), token.clone());
        self.stopping(tokio::spawn(work), token, progress, failure)
    }

    fn stopping(
        &mut self,
        task: JoinHandle<Result<(), VmmError>>,
        force: CancellationToken,
        progress: Progress,
        failure: Option<StartError>,
    ) -> Progress {
        tracing::info!("machine {} stops", self.machine.name);
        self.phase = Phase::Stopping(Stopping { task, force, progress: progress.clone(), failure, next: None });
        self.publish(State::Stopping, Explained::default());
        progress
    }

    fn happened(&mut self, happened: Happened) {
        match (happened, std::mem::replace(&mut self.phase, Phase::Down)) {
            (Happened::Launched(result), Phase::Launching(launching)) => match *result {
                Ok(launched) => self.up(launched, launching.progress),
                Err(error) => self.failed(&error, &launching.progress),
            },
            (Happened::Guest(event), Phase::Up(mut up)) => {
                self.guest(&mut up, event);
                self.publish_run(&up);
                self.phase = Phase::Up(up);
            }
            (Happened::Ended(ended), Phase::Up(mut up)) => self.ended(&ended, up.start.take()),
            (Happened::TooSlow, Phase::Up(up)) => self.too_slow(up),
            (Happened::Suspended(result), Phase::Suspending(suspending)) => self.suspended(result, suspending),
            (Happened::Stopped(result), Phase::Stopping(stopping)) => self.stopped(result, stopping),
            // The phase itself reports what happens, so nothing else can arrive.
            (_, phase) => self.phase = phase,
        }
    }

    /// The monitor runs: reaches for the guest.
    fn up(&mut self, launched: Launched, progress: Progress) {
        let Launched { vmm, notices, run, bind, origin } = launched;
        let vsock_socket = self.paths.vsock_socket();
        let agent = guest::client(&vsock_socket);
        let name = self.machine.name.clone();
        let table = Table::new(name, bind, &self.paths, self.holders.clone(), self.ports.clone());
        let (sender, events) = mpsc::channel(MAX_EVENTS);
        let guest = tokio::spawn(guest::serve(agent.clone(), notices, table, origin == Origin::Booted, sender));
        let kernel = if run.kernel_release.is_empty() {
            "the kernel".to_owned()
        } else {
            format!("Linux {}", run.kernel_release)
        };
        progress.step(
            "kernel",
            match origin {
                Origin::Booted => format!("Booting {kernel}"),
                Origin::Restored => "Resuming the saved machine".to_owned(),
                Origin::Adopted => "Connecting to the running machine".to_owned(),
            },
        );
        let start = Some((progress, Instant::now() + BOOT_LIMIT));
        let up = Box::new(Up { vmm: Arc::new(vmm), agent, run, guest, events, reached: false, origin, start });
        self.publish_run(&up);
        self.phase = Phase::Up(up);
        self.publish(State::Starting, Explained::default());
    }

    fn guest(&mut self, up: &mut Up, event: GuestEvent) {
        match event {
            GuestEvent::Reached(health) => Self::reached(up, &health),
            GuestEvent::Engine(state) => self.engine(up, &state),
            GuestEvent::Lost(reason) => {
                tracing::warn!("the guest of machine {} is lost: {reason}", self.machine.name);
                if up.start.is_none() {
                    let fix = "wait for the daemon to reconnect, or restart the machine with `rorqual restart`";
                    self.publish(State::Degraded, Explained::new(format!("the guest does not answer: {reason}"), fix));
                }
            }
        }
    }

    fn reached(up: &mut Up, health: &HealthReply) {
        if !health.kernel_release.is_empty() {
            up.run.kernel_release.clone_from(&health.kernel_release);
        }
        tracing::info!("the agent {} answers, {} ms after its kernel started", health.agent_version, health.uptime_ms);
        if let (false, Some((progress, deadline))) = (up.reached, &mut up.start) {
            progress.step("engine", "Starting the Docker Engine");
            *deadline = Instant::now() + ENGINE_LIMIT;
        }
        up.reached = true;
    }

    fn engine(&mut self, up: &mut Up, state: &EngineState) {
        let starting = up.start.is_some();
        let message = |default: &str| {
            if state.message.is_empty() { default.to_owned() } else { one_line(&state.message) }
        };
        match state.phase() {
            engine_state::Phase::Ready => {
                if let (Some((progress, _)), false, None) =
                    (&up.start, up.origin == Origin::Adopted, up.run.ready_after_ms)
                {
                    up.run.ready_after_ms = Some(milliseconds(progress.elapsed()));
                    up.run.save(&self.paths);
                }
                self.publish_run(up);
                self.publish(State::Running, Explained::default());
                // On a new disk the agent still loads rorqual/hello, which a user may run right after the start.
                if let (Some((progress, _)), false) = (&up.start, state.message.is_empty()) {
                    progress.note(state.message.clone());
                } else if let Some((progress, _)) = up.start.take() {
                    tracing::info!(
                        "machine {} is ready after {} ms",
                        self.machine.name,
                        milliseconds(progress.elapsed())
                    );
                    progress.done(self.machine.status());
                }
            }
            engine_state::Phase::Failed => {
                let message = message("it gave no reason");
                tracing::warn!("the Docker Engine of machine {} has failed: {message}", self.machine.name);
                let fix = Some(one_line(&state.fix)).filter(|fix| !fix.is_empty());
                let fix = fix.unwrap_or_else(|| ENGINE_ADVICE.to_owned());
                self.publish(State::Degraded, Explained::new(message.clone(), &fix));
                if let Some((progress, _)) = up.start.take() {
                    progress.failed(to_status(&StartError::Engine { message, fix }));
                }
            }
            engine_state::Phase::Restarting => {
                let message = message("the Docker Engine ended and is being restarted");
                match &up.start {
                    Some((progress, _)) => progress.note(message),
                    None => self.publish(State::Degraded, Explained::new(message, WAIT_ADVICE)),
                }
            }
            engine_state::Phase::Starting if !starting => {
                self.publish(
                    State::Degraded,
                    Explained::new(message("the Docker Engine is starting again"), WAIT_ADVICE),
                );
            }
            engine_state::Phase::Stopping => {
                let fix = "wait until it has stopped, then start it with `rorqual start`";
                self.publish(State::Degraded, Explained::new(message("the guest is shutting down"), fix));
            }
            engine_state::Phase::Starting | engine_state::Phase::Unspecified => {}
        }
    }

    /// The machine ended although nothing asked it to.
    fn ended(&mut self, ended: &Ended, start: Option<(Progress, Instant)>) {
        let (what, detail, by_itself) = match ended {
            Ended::Vanished => ("its monitor was killed or crashed", "", true),
            Ended::Reported { reason, detail } => {
                let (what, by_itself) = match reason {
                    EndReason::PowerOff => ("the guest powered off", false),
                    EndReason::Reset => ("the guest rebooted, which ends a machine", true),
                    EndReason::Killed => ("it was killed", false),
                    EndReason::Crashed => ("the guest crashed", true),
                };
                (what, detail.as_str(), by_itself)
            }
        };
        let mut message = what.to_owned();
        if !detail.is_empty() {
            message = format!("{message} ({})", one_line(detail));
        }
        if by_itself || start.is_some() {
            for (log, of) in [(self.paths.vmm_log(), "the monitor's log"), (self.paths.console_log(), "the console")] {
                if let Some(words) = monitor::last_words(&log) {
                    message = format!("{message}, and the last line of {of} is {words:?}");
                }
            }
        }
        tracing::warn!("machine {} ended: {message}", self.machine.name);
        self.clear_run();
        // Power-off from inside is an ordinary end.
        if matches!(ended, Ended::Reported { reason: EndReason::PowerOff, .. }) && start.is_none() {
            self.publish(State::Stopped, Explained { message: message.clone(), fix: None });
        } else {
            self.publish(State::Failed, Explained::new(message.clone(), END_ADVICE));
        }
        if let Some((progress, _)) = start {
            progress.failed(to_status(&StartError::Ended(message)));
        }
    }

    fn too_slow(&mut self, mut up: Box<Up>) {
        let Some((progress, _)) = up.start.take() else {
            self.phase = Phase::Up(up);
            return;
        };
        let seconds = progress.elapsed().as_secs();
        if up.reached || up.origin != Origin::Booted {
            let what = if up.reached { "the Docker Engine" } else { "the guest" };
            let error = StartError::TooSlow { what, seconds };
            tracing::warn!("machine {}: {error}", self.machine.name);
            self.publish(State::Degraded, Explained::by(&error));
            progress.failed(to_status(&error));
            self.phase = Phase::Up(up);
        } else {
            // Nothing in it has started, so nothing is lost.
            let last_words = monitor::last_words(&self.paths.console_log());
            self.end(&up, true, 0, progress, Some(StartError::NeverUp { seconds, last_words }));
        }
    }

    fn failed(&mut self, error: &StartError, progress: &Progress) {
        tracing::error!("machine {} did not start: {error}", self.machine.name);
        self.clear_run();
        self.publish(State::Failed, Explained::by(error));
        progress.failed(to_status(error));
    }

    fn stopped(&mut self, result: Result<(), VmmError>, stopping: Stopping) {
        self.clear_run();
        match (result, stopping.failure) {
            (Ok(()), None) => {
                tracing::info!("machine {} has stopped", self.machine.name);
                self.publish(State::Stopped, Explained::default());
                stopping.progress.done(self.machine.status());
            }
            (Ok(()), Some(failure)) => self.failed(&failure, &stopping.progress),
            (Err(error), _) => self.failed(&StartError::Vmm(error), &stopping.progress),
        }
        if let Some((how, progress)) = stopping.next {
            self.launch(how, progress);
        }
    }

    /// Progress of something that is done already.
    fn done(&self) -> Progress {
        let progress = Progress::new();
        progress.done(self.machine.status());
        progress
    }

    fn publish(&self, state: State, explained: Explained) {
        let Explained { message, fix } = explained;
        self.published.send_if_modified(|snapshot| {
            let changed = snapshot.state != state || snapshot.message != message || snapshot.fix != fix;
            (snapshot.state, snapshot.message, snapshot.fix) = (state, message, fix);
            changed
        });
    }

    fn publish_run(&self, up: &Up) {
        self.published.send_modify(|snapshot| {
            snapshot.run = Some(up.run.clone());
            snapshot.agent = up.reached.then(|| up.agent.clone());
        });
    }

    fn clear_run(&self) {
        self.published.send_modify(|snapshot| (snapshot.run, snapshot.agent) = (None, None));
    }
}
