//! The published ports of one machine: which are open, and what is shown of each.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use rorqual_protocol::agent::PublishedPort;
use tokio::sync::watch;

use super::{
    bind::Outcome,
    holders::Holders,
    listener::{Listener, Publisher},
    transport::Transport,
};
use crate::{
    api,
    config::BindPolicy,
    error::Failure,
    home::{MachineName, MachinePaths},
    monitor::Gateway,
};

/// The published ports of a machine by the guest's numbers, for those who watch them.
pub type View = watch::Receiver<BTreeMap<u64, api::Port>>;

/// One published port, open or refused.
struct Entry {
    port: PublishedPort,
    listener: Option<Listener>,
    verdict: Result<(), Failure>,
}

/// The table of one machine. Dropping it closes every port.
pub(crate) struct Table {
    publisher: Publisher,
    entries: BTreeMap<u64, Entry>,
    /// Ports named since the current call began, until the guest has named all.
    named: Option<BTreeSet<u64>>,
    view: watch::Sender<BTreeMap<u64, api::Port>>,
}

impl Table {
    /// An empty table. `view` shows its ports.
    pub(crate) fn new(
        machine: MachineName,
        policy: BindPolicy,
        paths: &MachinePaths,
        holders: Holders,
        view: watch::Sender<BTreeMap<u64, api::Port>>,
    ) -> Self {
        let vsock_socket: Arc<Path> = Arc::from(paths.vsock_socket());
        let gateway = Gateway::new(paths.control_socket());
        let publisher = Publisher { machine, policy, vsock_socket, gateway, holders };
        Self { publisher, entries: BTreeMap::new(), named: None, view }
    }

    /// Begins a new call: the guest will name everything that should be open.
    pub(crate) fn begin(&mut self) {
        self.named = Some(BTreeSet::new());
    }

    /// The guest has named everything: closes all other ports.
    pub(crate) async fn synchronized(&mut self) {
        if let Some(named) = self.named.take() {
            let gone: Vec<_> = self.entries.keys().filter(|id| !named.contains(id)).copied().collect();
            for id in gone {
                self.close(id).await;
            }
        }
    }

    /// Opens a port. Named again, an open port keeps its verdict and a refused one is tried again.
    ///
    /// # Errors
    ///
    /// Why the container cannot have the port.
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
        let (listener, verdict) = match self.publisher.listen(id, port).await {
            Outcome::Listening(listener) => {
                shown.bound_address = listener.address().ip().to_string();
                (Some(listener), Ok(()))
            }
            Outcome::NotNeeded(note) => {
                shown.error = note;
                (None, Ok(()))
            }
            Outcome::Refused(error) => {
                let machine = &self.publisher.machine;
                tracing::info!("port {} of {machine} is not published: {error}", port.host_port);
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
}

impl Drop for Table {
    fn drop(&mut self) {
        self.view.send_modify(BTreeMap::clear);
    }
}

fn shown(port: &PublishedPort) -> api::Port {
    api::Port {
        protocol: Transport::of(port).map_or("", Transport::name).to_owned(),
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

    use rorqual_protocol::agent::published_port::{Kind, Protocol};

    use super::*;

    fn table(holders: &Holders) -> Table {
        let (view, _) = watch::channel(BTreeMap::new());
        // Deleted once the table exists: no test here has a monitor.
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
        let view = table.view.subscribe();
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
        assert!(reason.contains("container 172.17.0.2:80 of machine default holds 127.0.0.1"), "{reason}");
        assert_eq!(second.view.borrow().get(&1).unwrap().error, reason);
        drop(first);
        tokio::task::yield_now().await;
        second.open(1, &port("127.0.0.1", number)).await.unwrap();
    }

    #[tokio::test]
    async fn a_port_of_the_machine_itself_is_described_as_what_it_is() {
        let mut table = table(&Holders::default());
        let number = free_port();
        for (id, kind, whose) in
            [(1, Kind::HostNetwork, "on the host's network"), (2, Kind::Ingress, "a swarm service")]
        {
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
