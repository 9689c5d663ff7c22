//! The listener of one published port: what the guest asked for is checked, bound, and served.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use rorqual_protocol::agent::{PublishedPort, published_port::Kind};
use tokio::task::JoinHandle;

use super::{
    bind::{self, Outcome, Socket},
    error::PortError,
    forward::{self, Route},
    holders::Holders,
    transport::Transport,
};
use crate::{config::BindPolicy, home::MachineName, monitor::Gateway};

/// What the listeners of one machine share.
pub(super) struct Publisher {
    pub(super) machine: MachineName,
    /// Default address of a published port.
    pub(super) policy: BindPolicy,
    /// Leads to the guest for connections the gateway does not take.
    pub(super) vsock_socket: Arc<Path>,
    /// Carries everything else.
    pub(super) gateway: Gateway,
    pub(super) holders: Holders,
}

/// A port as the guest asked for it, checked.
struct Request {
    transport: Transport,
    /// Where to listen on this computer.
    address: SocketAddr,
    /// Where in the guest the port leads.
    target: SocketAddr,
}

impl Publisher {
    /// Listens for `port`, which the guest numbers `id`.
    pub(super) async fn listen(&self, id: u64, port: &PublishedPort) -> Outcome<Listener> {
        let Request { transport, address, target } = match self.check(port) {
            Ok(request) => request,
            Err(error) => return Outcome::Refused(error),
        };
        let socket = match bind::listen(transport, address, &port.host_address, &self.holders).await {
            Outcome::Listening(socket) => socket,
            Outcome::NotNeeded(note) => return Outcome::NotNeeded(note),
            Outcome::Refused(error) => return Outcome::Refused(error),
        };
        let task = match self.serve(id, socket, target).await {
            Ok(task) => task,
            Err(error) => return Outcome::Refused(error),
        };
        let owner = match port.kind() {
            Kind::Container => format!("container {target}"),
            Kind::HostNetwork => "a container on the host's network".to_owned(),
            Kind::Ingress => "a swarm service".to_owned(),
        };
        self.holders.insert(transport, address, format!("{owner} of machine {}", self.machine));
        let (gateway, holders) = (self.gateway.clone(), self.holders.clone());
        Outcome::Listening(Listener { task, id, gateway, transport, address, holders })
    }

    fn check(&self, port: &PublishedPort) -> Result<Request, PortError> {
        let invalid = |problem: String| PortError::Invalid(problem);
        let unknown = || invalid("only TCP and UDP ports can be published".to_owned());
        let transport = Transport::of(port).ok_or_else(unknown)?;
        let number = |value: u32, what: &str| {
            let number = u16::try_from(value).ok().filter(|&value| value != 0);
            number.ok_or_else(|| invalid(format!("{value} is not a {what} port")))
        };
        let (host_port, container_port) = (number(port.host_port, "host")?, number(port.container_port, "container")?);
        let container: IpAddr = port
            .container_address
            .parse()
            .map_err(|_| invalid(format!("the container has no address ({:?})", port.container_address)))?;
        let address = SocketAddr::new(bind::resolve(&port.host_address, self.policy)?, host_port);
        Ok(Request { transport, address, target: SocketAddr::new(container, container_port) })
    }

    /// Connects `socket` with `target`. TCP needs its own task, which this returns.
    async fn serve(&self, id: u64, socket: Socket, target: SocketAddr) -> Result<Option<JoinHandle<()>>, PortError> {
        match socket {
            Socket::Tcp(listener) => {
                let (gateway, vsock_socket) = (self.gateway.clone(), Arc::clone(&self.vsock_socket));
                let route = Route { id, gateway, vsock_socket, target };
                Ok(Some(tokio::spawn(forward::serve(listener, route))))
            }
            Socket::Udp(socket) => {
                self.gateway.publish_datagrams(id, socket, target).await?;
                Ok(None)
            }
        }
    }
}

/// A published port that is open. Dropping it closes the port, soon; [`close`](Self::close) waits for that.
pub(super) struct Listener {
    /// Accepts connections of TCP.
    task: Option<JoinHandle<()>>,
    id: u64,
    gateway: Gateway,
    transport: Transport,
    address: SocketAddr,
    holders: Holders,
}

impl Listener {
    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes it: when this returns, the address is free for the next container.
    pub(super) async fn close(mut self) {
        if let Some(task) = &mut self.task {
            task.abort();
            // It can only end as aborted.
            let _ = task.await;
        }
        if let Err(error) = self.gateway.end(self.id).await {
            tracing::debug!("port {} of {} ends with the machine: {error}", self.transport.name(), self.address);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.holders.remove(self.transport, self.address);
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
