//! Ports for which dockerd has made its rules and not yet started its port proxy.
//!
//! dockerd binds a port in the machine, adds its rules for it and only then starts the proxy. If binding or a rule
//! fails, it takes the next port of a range, or another random one; after a refusal by the proxy it gives up. So the
//! host is asked when dockerd adds its rule ([`crate::iptables`]), and the proxy finds the answer here.

use std::collections::HashMap;
use std::net::IpAddr;

use super::published::{Ports, Published};
use super::request::PublishRequest;
use super::transport::Transport;

/// What a rule and a proxy both say of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(Transport, IpAddr, u16);

impl From<&PublishRequest> for Key {
    fn from(request: &PublishRequest) -> Self {
        Self(request.transport, request.host_address, request.host_port)
    }
}

pub(super) type Reserved = HashMap<Key, Published>;

impl Ports {
    /// Asks the host for a port and keeps it for the proxy to come.
    ///
    /// # Errors
    /// A sentence for the user, if the host cannot listen or does not answer.
    pub(crate) async fn reserve(&self, request: &PublishRequest) -> Result<(), String> {
        let published = self.publish(request.published_port()).await?;
        self.reserved().insert(Key::from(request), published);
        Ok(())
    }

    /// Lets go of a port that no proxy has taken.
    pub(crate) fn release_reserved(&self, request: &PublishRequest) {
        // Dropped after the lock, since that tells the host.
        let released = self.reserved().remove(&Key::from(request));
        drop(released);
    }

    /// Lets go of all ports that no proxy has taken.
    pub(crate) fn clear_reserved(&self) {
        let released = std::mem::take(&mut *self.reserved());
        drop(released);
    }

    /// Hands a port to its proxy.
    pub(super) fn take_reserved(&self, request: &PublishRequest) -> Option<Published> {
        self.reserved().remove(&Key::from(request))
    }
}
