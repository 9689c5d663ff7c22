//! The handle of a running monitor: it drives the machine and learns of its end over the control socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rorqual_vmm_protocol::{Empty, EndReason, Event, MachineState, Request, SaveProgress, State};
use serde::de::DeserializeOwned;
use tokio::{net::UnixStream, sync::watch, time::timeout};

use super::{
    control::{ANSWER_LIMIT, Connection, ControlError},
    error::{Reason, VmmError},
    force::kill_process,
};
use crate::home::MachinePaths;

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The monitor reported it.
    Reported {
        /// Why.
        reason: EndReason,
        /// What the monitor adds; may be empty.
        detail: String,
    },
    /// The monitor itself died.
    Vanished,
}

/// A running monitor. Dropping it leaves the machine alone.
#[derive(Debug)]
pub(crate) struct Vmm {
    /// Its process ID; 0 when unknown.
    pub(crate) process: u32,
    /// When the machine started.
    pub(crate) started: Instant,
    control: PathBuf,
    ended: watch::Receiver<Option<Ended>>,
}

impl Vmm {
    /// Finds the monitor that runs this machine already, if one does.
    ///
    /// # Errors
    ///
    /// When one runs that does not answer.
    pub(crate) async fn adopt(paths: &MachinePaths) -> Result<Option<Self>, VmmError> {
        let control = paths.control_socket();
        let Ok(connection) = Connection::open(&control).await else { return Ok(None) };
        let process = connection.process();
        drop(connection);
        match Self::connect(&control, process).await {
            Ok(vmm) => Ok(Some(vmm)),
            // It may have ended between the two.
            Err(_) if UnixStream::connect(&control).await.is_err() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The handle of the monitor that listens on `control` as `process`. A paused machine resumes: the daemon that was
    /// saving it has died.
    pub(super) async fn connect(control: &Path, process: u32) -> Result<Self, VmmError> {
        let (sender, ended) = watch::channel(None);
        let mut vmm = Self { process, started: Instant::now(), control: control.to_owned(), ended };
        let state: MachineState = vmm.request("state", &Request::State {}).await?;
        if state.state == State::Paused {
            vmm.resume().await?;
        }
        let uptime = Duration::from_millis(state.uptime_ms);
        vmm.started = Instant::now().checked_sub(uptime).unwrap_or(vmm.started);
        let mut connection = vmm.open().await?;
        let watching = connection.request(&Request::Watch {}, None).await;
        let Empty {} = watching.map_err(|error| vmm.explain("watch", error))?;
        tokio::spawn(async move {
            let ended = match connection.event().await {
                Some(Event::Exited { reason, detail }) => {
                    connection.closed().await;
                    Ended::Reported { reason, detail }
                }
                None => Ended::Vanished,
            };
            let _ = sender.send(Some(ended));
        });
        Ok(vmm)
    }

    /// Waits for the machine's end.
    pub(crate) async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        let seen = ended.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
        seen.unwrap_or(Ended::Vanished)
    }

    /// Waits for the machine's end, at most for `limit`.
    pub(crate) async fn ended_within(&self, limit: Duration) -> Option<Ended> {
        timeout(limit, self.ended()).await.ok()
    }

    /// Whether it still answers. A process that was killed a moment ago may not have been seen to end yet.
    pub(crate) async fn check(&self) -> Result<(), VmmError> {
        self.request::<MachineState>("state", &Request::State {}).await.map(drop)
    }

    /// Writes the machine to `directory` and leaves it paused. Dropping this cancels: the machine resumes.
    pub(crate) async fn save(&self, directory: &Path, progress: impl FnMut(SaveProgress)) -> Result<(), VmmError> {
        let saved = self.open().await?.save(directory, progress).await;
        saved.map_err(|error| self.explain("save the machine", error))
    }

    /// Resumes a paused machine; a running one keeps running.
    pub(crate) async fn resume(&self) -> Result<(), VmmError> {
        self.request("resume", &Request::Resume {}).await.map(|Empty {}| ())
    }

    /// Asks the guest to power off, as its power button does.
    pub(crate) async fn stop(&self) -> Result<(), VmmError> {
        self.request("stop", &Request::Stop {}).await.map(|Empty {}| ())
    }

    /// Ends the machine immediately, by request and if needed by signal, and waits until it has ended.
    pub(crate) async fn kill(&self) -> Result<(), VmmError> {
        let asked = self.request::<Empty>("kill", &Request::Kill {}).await;
        if asked.is_ok() && self.ended_within(ANSWER_LIMIT).await.is_some() {
            return Ok(());
        }
        if self.ended.borrow().is_none() {
            kill_process(self.process);
        }
        self.ended_within(ANSWER_LIMIT).await.map(drop).ok_or_else(|| self.silent())
    }

    async fn request<T: DeserializeOwned>(&self, command: &'static str, request: &Request) -> Result<T, VmmError> {
        let answered = self.open().await?.request(request, None).await;
        answered.map_err(|error| self.explain(command, error))
    }

    async fn open(&self) -> Result<Connection, VmmError> {
        Connection::open(&self.control).await.map_err(|_| self.silent())
    }

    fn silent(&self) -> VmmError {
        VmmError::Silent { process: self.process, path: self.control.clone() }
    }

    fn explain(&self, command: &'static str, error: ControlError) -> VmmError {
        match error {
            ControlError::Refused(failure) => VmmError::Command { command, reason: failure.into() },
            ControlError::Unreachable(error) if error.kind() == io::ErrorKind::TimedOut => self.silent(),
            ControlError::Unreachable(error) => VmmError::Command { command, reason: Reason::new(&error.to_string()) },
        }
    }
}
