//! Logs for the user: those of the host from files, those of the guest from the agent.

use futures_util::{Stream, StreamExt, stream::BoxStream};
use rorqual_protocol::agent::{self, logs_request::Source};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::request::RequestError;
use crate::{api, error::to_status, follow, home::Home, machine::Machine};

/// Maximum number of chunks queued for a slow reader.
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
        other => return Err(to_status(&RequestError::LogUnknown(other.to_owned()))),
    };
    let asked = agent::LogsRequest { source: source.into(), follow: request.follow, tail: request.tail };
    let failed = |status: Status| to_status(&RequestError::of_guest(&status));
    let chunks = machine.agent()?.logs(asked).await.map_err(failed)?.into_inner();
    Ok(chunks.map(move |chunk| chunk.map(|chunk| api::LogChunk { data: chunk.data }).map_err(failed)).boxed())
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
            let error = RequestError::LogUnreadable { path: path.display().to_string(), reason: error.to_string() };
            // The reader may have left.
            let _ = failures.send(to_status(&error)).await;
        }
    });
    let chunks = ReceiverStream::new(chunks).map(|data| Ok(api::LogChunk { data }));
    chunks.chain(ReceiverStream::new(failure).map(Err))
}
