//! The gRPC service of `agent.proto` on vsock port 1024.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use nix::sys::utsname::uname;
use rorqual_protocol::agent::agent_server::{Agent, AgentServer};
use rorqual_protocol::agent::logs_request::Source;
use rorqual_protocol::agent::shell_input::Input;
use rorqual_protocol::agent::{
    DataDiskReply, DataDiskRequest, EngineState, HealthReply, HealthRequest, LogChunk, LogsRequest, PortChange,
    PortVerdict, SetTimeReply, SetTimeRequest, ShellInput, ShellOutput, ShutdownRequest, ShutdownStep, SyncReply,
    SyncRequest, WatchEngineRequest,
};
use rorqual_protocol::{AGENT_PORT, HOST_CID, READY_PORT};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream, WatchStream};
use tokio_vsock::{VsockAddr, VsockListener, VsockStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info};

mod kernel_log;
mod logs;
mod shell;

use crate::boot::BootSteps;
use crate::engine::{Engine, Service};
use crate::ports::{Ports, Session};
use crate::processes::Processes;
use crate::shutdown::Shutdown;
use crate::{clock, data_disk, log};

/// Messages that may wait for a slow caller.
const MAX_WAITING_MESSAGES: usize = 8;

/// Serves the host's calls.
pub(crate) struct AgentService {
    pub(crate) engine: Arc<Engine>,
    pub(crate) ports: Ports,
    pub(crate) processes: Processes,
    pub(crate) shutdown: Shutdown,
    pub(crate) steps: BootSteps,
}

impl AgentService {
    /// Serves for ever.
    pub(crate) async fn serve(self, listener: VsockListener) -> Result<(), tonic::transport::Error> {
        info!("serving gRPC on vsock port {AGENT_PORT}");
        Server::builder().add_service(AgentServer::new(self)).serve_with_incoming(listener.incoming()).await
    }
}

/// Notifies the host, by a connection, that something it may wait for is ready. A host that does not listen asks on its
/// own.
pub(crate) async fn notify_host() {
    if let Err(error) = VsockStream::connect(VsockAddr::new(HOST_CID, READY_PORT)).await {
        debug!("the host does not listen on vsock port {READY_PORT}: {error}");
    }
}

type Replies<Message> = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;

#[tonic::async_trait]
impl Agent for AgentService {
    type WatchEngineStream = Replies<EngineState>;
    type ShutdownStream = Replies<ShutdownStep>;
    type LogsStream = Replies<LogChunk>;
    type ShellStream = Replies<ShellOutput>;
    type PortsStream = Replies<PortChange>;

    async fn health(&self, _: Request<HealthRequest>) -> Result<Response<HealthReply>, Status> {
        let kernel =
            uname().map_err(|errno| Status::internal(format!("cannot ask for the kernel's release: {errno}")))?;
        Ok(Response::new(HealthReply {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel_release: kernel.release().to_string_lossy().into_owned(),
            uptime_ms: clock::uptime_ms(),
            boot: self.steps.all(),
            engine: Some(self.engine.state().borrow().clone()),
        }))
    }

    async fn watch_engine(&self, _: Request<WatchEngineRequest>) -> Result<Response<Self::WatchEngineStream>, Status> {
        Ok(Response::new(Box::pin(WatchStream::new(self.engine.state()).map(Ok))))
    }

    async fn shutdown(&self, request: Request<ShutdownRequest>) -> Result<Response<Self::ShutdownStream>, Status> {
        let seconds = request.into_inner().container_timeout_seconds;
        let patience = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        let steps = self.shutdown.begin(patience);
        let mut sent = 0;
        let steps = WatchStream::new(steps).flat_map(move |steps| {
            let new = steps[sent..].to_vec();
            sent = steps.len();
            futures_util::stream::iter(new.into_iter().map(Ok))
        });
        Ok(Response::new(Box::pin(steps)))
    }

    async fn set_time(&self, request: Request<SetTimeRequest>) -> Result<Response<SetTimeReply>, Status> {
        let offset_nanoseconds = clock::set_wall_clock(request.into_inner().unix_nanoseconds)
            .map_err(|errno| Status::invalid_argument(format!("cannot set the guest's clock: {errno}")))?;
        info!("set the clock, which was off by {} ms", offset_nanoseconds / 1_000_000);
        Ok(Response::new(SetTimeReply { offset_nanoseconds }))
    }

    async fn sync(&self, _: Request<SyncRequest>) -> Result<Response<SyncReply>, Status> {
        tokio::task::spawn_blocking(nix::unistd::sync).await.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(SyncReply {}))
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let request = request.into_inner();
        let (tail, follow) = (request.tail, request.follow);
        let (chunks, receiver) = mpsc::channel(MAX_WAITING_MESSAGES);
        let service = match request.source() {
            Source::Agent => {
                tokio::spawn(logs::send_ring(log::ring(), tail, follow, chunks));
                None
            }
            Source::Kernel => {
                tokio::spawn(logs::send_kernel(tail, follow, chunks));
                None
            }
            Source::Containerd => Some((Service::Containerd, chunks)),
            Source::Dockerd => Some((Service::Dockerd, chunks)),
            Source::Unspecified => {
                return Err(Status::invalid_argument(
                    "the log must be that of the agent, containerd, dockerd, or the kernel",
                ));
            }
        };
        if let Some((service, chunks)) = service {
            let ring = Arc::clone(self.engine.log(service));
            tokio::spawn(async move { logs::send_ring(&ring, tail, follow, chunks).await });
        }
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn shell(&self, request: Request<Streaming<ShellInput>>) -> Result<Response<Self::ShellStream>, Status> {
        let mut input = request.into_inner();
        let first = input.message().await?.and_then(|message| message.input);
        let Some(Input::Start(start)) = first else {
            return Err(Status::invalid_argument("the first message to a shell must say what to start"));
        };
        let (outputs, receiver) = mpsc::channel(MAX_WAITING_MESSAGES);
        shell::open(&self.processes, &start, input, outputs)?;
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn ports(&self, request: Request<Streaming<PortVerdict>>) -> Result<Response<Self::PortsStream>, Status> {
        let mut verdicts = request.into_inner();
        let (session, changes) = Session::connect(self.ports.clone());
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        tokio::spawn(async move {
            // The call ends with the stream of verdicts or that of changes, whichever ends first.
            let listen = async {
                while let Ok(Some(verdict)) = verdicts.message().await {
                    session.verdict(verdict);
                }
            };
            tokio::select! {
                () = listen => {}
                _ = end => {}
            }
        });
        let changes = UnboundedReceiverStream::new(changes).map(move |change| {
            let _alive = &ended;
            Ok(change)
        });
        Ok(Response::new(Box::pin(changes)))
    }

    async fn data_disk(&self, _: Request<DataDiskRequest>) -> Result<Response<DataDiskReply>, Status> {
        tokio::task::spawn_blocking(data_disk::grow)
            .await
            .map_err(|error| Status::internal(error.to_string()))?
            .map(Response::new)
            .map_err(|error| Status::failed_precondition(format!("{error:#}")))
    }
}
