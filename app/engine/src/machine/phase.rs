//! The phases of a machine, each with what it needs, and what can happen in them.

use std::{future::pending, sync::Arc};

use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    guest::{Agent, GuestEvent},
    launch::{Launched, Origin, Run, StartChoice, StartError},
    progress::Progress,
    suspend::SuspendError,
};
use crate::monitor::{Ended, Reason, Vmm, VmmError};

/// The current activity of the machine.
pub(super) enum Phase {
    Down,
    Launching(Launching),
    Up(Box<Up>),
    Suspending(Suspending),
    Stopping(Stopping),
}

pub(super) struct Suspending {
    pub(super) task: JoinHandle<Result<(), SuspendError>>,
    pub(super) cancel: CancellationToken,
    pub(super) progress: Progress,
    pub(super) up: Box<Up>,
    /// A request received since then, which cancels.
    pub(super) next: Option<Next>,
}

/// What to do once a suspension has ended, whatever its outcome.
pub(super) enum Next {
    Start(StartChoice, Progress),
    Stop { force: bool, container_seconds: u32, progress: Progress },
}

pub(super) struct Launching {
    pub(super) task: JoinHandle<Result<Launched, StartError>>,
    pub(super) cancel: CancellationToken,
    pub(super) progress: Progress,
}

pub(super) struct Up {
    pub(super) vmm: Arc<Vmm>,
    pub(super) agent: Agent,
    pub(super) run: Run,
    pub(super) guest: JoinHandle<()>,
    pub(super) events: mpsc::Receiver<GuestEvent>,
    /// The agent answered at least once.
    pub(super) reached: bool,
    pub(super) origin: Origin,
    /// The start under way, and when it takes too long.
    pub(super) start: Option<(Progress, Instant)>,
}

impl Drop for Up {
    fn drop(&mut self) {
        self.guest.abort();
    }
}

pub(super) struct Stopping {
    pub(super) task: JoinHandle<Result<(), VmmError>>,
    pub(super) force: CancellationToken,
    pub(super) progress: Progress,
    /// Why the machine is ended, if a start failed.
    pub(super) failure: Option<StartError>,
    /// The start requested since then.
    pub(super) next: Option<(StartChoice, Progress)>,
}

/// An event of the machine that no request caused.
pub(super) enum Happened {
    Launched(Box<Result<Launched, StartError>>),
    Guest(GuestEvent),
    Ended(Ended),
    TooSlow,
    Suspended(Result<(), SuspendError>),
    Stopped(Result<(), VmmError>),
}

impl Phase {
    /// Waits for the next event. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Happened {
        match self {
            Self::Down => pending().await,
            Self::Launching(launching) => {
                let result = (&mut launching.task).await;
                Happened::Launched(Box::new(
                    result.unwrap_or_else(|error| Err(StartError::Internal(error.to_string()))),
                ))
            }
            Self::Up(up) => {
                let deadline = up.start.as_ref().map(|(_, deadline)| *deadline);
                tokio::select! {
                    // The monitor's end explains the loss of the guest, so it goes first.
                    biased;
                    ended = up.vmm.ended() => Happened::Ended(ended),
                    Some(event) = up.events.recv() => Happened::Guest(event),
                    () = async { match deadline { Some(at) => sleep_until(at).await, None => pending().await } } => {
                        Happened::TooSlow
                    }
                }
            }
            Self::Suspending(suspending) => {
                let result = (&mut suspending.task).await;
                Happened::Suspended(result.unwrap_or_else(|error| Err(SuspendError::Internal(error.to_string()))))
            }
            Self::Stopping(stopping) => {
                let result = (&mut stopping.task).await;
                // After a panic the machine may still run; a forced stop can end it.
                Happened::Stopped(result.unwrap_or_else(|_| {
                    Err(VmmError::Command { command: "stop", reason: Reason::new("the stop failed within the daemon") })
                }))
            }
        }
    }
}
