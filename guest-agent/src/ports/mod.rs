//! Published ports: each port proxy is a connection to `ports.sock`, the host is a call of rpc Ports, and the table
//! between them holds the rules.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rorqual_protocol::agent::published_port::{Kind, Protocol as PortProtocol};
use rorqual_protocol::agent::{PortChange, PortVerdict, PublishedPort};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::{debug, warn};

mod host_network;
mod ingress;
mod local;
mod local_datagrams;
mod request;
mod table;

use request::PublishRequest;
use table::{HostId, PortId, PortTable, Verdict};

pub(crate) use host_network::publish as publish_host_network;
pub(crate) use ingress::Ingress;
pub(crate) use request::{Protocol, SOCKET};

/// How long the host may take to listen. dockerd gives its proxy 16 seconds.
const VERDICT_PATIENCE: Duration = Duration::from_secs(10);
/// Longest request, in bytes; the port proxy's own bound.
const LONGEST_REQUEST: usize = 1024;
/// Rest after a failed accept.
const REST: Duration = Duration::from_millis(100);

type Waiter = Box<dyn FnOnce(Verdict) + Send>;
type Host = Box<dyn Fn(PortChange) + Send>;

/// The published ports, shared by the proxies' connections and the host's call.
#[derive(Clone, Default)]
pub(crate) struct Ports(Arc<Mutex<PortTable<Waiter, Host>>>);

