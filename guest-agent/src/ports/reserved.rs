//! Ports for which dockerd has made its rules and not yet started its port proxy.
//!
//! dockerd binds a port in the machine, adds its rules for it and only then starts the proxy. If binding or a rule
//! fails, it takes the next port of a range, or another random one; after a refusal by the proxy it gives up. So the
//! host is asked when dockerd adds its rule ([`crate::iptables`]), and the proxy finds the answer here.

use std::collections::HashMap;
use std::net::IpAddr;

use super::request::PublishRequest;
use super::transport::Transport;

/// What a rule and a proxy both say of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key(Transport, IpAddr, u16);

impl From<&PublishRequest> for Key {
    fn from(request: &PublishRequest) -> Self {
        Self(request.transport, request.host_address, request.host_port)
    }
}

/// The ports that wait for their proxy; dropping a `Port` unpublishes it.
pub(super) struct Reserved<Port>(HashMap<Key, Port>);

impl<Port> Default for Reserved<Port> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<Port> Reserved<Port> {
    /// Keeps a port, and returns the one it replaces.
    pub(super) fn put(&mut self, request: &PublishRequest, port: Port) -> Option<Port> {
        self.0.insert(Key::from(request), port)
    }

    /// Hands a port out.
    pub(super) fn take(&mut self, request: &PublishRequest) -> Option<Port> {
        self.0.remove(&Key::from(request))
    }
}
