//! One call of `Agent.Ports`: the guest names ports to open and close, and the table's verdicts are returned.

use rorqual_protocol::agent::{PortVerdict, agent_client::AgentClient, port_change::Change};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Channel};

use super::table::Table;

/// Verdicts that may wait for the guest to read them.
const MAX_VERDICTS: usize = 64;

/// Serves one call of `Agent.Ports` until it ends; the table keeps its listeners.
///
/// # Errors
///
/// The status the call ended with. An end without one is an error too, since the guest never ends the call.
pub(crate) async fn session(agent: &mut AgentClient<Channel>, table: &mut Table) -> Result<(), Status> {
    let (verdicts, outgoing) = mpsc::channel(MAX_VERDICTS);
    let mut changes = agent.ports(ReceiverStream::new(outgoing)).await?.into_inner();
    table.begin();
    while let Some(change) = changes.message().await? {
        let id = change.id;
        match change.change {
            Some(Change::Open(port)) => {
                let (bound, reason) = match table.open(id, &port).await {
                    Ok(()) => (true, String::new()),
                    // dockerd shows its user one text.
                    Err(failure) => (false, failure.text()),
                };
                if verdicts.send(PortVerdict { id, bound, reason }).await.is_err() {
                    break;
                }
            }
            Some(Change::Close(_)) => table.close(id).await,
            Some(Change::Synchronized(_)) => table.synchronized().await,
            None => tracing::warn!("the guest sent a port change that this version does not know"),
        }
    }
    Err(Status::unavailable("the guest ended the call for published ports"))
}