impl Ports {
    /// Serves port proxies at `socket` for ever.
    pub(crate) async fn serve(self, socket: &Path) -> io::Result<()> {
        match std::fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(socket)?;
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
        loop {
            match listener.accept().await {
                Ok((proxy, _)) => {
                    let ports = self.clone();
                    tokio::spawn(async move {
                        if let Err(error) = ports.serve_proxy(proxy).await {
                            debug!("a port proxy's connection failed: {error}");
                        }
                    });
                }
                Err(error) => {
                    warn!("cannot accept a port proxy: {error}");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    /// Publishes one proxy's port for as long as its connection is open.
    async fn serve_proxy(&self, proxy: UnixStream) -> io::Result<()> {
        let mut proxy = BufReader::new(proxy);
        let published = match read_request(&mut proxy).await?.and_then(|words| PublishRequest::parse(&words)) {
            Ok(request) => match local::listen_locally(&request) {
                Ok(local) => self.publish(published_port(&request)).await.map(|published| (published, local)),
                Err(reason) => Err(reason),
            },
            Err(reason) => Err(reason),
        };
        let verdict = match &published {
            Ok(_) => "0\n".to_owned(),
            Err(reason) => format!("1\n{reason}"),
        };
        proxy.write_all(verdict.as_bytes()).await?;
        if published.is_ok() {
            // The proxy sends nothing more: the next thing to read is its end.
            let mut rest = [0; 64];
            while proxy.read(&mut rest).await? != 0 {}
        }
        Ok(())
    }

    /// Asks the host for a port; it stays published until the returned value is dropped.
    async fn publish(&self, port: PublishedPort) -> Result<Published, String> {
        let (settle, settled) = oneshot::channel();
        let name = format!("{}:{}", port.host_address, port.host_port);
        let id = self.lock().publish(port, Box::new(move |verdict| drop(settle.send(verdict))));
        let published = Published { ports: self.clone(), id };
        match timeout(VERDICT_PATIENCE, settled).await {
            Ok(Ok(Ok(()))) => Ok(published),
            Ok(Ok(Err(reason))) => Err(reason),
            Ok(Err(_)) | Err(_) => Err(format!(
                "Rorqual's daemon did not say within {} seconds whether it listens on {name}; see `rorqual status`",
                VERDICT_PATIENCE.as_secs()
            )),
        }
    }

    /// Publishes a port nobody asked for, because something listens already; until the returned value is dropped. A host that cannot listen
    /// shows why.
    fn announce(&self, port: PublishedPort) -> Published {
        let name = format!("{}:{}", port.host_address, port.host_port);
        let settle = move |verdict: Verdict| {
            if let Err(reason) = verdict {
                warn!("the host could not publish {name}: {reason}");
            }
        };
        let id = self.lock().publish(port, Box::new(settle));
        Published { ports: self.clone(), id }
    }

    /// Whether docker publishes that port, at any address.
    fn docker_publishes(&self, protocol: PortProtocol, port: u16) -> bool {
        self.lock().docker_publishes(protocol, port)
    }

    /// A host calls: what it is told arrives at the receiver, which ends when another host calls.
    pub(crate) fn connect_host(&self) -> (HostCall, mpsc::UnboundedReceiver<PortChange>) {
        let (told, changes) = mpsc::unbounded_channel();
        let id = self.lock().host_came(Box::new(move |change| drop(told.send(change))));
        (HostCall { ports: self.clone(), id }, changes)
    }

    fn lock(&self) -> MutexGuard<'_, PortTable<Waiter, Host>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A port that is published until this is dropped.
#[derive(Debug)]
struct Published {
    ports: Ports,
    id: PortId,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Ports")
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.ports.lock().unpublish(self.id);
    }
}

/// A host's call of rpc Ports, for as long as it lasts.
pub(crate) struct HostCall {
    ports: Ports,
    id: HostId,
}

impl HostCall {
    /// A verdict of this host.
    pub(crate) fn verdict(&self, verdict: PortVerdict) {
        if let Some(late) = self.ports.lock().verdict(self.id, verdict) {
            let port = late.port;
            warn!("the host could not publish {}:{}: {}", port.host_address, port.host_port, late.reason);
        }
    }
}

impl Drop for HostCall {
    fn drop(&mut self) {
        self.ports.lock().host_left(self.id);
    }
}

/// The proxy's arguments without the zero byte behind them; the inner error is for the user.
async fn read_request(proxy: &mut BufReader<UnixStream>) -> io::Result<Result<Vec<u8>, String>> {
    let mut words = Vec::new();
    while words.len() <= LONGEST_REQUEST {
        let argument = words.len();
        if proxy.read_until(0, &mut words).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if words.len() == argument + 1 {
            words.pop();
            return Ok(Ok(words));
        }
    }
    Ok(Err("the port proxy's request is too long".to_owned()))
}

fn published_port(request: &PublishRequest) -> PublishedPort {
    PublishedPort {
        protocol: request.protocol.told().into(),
        host_address: request.host_address.to_string(),
        host_port: request.host_port.into(),
        container_address: request.container_address.to_string(),
        container_port: request.container_port.into(),
        kind: Kind::Container.into(),
    }
}

#[cfg(test)]
mod tests {
    use rorqual_protocol::agent::port_change::Change;

    use super::*;

    /// For an address no guest has: nothing listens in here.
    const REQUEST: &str = "proxy\0-proto\0tcp\0-host-ip\x00192.0.2.1\0-host-port\x008080\0-container-ip\x00172.17.0.2\0-container-port\x0080\0\0";

    fn proxy(ports: &Ports) -> BufReader<UnixStream> {
        let (proxy, agent) = UnixStream::pair().unwrap();
        let ports = ports.clone();
        tokio::spawn(async move { ports.serve_proxy(agent).await });
        BufReader::new(proxy)
    }

    async fn ask(proxy: &mut BufReader<UnixStream>, request: &str) {
        proxy.write_all(request.as_bytes()).await.unwrap();
    }

    /// What dockerd would be told of a port that is bound.
    async fn bound(proxy: &mut BufReader<UnixStream>) -> bool {
        let mut line = String::new();
        proxy.read_line(&mut line).await.unwrap();
        line == "0\n"
    }

    /// What dockerd would be told of a port that is not.
    async fn refusal(proxy: &mut BufReader<UnixStream>) -> String {
        let mut text = String::new();
        proxy.read_to_string(&mut text).await.unwrap();
        text.strip_prefix("1\n").unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_port_opens_with_its_proxy_and_closes_with_it() {
        let ports = Ports::default();
        let (host, mut changes) = ports.connect_host();
        assert_eq!(changes.recv().await.unwrap().change, Some(Change::Synchronized(true)));

        let mut connection = proxy(&ports);
        ask(&mut connection, REQUEST).await;
        let opened = changes.recv().await.unwrap();
        let Some(Change::Open(port)) = opened.change else { panic!("{opened:?}") };
        assert_eq!((port.host_address.as_str(), port.host_port, port.container_port), ("192.0.2.1", 8080, 80));
        assert_eq!(port.protocol(), PortProtocol::Tcp);
        host.verdict(PortVerdict { id: opened.id, bound: true, reason: String::new() });
        assert!(bound(&mut connection).await);

        drop(connection);
        let closed = changes.recv().await.unwrap();
        assert_eq!(closed, PortChange { id: opened.id, change: Some(Change::Close(true)) });
    }

    #[tokio::test]
    async fn a_refusal_carries_the_hosts_reason_and_ends_the_connection() {
        let ports = Ports::default();
        let (host, mut changes) = ports.connect_host();
        changes.recv().await.unwrap();
        let mut connection = proxy(&ports);
        ask(&mut connection, REQUEST).await;
        let id = changes.recv().await.unwrap().id;
        host.verdict(PortVerdict { id, bound: false, reason: "address already in use: nginx".to_owned() });
        assert_eq!(refusal(&mut connection).await, "address already in use: nginx");
        assert_eq!(changes.recv().await.unwrap().change, Some(Change::Close(true)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_never_answers_fails_the_port() {
        let ports = Ports::default();
        let (_host, mut changes) = ports.connect_host();
        let mut connection = proxy(&ports);
        ask(&mut connection, REQUEST).await;
        let refusal = refusal(&mut connection).await;
        assert!(refusal.contains("192.0.2.1:8080"), "{refusal}");
        let told: Vec<_> = [changes.recv().await, changes.recv().await, changes.recv().await]
            .into_iter()
            .map(|change| change.unwrap().change.unwrap())
            .collect();
        assert!(matches!(told[..], [Change::Synchronized(_), Change::Open(_), Change::Close(_)]), "{told:?}");
    }

    #[tokio::test]
    async fn a_new_call_ends_the_one_before() {
        let ports = Ports::default();
        let (_old, mut old_changes) = ports.connect_host();
        let (_new, _new_changes) = ports.connect_host();
        assert!(old_changes.recv().await.is_some());
        assert!(old_changes.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_request_that_is_none_is_answered_with_the_reason() {
        let mut connection = proxy(&Ports::default());
        ask(&mut connection, &REQUEST.replace("tcp", "sctp")).await;
        let refusal = refusal(&mut connection).await;
        assert!(refusal.contains("sctp"), "{refusal}");
    }

    #[tokio::test]
    async fn a_request_without_end_is_refused_and_one_cut_short_is_not_answered() {
        let mut endless = proxy(&Ports::default());
        ask(&mut endless, &"argument\0".repeat(200)).await;
        assert!(refusal(&mut endless).await.contains("too long"));
        let mut cut = proxy(&Ports::default());
        ask(&mut cut, "proxy\0").await;
        cut.shutdown().await.unwrap();
        assert_eq!(cut.read(&mut [0]).await.unwrap(), 0);
    }
}
