//! Published ports: what containers of a machine publish listens on this computer, and is forwarded into the guest.
//!
//! What arrives goes to the gateway of the machine's network ([`gateway`]), so that containers see their clients' own addresses; connections from
//! this computer itself go over vsock ([`forward`]), which is faster.
//!
//! One task per machine owns its table ([`table::Table`]). It holds a call of `Agent.Ports`: the guest says what should
//! be open, the table listens, the verdict goes back and becomes docker's answer. A lost call is made again; ports stay.

mod bind;
mod forward;
mod gateway;
mod owner;
mod table;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use rorqual_protocol::agent::{PortVerdict, agent_client::AgentClient, port_change::Change};
pub(crate) use table::Table;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Channel};

use crate::api;

/// Verdicts that may wait for the guest to read them.
const VERDICTS: usize = 64;

/// What a port is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    /// As docker writes it.
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// The published ports of a machine, for those who watch them.
pub type View = watch::Receiver<BTreeMap<u64, api::Port>>;

/// Every address a container of ours listens on, with the container's description: shared by all machines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holders(Arc<Mutex<HashMap<(Transport, SocketAddr), String>>>);

impl Holders {
    fn insert(&self, transport: Transport, address: SocketAddr, description: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((transport, address), description);
    }

    fn remove(&self, transport: Transport, address: SocketAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(transport, address));
    }

    /// Who of ours stands in the way of `wanted`.
    fn describe(&self, transport: Transport, wanted: SocketAddr) -> Option<String> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let overlaps = |address: &SocketAddr| {
            let (ip, other) = (address.ip(), wanted.ip());
            address.port() == wanted.port()
                && ip.is_ipv4() == other.is_ipv4()
                && (ip == other || ip.is_unspecified() || other.is_unspecified())
        };
        let ((_, address), description) =
            held.iter().find(|((of, address), _)| *of == transport && overlaps(address))?;
        Some(format!("{description} has {address}"))
    }
}

/// Carries one call of `Agent.Ports` until it ends; the table keeps its listeners.
///
/// # Errors
///
/// The status the call ended with; an end without one is an error too, since the guest never ends the call.
pub(crate) async fn session(agent: &mut AgentClient<Channel>, table: &mut Table) -> Result<(), Status> {
    let (verdicts, outgoing) = mpsc::channel(VERDICTS);
    let mut changes = agent.ports(ReceiverStream::new(outgoing)).await?.into_inner();
    table.begin();
    while let Some(change) = changes.message().await? {
        let id = change.id;
        match change.change {
            Some(Change::Open(port)) => {
                let (bound, reason) = match table.open(id, &port).await {
                    Ok(()) => (true, String::new()),
                    Err(reason) => (false, reason),
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
