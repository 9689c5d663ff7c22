//! The published ports of one machine, each with its listener.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use rorqual_protocol::agent::{
    PublishedPort,
    published_port::{Kind, Protocol},
};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    Holders, PortError, Transport,
    bind::{self, Outcome, Socket},
    forward::{self, Route},
    gateway::Gateway,
};
use crate::{
    api,
    config::BindPolicy,
    error::Failure,
    home::{MachineName, MachinePaths},
};

/// What listens for one published port.
struct Entry {
    port: PublishedPort,
    listener: Option<Listener>,
    verdict: Result<(), Failure>,
}

struct Listener {
    /// Accepts connections of TCP.
    task: Option<JoinHandle<()>>,
    id: u64,
    gateway: Gateway,
    transport: Transport,
    address: SocketAddr,
    holders: Holders,
}

impl Listener {
    /// Closes it: when this returns, the address is free for the next container.
    async fn close(mut self) {
        if let Some(task) = &mut self.task {
            task.abort();
            // The only outcome is that it was aborted.
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

/// The table of one machine. Dropping it closes every port.
pub(crate) struct Table {
    machine: MachineName,
    policy: BindPolicy,
    vsock_socket: Arc<Path>,
    gateway: Gateway,
    holders: Holders,
    entries: BTreeMap<u64, Entry>,
    /// Named since the current call began, until the guest has named all.
    named: Option<BTreeSet<u64>>,
    view: watch::Sender<BTreeMap<u64, api::Port>>,
}

impl Table {
    pub(crate) fn new(
        machine: MachineName,
        policy: BindPolicy,
        paths: &MachinePaths,
        holders: Holders,
        view: watch::Sender<BTreeMap<u64, api::Port>>,
    ) -> Self {
        let vsock_socket = Arc::from(paths.vsock_socket());
        let gateway = Gateway::new(paths.control_socket());
        Self { machine, policy, vsock_socket, gateway, holders, entries: BTreeMap::new(), named: None, view }
    }

    /// What is published, for those who watch.
    #[cfg(test)]
    pub(crate) fn view(&self) -> super::View {
        self.view.subscribe()
    }

    /// A new call: the guest will name everything that should be open.
    pub(crate) fn begin(&mut self) {
        self.named = Some(BTreeSet::new());
    }

    /// Everything has been named: what was not is gone.
    pub(crate) async fn synchronized(&mut self) {
        if let Some(named) = self.named.take() {
            let gone: Vec<_> = self.entries.keys().filter(|id| !named.contains(id)).copied().collect();
            for id in gone {
                self.close(id).await;
            }
        }
    }

    /// Opens a port; naming it again repeats the verdict, and tries again what failed.
    ///
    /// # Errors
    ///
    /// Why the container cannot have it.
    pub(crate) async fn open(&mut self, id: u64, port: &PublishedPort) -> Result<(), Failure> {
        if let Some(named) = &mut self.named {
            named.insert(id);
        }
        if let Some(entry) = self.entries.get(&id)
            && entry.port == *port
            && entry.verdict.is_ok()
        {
            return Ok(());
        }
        self.close(id).await;
        let mut shown = shown(port);
        let (listener, verdict) = match self.listen(id, port).await {
            Ok(Opened::Listening(listener)) => {
                shown.bound_address = listener.address.ip().to_string();
                (Some(listener), Ok(()))
            }
            Ok(Opened::NotNeeded(note)) => {
                shown.error = note;
                (None, Ok(()))
            }
            Err(error) => {
                tracing::info!("port {} of {} is not published: {error}", port.host_port, self.machine);
                let failure = Failure::from(error);
                shown.error.clone_from(&failure.message);
                shown.fix = failure.fix.clone().unwrap_or_default();
                (None, Err(failure))
            }
        };
        self.entries.insert(id, Entry { port: port.clone(), listener, verdict: verdict.clone() });
        self.view.send_modify(|view| {
            view.insert(id, shown);
        });
        verdict
    }

    /// Closes a port and its connections.
    pub(crate) async fn close(&mut self, id: u64) {
        if let Some(entry) = self.entries.remove(&id) {
            if let Some(listener) = entry.listener {
                listener.close().await;
            }
            self.view.send_modify(|view| {
                view.remove(&id);
            });
        }
    }

    async fn listen(&self, id: u64, port: &PublishedPort) -> Result<Opened, PortError> {
        let invalid = |what: String| PortError::Invalid(what);
        let transport = transport(port).ok_or_else(|| invalid("only TCP and UDP ports can be published".to_owned()))?;
        let number = |value: u32, what: &str| {
            let number = u16::try_from(value).ok().filter(|&value| value != 0);
            number.ok_or_else(|| invalid(format!("{value} is not a {what} port")))
        };
        let (host_port, container_port) = (number(port.host_port, "host")?, number(port.container_port, "container")?);
        let container: IpAddr = port
            .container_address
            .parse()
            .map_err(|_| invalid(format!("the container has no address ({:?})", port.container_address)))?;
        let target = SocketAddr::new(container, container_port);
        let address = SocketAddr::new(bind::resolve(&port.host_address, self.policy)?, host_port);
        match bind::listen(transport, address, &port.host_address, &self.holders).await {
            Outcome::Listening(socket) => {
                let task = self.serve(id, socket, target).await?;
                let whose = match port.kind() {
                    Kind::Container => format!("container {target}"),
                    Kind::HostNetwork => "a container on the host's network".to_owned(),
                    Kind::Ingress => "a service of the swarm".to_owned(),
                };
                let description = format!("{whose} of machine {}", self.machine);
                self.holders.insert(transport, address, description);
                let (gateway, holders) = (self.gateway.clone(), self.holders.clone());
                Ok(Opened::Listening(Listener { task, id, gateway, transport, address, holders }))
            }
            Outcome::NotNeeded(note) => Ok(Opened::NotNeeded(note)),
            Outcome::Refused(error) => Err(error),
        }
    }

    /// Has `target` served at `socket`.
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

fn transport(port: &PublishedPort) -> Option<Transport> {
    match port.protocol() {
        Protocol::Tcp => Some(Transport::Tcp),
        Protocol::Udp => Some(Transport::Udp),
        Protocol::Unspecified => None,
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.view.send_modify(BTreeMap::clear);
    }
}

enum Opened {
    Listening(Listener),
    NotNeeded(String),
}

fn shown(port: &PublishedPort) -> api::Port {
    api::Port {
        protocol: transport(port).map_or("", Transport::name).to_owned(),
        requested_address: port.host_address.clone(),
        host_port: port.host_port,
        container_address: port.container_address.clone(),
        container_port: port.container_port,
        ..api::Port::default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn table(holders: &Holders) -> Table {
        let (view, _) = watch::channel(BTreeMap::new());
        // Gone when the table is there: nobody has a monitor here.
        let directory = tempfile::tempdir().unwrap();
        let home = crate::home::Home::at(directory.path()).unwrap();
        let paths = home.machine(&MachineName::default());
        Table::new(MachineName::default(), BindPolicy::Localhost, &paths, holders.clone(), view)
    }

    fn free_port() -> u32 {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().into()
    }

    fn port(host_address: &str, host_port: u32) -> PublishedPort {
        PublishedPort {
            protocol: Protocol::Tcp.into(),
            host_address: host_address.to_owned(),
            host_port,
            container_address: "172.17.0.2".to_owned(),
            container_port: 80,
            kind: Kind::Container.into(),
        }
    }

    fn listens(host_port: u32) -> bool {
        TcpStream::connect(("127.0.0.1", host_port as u16)).is_ok()
    }

    #[tokio::test]
    async fn a_port_opens_is_seen_and_closes() {
        let mut table = table(&Holders::default());
        let view = table.view();
        let number = free_port();
        table.open(1, &port("0.0.0.0", number)).await.unwrap();
        assert!(listens(number));
        let shown = view.borrow().get(&1).cloned().unwrap();
        assert_eq!((shown.bound_address.as_str(), shown.host_port), ("127.0.0.1", number));
        table.close(1).await;
        assert!(!listens(number) && view.borrow().is_empty());
    }

    #[tokio::test]
    async fn the_same_port_twice_fails_and_names_the_container_that_has_it() {
        let holders = Holders::default();
        let (mut first, mut second) = (table(&holders), table(&holders));
        let number = free_port();
        first.open(1, &port("0.0.0.0", number)).await.unwrap();
        let reason = second.open(1, &port("127.0.0.1", number)).await.unwrap_err().message;
        assert!(reason.contains("container 172.17.0.2:80 of machine default has 127.0.0.1"), "{reason}");
        assert_eq!(second.view().borrow().get(&1).unwrap().error, reason);
        drop(first);
        tokio::task::yield_now().await;
        second.open(1, &port("127.0.0.1", number)).await.unwrap();
    }

    #[tokio::test]
    async fn a_port_of_the_machine_itself_is_told_as_what_it_is() {
        let mut table = table(&Holders::default());
        let number = free_port();
        for (id, kind, whose) in [(1, Kind::HostNetwork, "on the host's network"), (2, Kind::Ingress, "of the swarm")] {
            table.open(id, &PublishedPort { kind: kind.into(), ..port("0.0.0.0", number) }).await.unwrap();
            let reason = table.open(9, &port("0.0.0.0", number)).await.unwrap_err().message;
            assert!(reason.contains(whose), "{reason}");
            table.close(id).await;
        }
    }

    #[tokio::test]
    async fn a_new_call_keeps_what_is_named_and_closes_the_rest() {
        let mut table = table(&Holders::default());
        let (kept, gone) = (free_port(), free_port());
        table.begin();
        table.open(1, &port("0.0.0.0", kept)).await.unwrap();
        table.open(2, &port("0.0.0.0", gone)).await.unwrap();
        table.synchronized().await;
        table.begin();
        table.open(1, &port("0.0.0.0", kept)).await.unwrap();
        assert!(listens(gone), "nothing closes before the guest has named all");
        table.synchronized().await;
        assert!(listens(kept) && !listens(gone));
    }

    #[tokio::test]
    async fn a_port_can_be_opened_again_as_soon_as_it_is_closed() {
        let mut table = table(&Holders::default());
        let number = free_port();
        for id in 0..50 {
            table.open(id, &port("0.0.0.0", number)).await.unwrap();
            table.close(id).await;
        }
    }

    #[tokio::test]
    async fn udp_without_a_monitor_is_refused_with_a_reason_and_leaves_the_port_free() {
        let mut table = table(&Holders::default());
        let number = free_port();
        let mut port = port("0.0.0.0", number);
        port.protocol = Protocol::Udp.into();
        let reason = table.open(1, &port).await.unwrap_err().text();
        assert!(reason.contains("monitor does not answer") && reason.contains("rorqual restart"), "{reason}");
        std::net::UdpSocket::bind(("127.0.0.1", number as u16)).unwrap();
        port.protocol = Protocol::Unspecified.into();
        assert!(table.open(2, &port).await.unwrap_err().message.contains("TCP and UDP"));
    }

    #[tokio::test]
    async fn nonsense_from_the_guest_is_refused() {
        let mut table = table(&Holders::default());
        for (id, bad) in [port("0.0.0.0", 0), port("0.0.0.0", 70_000), port("example", 80)].iter().enumerate() {
            table.open(id as u64, bad).await.unwrap_err();
        }
        let mut nowhere = port("0.0.0.0", free_port());
        nowhere.container_address = String::new();
        table.open(9, &nowhere).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_thousand_ports_at_once() {
        let mut table = table(&Holders::default());
        let mut open = 0;
        for (id, number) in (20_000..21_100).enumerate() {
            open += u32::from(table.open(id as u64, &port("0.0.0.0", number)).await.is_ok());
        }
        assert!(open >= 1000, "{open}");
    }
}
