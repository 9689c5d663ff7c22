//! Published ports: what containers of a machine publish listens on this computer, and is forwarded into the guest.
//!
//! What arrives goes to the gateway of the machine's network ([`gateway`]), so that containers see their clients' own addresses; connections from
//! this computer itself go over vsock ([`forward`]), which is faster.
//!
//! One task per machine owns its table ([`table::Table`]). It holds a call of `Agent.Ports`: the guest says what should
//! be open, the table listens, the verdict goes back and becomes docker's answer. A lost call is made again; ports stay.

mod bind;
mod error;
mod forward;
mod gateway;
mod owner;
mod table;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub(crate) use bind::{Outcome, listen_tcp, open_tcp};
pub(crate) use error::PortError;
use rorqual_protocol::agent::{PortVerdict, agent_client::AgentClient, port_change::Change};
pub(crate) use table::Table;
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
};
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

/// Who of ours listens where: shared by all machines and the names of containers ([`crate::routes`]).
#[derive(Clone, Debug, Default)]
pub(crate) struct Holders(Arc<Held>);

#[derive(Debug, Default)]
struct Held {
    /// Every address something of ours keeps, with what that is.
    addresses: Mutex<HashMap<(Transport, SocketAddr), String>>,
    /// Ports that are listened on only while no container wants them.
    lodgers: Mutex<Lodgers>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Lodgers {
    listening: HashMap<u16, Vec<JoinHandle<()>>>,
    /// Given up for a container.
    evicted: HashSet<u16>,
}

impl Holders {
    /// Tells that `address` is kept, and by what.
    pub(crate) fn insert(&self, transport: Transport, address: SocketAddr, description: String) {
        self.addresses().insert((transport, address), description);
    }

    fn remove(&self, transport: Transport, address: SocketAddr) {
        self.addresses().remove(&(transport, address));
        if transport == Transport::Tcp && self.lodgers().evicted.contains(&address.port()) {
            self.0.freed.notify_one();
        }
    }

    /// Who of ours stands in the way of `wanted`.
    fn describe(&self, transport: Transport, wanted: SocketAddr) -> Option<String> {
        let held = self.addresses();
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

    /// Lets what `open` starts listen on `port` until a container wants it. Whoever evicts waits for `open`, so that no
    /// container ever meets a lodger that is half there.
    ///
    /// # Errors
    ///
    /// That of `open`.
    pub(crate) fn lodge<E>(&self, port: u16, open: impl FnOnce() -> Result<Vec<JoinHandle<()>>, E>) -> Result<(), E> {
        let mut lodgers = self.lodgers();
        let tasks = open()?;
        lodgers.evicted.remove(&port);
        lodgers.listening.insert(port, tasks);
        Ok(())
    }

    /// Whether `port` is a lodger's.
    pub(crate) fn has_lodger(&self, port: u16) -> bool {
        self.lodgers().listening.contains_key(&port)
    }

    /// Ends the lodger of `port`, if there is one.
    pub(crate) fn dismiss(&self, port: u16) {
        for task in self.lodgers().listening.remove(&port).into_iter().flatten() {
            task.abort();
        }
    }

    /// Frees `port` of its lodger; tells whether there was one.
    async fn evict(&self, port: u16) -> bool {
        let tasks = {
            let mut lodgers = self.lodgers();
            let Some(tasks) = lodgers.listening.remove(&port) else { return false };
            lodgers.evicted.insert(port);
            tasks
        };
        for task in tasks {
            task.abort();
            // The only outcome is that it was aborted; the port is free then.
            let _ = task.await;
        }
        true
    }

    /// Returns when a container has given a port back that a lodger had before.
    pub(crate) async fn freed(&self) {
        self.0.freed.notified().await;
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<(Transport, SocketAddr), String>> {
        self.0.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lodgers(&self) -> MutexGuard<'_, Lodgers> {
        self.0.lodgers.lock().unwrap_or_else(PoisonError::into_inner)
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
