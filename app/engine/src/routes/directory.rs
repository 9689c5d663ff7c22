//! The directory of containers: one task. It queries the engine at the first request and caches the list until an event
//! invalidates it. Before the first request it watches nothing.

use std::{sync::Arc, time::Instant};

use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::table::Table;
use crate::docker::{Docker, DockerError, JsonLines, Query, model::ContainerSummary};

/// Maximum number of requests queued for the task.
const QUESTIONS: usize = 64;
/// The events that change a container's name, state or address. The engine sends no others.
const CHANGES: [&str; 9] = ["create", "start", "die", "destroy", "rename", "pause", "unpause", "connect", "disconnect"];

type Answer = Result<Arc<Table>, DockerError>;

/// A request to the task.
struct Question {
    /// The earliest acceptable time of the list.
    not_before: Option<Instant>,
    reply: oneshot::Sender<Answer>,
}

/// A handle to the task, which ends with the last clone.
#[derive(Clone)]
pub(super) struct Directory(mpsc::Sender<Question>);

impl Directory {
    /// Starts the task, which sends the engine nothing yet.
    pub(super) fn new(docker: Docker) -> Self {
        let (sender, questions) = mpsc::channel(QUESTIONS);
        tokio::spawn(Keeper { docker, events: None, known: None }.run(questions));
        Self(sender)
    }

    /// The list, kept current by the engine's events.
    pub(super) async fn known(&self) -> Answer {
        self.ask(None).await
    }

    /// A list read from now on, for a name that was not found: its event may still be in transit.
    pub(super) async fn fresh(&self) -> Answer {
        self.ask(Some(Instant::now())).await
    }

    async fn ask(&self, not_before: Option<Instant>) -> Answer {
        let ended = || DockerError::Unexpected("the list of containers is no longer kept".to_owned());
        let (reply, answer) = oneshot::channel();
        self.0.send(Question { not_before, reply }).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

struct Keeper {
    docker: Docker,
    events: Option<JsonLines>,
    /// The list, and the time its reading began.
    known: Option<(Instant, Arc<Table>)>,
}

impl Keeper {
    async fn run(mut self, mut questions: mpsc::Receiver<Question>) {
        loop {
            tokio::select! {
                question = questions.recv() => {
                    let Some(Question { not_before, reply }) = question else { return };
                    // The requester may have left.
                    let _ = reply.send(self.table(not_before).await);
                }
                event = next(&mut self.events) => {
                    self.known = None;
                    if !matches!(event, Ok(Some(_))) {
                        self.events = None;
                    }
                }
            }
        }
    }

    async fn table(&mut self, not_before: Option<Instant>) -> Answer {
        if let Some((read, table)) = &self.known
            && not_before.is_none_or(|not_before| *read >= not_before)
        {
            return Ok(Arc::clone(table));
        }
        // Subscribes to events before reading the list, so that no change is missed.
        if self.events.is_none() {
            let filters = json!({"type": ["container", "network"], "event": CHANGES});
            self.events = Some(self.docker.lines(&Query::new("/events", &[]).filters(&filters)).await?);
        }
        let read = Instant::now();
        let summaries: Vec<ContainerSummary> =
            self.docker.get(&Query::new("/containers/json", &[]).with("all", "1")).await?;
        let table = Arc::new(Table::new(&summaries));
        self.known = Some((read, Arc::clone(&table)));
        Ok(table)
    }
}

/// The next event. Pending while no events are watched.
async fn next(events: &mut Option<JsonLines>) -> Result<Option<serde_json::Value>, DockerError> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}
