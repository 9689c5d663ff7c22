//! The guest of a running machine: one task that reaches the agent and reports what it learns.
//!
//! The agent connects to `vsock.sock_1024` when it answers. Then the task holds two calls open, the engine's state and
//! the published ports, and sets the guest's clock. When the calls end it starts again, until it is dropped.

use std::{
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hyper_util::rt::TokioIo;
use rorqual_protocol::{
    AGENT_PORT,
    agent::{EngineState, HealthReply, HealthRequest, SetTimeRequest, WatchEngineRequest, agent_client::AgentClient},
};
use tokio::{
    net::UnixListener,
    sync::mpsc,
    time::{sleep, timeout},
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use super::{clock::ClockJumps, environment::Environment};
use crate::{error::root_cause, ports, vsock};

/// Pauses between attempts to reach an agent that does not call: the first, doubling to the last.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A short call is answered within this.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// A client of a guest's agent.
pub(crate) type Agent = AgentClient<Channel>;

/// What the task reports to the machine.
#[derive(Debug)]
pub(crate) enum GuestEvent {
    /// The agent answers.
    Reached(Box<HealthReply>),
    /// The engine's state, at first and after each change.
    Engine(EngineState),
    /// The agent no longer answers, and why. The task tries again.
    Lost(String),
}

/// A client that connects at its first use, and again after its connection was lost.
pub(crate) fn client(vsock_socket: &Path) -> Agent {
    let socket = vsock_socket.to_owned();
    let connector = service_fn(move |_| {
        let socket = socket.clone();
        async move { vsock::connect(&socket, AGENT_PORT).await.map(TokioIo::new) }
    });
    AgentClient::new(Endpoint::from_static("http://rorqual-agent").connect_with_connector_lazy(connector))
}

/// Listens for the agent's notices. The socket file of a killed daemon is replaced.
pub(crate) fn listen(path: PathBuf, environment: Environment) -> io::Result<Notices> {
    Ok(Notices { listener: vsock::listen(&path)?, path, _environment: environment })
}

/// The listener for the agent's notices.
pub(crate) struct Notices {
    listener: UnixListener,
    path: PathBuf,
    /// Answers the guest while this listens.
    _environment: Environment,
}

impl Notices {
    async fn next(&self) {
        if let Err(error) = self.listener.accept().await {
            tracing::warn!("cannot receive the guest's notices on {}: {error}", self.path.display());
            std::future::pending::<()>().await;
        }
    }
}

/// Serves one guest until dropped. With `booting` it first waits for the agent's notice, otherwise it calls
/// immediately.
pub(crate) async fn serve(
    mut agent: Agent,
    notices: Notices,
    mut ports: ports::Table,
    booting: bool,
    events: mpsc::Sender<GuestEvent>,
) {
    let mut pause = RETRY.0;
    if booting {
        wait(&notices, &mut pause).await;
    }
    loop {
        match health(&mut agent).await {
            Ok(health) => {
                pause = RETRY.0;
                if events.send(GuestEvent::Reached(Box::new(health))).await.is_err() {
                    return;
                }
                let ended = tokio::select! {
                    ended = watch_engine(agent.clone(), &events) => ended,
                    never = keep_ports(agent.clone(), &mut ports) => match never {},
                    error = keep_clock(agent.clone()) => Err(error),
                };
                let Err(status) = ended else { return };
                if events.send(GuestEvent::Lost(explain(&status))).await.is_err() {
                    return;
                }
            }
            Err(status) => tracing::debug!("the agent does not answer yet: {}", explain(&status)),
        }
        wait(&notices, &mut pause).await;
    }
}

/// Waits for the agent's notice, or for a pause that grows.
async fn wait(notices: &Notices, pause: &mut Duration) {
    tokio::select! {
        () = notices.next() => {}
        () = sleep(*pause) => *pause = (*pause * 2).min(RETRY.1),
    }
}

async fn health(agent: &mut Agent) -> Result<HealthReply, Status> {
    let reply = timeout(CALL_LIMIT, agent.health(HealthRequest {})).await;
    Ok(reply.map_err(|_| Status::deadline_exceeded("the agent did not answer in time"))??.into_inner())
}

/// Forwards the engine's states. `Ok` once nobody receives them.
async fn watch_engine(mut agent: Agent, events: &mpsc::Sender<GuestEvent>) -> Result<(), Status> {
    let mut states = agent.watch_engine(WatchEngineRequest {}).await?.into_inner();
    while let Some(state) = states.message().await? {
        if events.send(GuestEvent::Engine(state)).await.is_err() {
            return Ok(());
        }
    }
    Err(Status::unavailable("the agent ended the call for the engine's state"))
}

/// Holds the call for ports, and repeats it if it alone ends.
async fn keep_ports(mut agent: Agent, table: &mut ports::Table) -> Infallible {
    let mut pause = RETRY.0;
    loop {
        if let Err(status) = ports::session(&mut agent, table).await {
            tracing::warn!("the call for published ports ended and is repeated: {}", explain(&status));
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

/// Sets the guest's clock now, and after each jump of the host's. Ends only when the agent cannot be reached.
async fn keep_clock(mut agent: Agent) -> Status {
    let mut jumps = ClockJumps::new();
    loop {
        if let Err(status) = set_time(&mut agent).await {
            return status;
        }
        match &mut jumps {
            Ok(jumps) => {
                if let Err(error) = jumps.next().await {
                    tracing::warn!("cannot watch for jumps of the clock: {error}");
                    std::future::pending::<()>().await;
                }
                tracing::info!("the clock jumped, as after a sleep: setting the guest's clock");
            }
            Err(error) => {
                tracing::warn!("cannot watch for jumps of the clock: {error}");
                std::future::pending::<()>().await;
            }
        }
    }
}

async fn set_time(agent: &mut Agent) -> Result<(), Status> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let request = SetTimeRequest { unix_nanoseconds: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX) };
    let reply = timeout(CALL_LIMIT, agent.set_time(request)).await;
    let reply = reply.map_err(|_| Status::deadline_exceeded("the agent did not answer in time"))?;
    match reply {
        Ok(reply) => {
            tracing::debug!("the guest's clock was {} ns off", reply.into_inner().offset_nanoseconds);
            Ok(())
        }
        // A guest with a wrong clock still works.
        Err(status) if status.code() != tonic::Code::Unavailable => {
            tracing::warn!("cannot set the guest's clock: {}", explain(&status));
            Ok(())
        }
        Err(status) => Err(status),
    }
}

/// A status as one sentence: its message, and the system's error behind it.
pub(crate) fn explain(status: &Status) -> String {
    let cause = root_cause(status);
    let own = status.message();
    if own.is_empty() || cause.contains(own) {
        cause
    } else if cause.starts_with("code: ") || own.contains(&cause) || cause.contains("status:") {
        own.to_owned()
    } else {
        format!("{own}: {cause}")
    }
}
