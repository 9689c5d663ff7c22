//! Logs for the user: those of the host from files, those of the guest from the agent.

use futures_util::{Stream, StreamExt, stream::BoxStream};
use rorqual_protocol::agent::{self, logs_request::Source};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::{api, error::status, follow, home::Home, machine::Machine};

/// Chunks that may wait for a slow reader.
const CHUNKS: usize = 8;

/// The stream of one log.
pub(super) async fn stream(
    home: &Home,
    machine: &Machine,
    request: api::LogsRequest,
) -> Result<BoxStream<'static, Result<api::LogChunk, Status>>, Status> {
    let paths = home.machine(machine.name());
    let source = match request.source.as_str() {
        "kernel" => return Ok(file(paths.console_log(), &request).boxed()),
        "vmm" => return Ok(file(paths.vmm_log(), &request).boxed()),
        "daemon" => return Ok(file(home.daemon_log(), &request).boxed()),
        "agent" => Source::Agent,
        "containerd" => Source::Containerd,
        "dockerd" => Source::Dockerd,
        other => {
            let message = format!(
                "there is no log named {other:?}; there are kernel, agent, containerd, dockerd, vmm and daemon"
            );
            return Err(status(Code::InvalidArgument, "log-unknown", message));
        }
    };
    let asked = agent::LogsRequest { source: source.into(), follow: request.follow, tail: request.tail };
    let chunks = machine.agent()?.logs(asked).await?.into_inner();
    Ok(chunks.map(|chunk| chunk.map(|chunk| api::LogChunk { data: chunk.data })).boxed())
}

fn file(
    path: std::path::PathBuf,
    request: &api::LogsRequest,
) -> impl Stream<Item = Result<api::LogChunk, Status>> + use<> {
    let (out, chunks) = mpsc::channel(CHUNKS);
    let (lines, follow) = (request.tail as usize, request.follow);
    let (failures, failure) = mpsc::channel(1);
    tokio::spawn(async move {
        if let Err(error) = follow::send(path.clone(), lines, follow, out).await {
            let message = format!("cannot read {}: {error}", path.display());
            // The reader may have left.
            let _ = failures.send(status(Code::NotFound, "log-unreadable", message)).await;
        }
    });
    let chunks = ReceiverStream::new(chunks).map(|data| Ok(api::LogChunk { data }));
    chunks.chain(ReceiverStream::new(failure).map(Err))
}
