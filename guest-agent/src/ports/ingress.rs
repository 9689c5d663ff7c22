//! Ports of the swarm's services: dockerd leads them to a container by rules of iptables, in which [`crate::iptables`] sees them come and go.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use rorqual_protocol::agent::PublishedPort;
use rorqual_protocol::agent::published_port::Kind;
use tracing::info;

use super::{Ports, Protocol, Published};
use crate::boot::NetworkSettings;

/// The ports services have now.
pub(crate) struct Ingress {
    ports: Ports,
    /// Where the rules apply: an address of the machine's own.
    machine: Ipv4Addr,
    published: HashMap<(Protocol, u16), [Published; 2]>,
}

impl Ingress {
    /// None has any yet.
    pub(crate) fn new(ports: Ports, network: &NetworkSettings) -> Self {
        let machine = network.v4.map_or(Ipv4Addr::LOCALHOST, |v4| v4.own.0);
        Self { ports, machine, published: HashMap::new() }
    }

    /// A service has `port` from now on. The rules are IPv4's alone; the host listens for both versions and leads both there.
    pub(crate) fn publish(&mut self, protocol: Protocol, port: u16) {
        let (ports, machine) = (&self.ports, self.machine);
        self.published.entry((protocol, port)).or_insert_with(|| {
            info!("port {port} is a service's of the swarm");
            [Ipv4Addr::UNSPECIFIED.to_string(), Ipv6Addr::UNSPECIFIED.to_string()].map(|host_address| {
                ports.announce(PublishedPort {
                    protocol: protocol.told().into(),
                    host_address,
                    host_port: port.into(),
                    container_address: machine.to_string(),
                    container_port: port.into(),
                    kind: Kind::Ingress.into(),
                })
            })
        });
    }

    /// No service has `port` any more.
    pub(crate) fn unpublish(&mut self, protocol: Protocol, port: u16) {
        self.published.remove(&(protocol, port));
    }

    /// No service has any.
    pub(crate) fn clear(&mut self) {
        self.published.clear();
    }
}

#[cfg(test)]
mod tests {
    use rorqual_protocol::agent::port_change::Change;

    use super::*;

    #[tokio::test]
    async fn a_services_port_is_the_hosts_by_both_versions_as_long_as_it_is_the_services() {
        let ports = Ports::default();
        let (_host, mut changes) = ports.connect_host();
        let mut ingress = Ingress::new(ports, &NetworkSettings::default());
        for _ in 0..2 {
            ingress.publish(Protocol::Tcp, 8080);
        }
        ingress.unpublish(Protocol::Udp, 8080);
        ingress.unpublish(Protocol::Tcp, 8080);
        let mut told = Vec::new();
        while let Ok(change) = changes.try_recv() {
            told.push(match change.change.unwrap() {
                Change::Open(port) => port.host_address,
                Change::Close(_) => "closed".to_owned(),
                Change::Synchronized(_) => "synchronized".to_owned(),
            });
        }
        assert_eq!(told, ["synchronized", "0.0.0.0", "::", "closed", "closed"]);
    }
}
