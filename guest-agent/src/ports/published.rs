//! The ports published now, shared by the proxies' connections and the host's call.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rorqual_protocol::agent::published_port::Protocol;
use rorqual_protocol::agent::{PortChange, PublishedPort};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::warn;

use super::doors::Door;
use super::request::PublishRequest;
use super::reserved::Reserved;
use super::table::{PortId, PortTable, Verdict};

/// How long the host may take to listen. dockerd gives its proxy 16 seconds.
const VERDICT_PATIENCE: Duration = Duration::from_secs(10);

pub(super) type Waiter = Box<dyn FnOnce(Verdict) + Send>;
pub(super) type Host = Box<dyn Fn(PortChange) + Send>;

/// The published ports. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Ports {
    table: Arc<Mutex<PortTable<Waiter, Host>>>,
    reserved: Arc<Mutex<Reserved<Published>>>,
    /// The maker of iptables rules, once there is one.
    doors: Arc<OnceLock<mpsc::UnboundedSender<Door>>>,
}

impl Ports {
    /// Asks the host for a port; it stays published until the returned value is dropped.
    ///
    /// # Errors
    /// A sentence for the user, if the host cannot listen or does not answer.
    pub(super) async fn publish(&self, port: PublishedPort) -> Result<Published, String> {
        let (settle, settled) = oneshot::channel();
        let name = format!("{}:{}", port.host_address, port.host_port);
        let id = self.lock().publish(port, Box::new(move |verdict| drop(settle.send(verdict))));
        let published = Published { ports: self.clone(), id };
        match timeout(VERDICT_PATIENCE, settled).await {
            Ok(Ok(Ok(()))) => Ok(published),
            Ok(Ok(Err(reason))) => Err(reason),
            Ok(Err(_)) | Err(_) => Err(format!(
                "Rorqual's daemon did not report within {} seconds whether it listens on {name}; to check it, run: \
                 rorqual status",
                VERDICT_PATIENCE.as_secs()
            )),
        }
    }

    /// Publishes a port on which something listens already, until the returned value is dropped. The log and the host
    /// show why a host cannot listen there.
    pub(super) fn announce(&self, port: PublishedPort) -> Published {
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
    pub(super) fn docker_publishes(&self, protocol: Protocol, port: u16) -> bool {
        self.lock().docker_publishes(protocol, port)
    }

    /// The table behind it. Never held across an await.
    pub(super) fn lock(&self) -> MutexGuard<'_, PortTable<Waiter, Host>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the host for a port and keeps it for the proxy to come.
    ///
    /// # Errors
    /// A sentence for the user, if the host cannot listen or does not answer.
    pub(crate) async fn reserve(&self, request: &PublishRequest) -> Result<(), String> {
        let published = self.publish(request.published_port()).await?;
        let replaced = self.reserved().put(request, published);
        drop(replaced);
        Ok(())
    }

    /// Lets go of a port that no proxy has taken.
    pub(crate) fn release_reserved(&self, request: &PublishRequest) {
        drop(self.take_reserved(request));
    }

    /// Lets go of all ports that no proxy has taken.
    pub(crate) fn clear_reserved(&self) {
        let released = std::mem::take(&mut *self.reserved());
        drop(released);
    }

    /// Hands a port to its proxy.
    pub(super) fn take_reserved(&self, request: &PublishRequest) -> Option<Published> {
        self.reserved().take(request)
    }

    /// Has iptables rules that ports need made by the receiver of `doors`.
    pub(crate) fn make_rules_by(&self, doors: mpsc::UnboundedSender<Door>) {
        // The engine is set up once in a boot.
        let _ = self.doors.set(doors);
    }

    /// Where wishes for rules go, if anybody makes them.
    pub(super) fn doors(&self) -> Option<&mpsc::UnboundedSender<Door>> {
        self.doors.get()
    }

    /// Ports that wait for their proxy. Never held across an await, nor while one is dropped, which tells the host.
    fn reserved(&self) -> MutexGuard<'_, Reserved<Published>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Ports")
    }
}

/// A port that stays published until this is dropped.
#[derive(Debug)]
pub(super) struct Published {
    ports: Ports,
    id: PortId,
}

impl Drop for Published {
    fn drop(&mut self) {
        self.ports.lock().unpublish(self.id);
    }
}
