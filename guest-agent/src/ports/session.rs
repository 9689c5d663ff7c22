//! One call of the host: it receives every change of the published ports and returns its verdicts.

use rorqual_protocol::agent::{PortChange, PortVerdict};
use tokio::sync::mpsc;
use tracing::warn;

use super::published::Ports;
use super::table::HostId;

/// A host's call of rpc Ports, for as long as it lasts.
pub(crate) struct Session {
    ports: Ports,
    id: HostId,
}

impl Session {
    /// Connects a host, which replaces the one before. Changes arrive at the receiver; it ends when another host
    /// connects.
    pub(crate) fn connect(ports: Ports) -> (Self, mpsc::UnboundedReceiver<PortChange>) {
        let (sender, changes) = mpsc::unbounded_channel();
        let id = ports.lock().host_connected(Box::new(move |change| drop(sender.send(change))));
        (Self { ports, id }, changes)
    }

    /// Accepts a verdict of this host.
    pub(crate) fn verdict(&self, verdict: PortVerdict) {
        if let Some(late) = self.ports.lock().verdict(self.id, verdict) {
            let port = late.port;
            warn!("the host could not publish {}:{}: {}", port.host_address, port.host_port, late.reason);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.ports.lock().host_disconnected(self.id);
    }
}
