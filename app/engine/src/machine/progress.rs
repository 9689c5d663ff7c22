//! Progress of a start or a stop, kept from its beginning, so that a later reader sees all of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{Stream, stream};
use tokio::sync::watch;
use tonic::Status;

use super::DaemonEnding;
use crate::{api, error::to_status};

/// The progress of one start or stop. Clones are the same progress.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    log: Arc<watch::Sender<Log>>,
}

#[derive(Debug)]
struct Log {
    began: Instant,
    entries: Vec<api::Progress>,
    current: Option<(api::Progress, Instant)>,
    end: Option<Result<(), Status>>,
}

impl Log {
    fn end_step(&mut self) {
        if let Some((mut step, began)) = self.current.take() {
            step.took_ms = Some(milliseconds(began.elapsed()));
            self.entries.push(step);
        }
    }
}

impl Progress {
    pub(crate) fn new() -> Self {
        let log = Log { began: Instant::now(), entries: Vec::new(), current: None, end: None };
        Self { log: Arc::new(watch::Sender::new(log)) }
    }

    /// Begins a step and ends the one before.
    pub(crate) fn step(&self, step: &str, message: impl Into<String>) {
        let entry = api::Progress { step: step.to_owned(), message: message.into(), ..api::Progress::default() };
        self.log.send_modify(|log| {
            log.end_step();
            log.entries.push(entry.clone());
            log.current = Some((entry, Instant::now()));
        });
    }

    /// Adds a message to the step under way.
    pub(crate) fn note(&self, message: impl Into<String>) {
        let message = message.into();
        self.log.send_modify(|log| {
            if let Some((step, _)) = &mut log.current {
                step.message = message;
                let step = step.clone();
                log.entries.push(step);
            }
        });
    }

    /// Ends successfully, with the status of the machine.
    pub(crate) fn done(&self, machine: api::MachineStatus) {
        self.log.send_modify(|log| {
            log.end_step();
            let done = api::Done { total_ms: milliseconds(log.began.elapsed()), machine: Some(machine) };
            log.entries.push(api::Progress { done: Some(done), ..api::Progress::default() });
            log.end = Some(Ok(()));
        });
    }

    /// Ends with an error.
    pub(crate) fn failed(&self, status: Status) {
        self.log.send_modify(|log| {
            log.current = None;
            log.end = Some(Err(status));
        });
    }

    /// Time since it began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.log.borrow().began.elapsed()
    }

    /// All of it from the beginning to the end, as it happens.
    pub(crate) fn subscribe(&self) -> impl Stream<Item = Result<api::Progress, Status>> + Send + use<> {
        let state = Some((self.log.subscribe(), 0_usize));
        stream::unfold(state, |state| async move {
            let (mut log, seen) = state?;
            loop {
                let (next, end) = {
                    let log = log.borrow_and_update();
                    (log.entries.get(seen).cloned(), log.end.clone())
                };
                match (next, end) {
                    (Some(entry), _) => return Some((Ok(entry), Some((log, seen + 1)))),
                    (None, Some(Ok(()))) => return None,
                    (None, Some(Err(status))) => return Some((Err(status), None)),
                    // The owner was dropped before the end, since the daemon ends.
                    (None, None) => {
                        if log.changed().await.is_err() {
                            return Some((Err(to_status(&DaemonEnding)), None));
                        }
                    }
                }
            }
        })
    }
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;

    #[tokio::test]
    async fn early_and_late_callers_see_the_same_start() {
        let progress = Progress::new();
        let early = progress.subscribe();
        progress.step("image", "Checking the image");
        progress.step("kernel", "Booting");
        let late = progress.subscribe();
        progress.done(api::MachineStatus::default());
        let early: Vec<_> = early.map(Result::unwrap).collect().await;
        let late: Vec<_> = late.map(Result::unwrap).collect().await;
        assert_eq!(early, late);
        let steps: Vec<_> = early.iter().map(|entry| (entry.step.as_str(), entry.took_ms.is_some())).collect();
        assert_eq!(steps, [("image", false), ("image", true), ("kernel", false), ("kernel", true), ("", false)]);
        assert!(early[4].done.is_some());
    }

    #[tokio::test]
    async fn a_failure_reaches_every_caller_after_the_steps() {
        let progress = Progress::new();
        progress.step("disk", "Preparing");
        progress.failed(Status::aborted("no space"));
        for _ in 0..2 {
            let seen: Vec<_> = progress.subscribe().collect().await;
            assert_eq!(seen.len(), 2);
            assert_eq!(seen[1].as_ref().unwrap_err().message(), "no space");
        }
    }

    #[tokio::test]
    async fn a_caller_waits_for_what_comes() {
        let progress = Progress::new();
        let mut stream = Box::pin(progress.subscribe());
        let next = tokio::spawn(async move { stream.next().await });
        tokio::task::yield_now().await;
        assert!(!next.is_finished());
        progress.step("image", "Checking");
        assert_eq!(next.await.unwrap().unwrap().unwrap().step, "image");
    }
}
