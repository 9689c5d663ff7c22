//! Ports of swarm services. dockerd leads them to containers by iptables rules, which [`crate::iptables`] sees come and
//! go.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use rorqual_protocol::agent::PublishedPort;
use rorqual_protocol::agent::published_port::{Kind, Protocol};
use tracing::info;

use super::published::{Ports, Published};
use super::transport::Transport;
use crate::boot::NetworkSettings;

/// The ports services publish now.
pub(crate) struct Ingress {
    ports: Ports,
    /// An address of the machine itself, to which the rules apply.
    machine: Ipv4Addr,
    published: HashMap<(Transport, u16), [Published; 2]>,
}

impl Ingress {
    /// No service has a port yet.
    pub(crate) fn new(ports: Ports, network: &NetworkSettings) -> Self {
        let machine = network.v4.map_or(Ipv4Addr::LOCALHOST, |v4| v4.own.0);
        Self { ports, machine, published: HashMap::new() }
    }

    /// A service publishes `port` from now on. The rules are for IPv4 alone; the host listens on both versions and
    /// leads both to the machine's IPv4 address.
    pub(crate) fn publish(&mut self, transport: Transport, port: u16) {
        let (ports, machine) = (&self.ports, self.machine);
        self.published.entry((transport, port)).or_insert_with(|| {
            info!("a swarm service publishes port {port}");
            [Ipv4Addr::UNSPECIFIED.to_string(), Ipv6Addr::UNSPECIFIED.to_string()].map(|host_address| {
                ports.announce(PublishedPort {
                    protocol: Protocol::from(transport).into(),
                    host_address,
                    host_port: port.into(),
                    container_address: machine.to_string(),
                    container_port: port.into(),
                    kind: Kind::Ingress.into(),
                })
            })
        });
    }

    /// No service publishes `port` any more.
    pub(crate) fn unpublish(&mut self, transport: Transport, port: u16) {
        self.published.remove(&(transport, port));
    }

    /// No service publishes anything any more.
    pub(crate) fn clear(&mut self) {
        self.published.clear();
    }
}

#[cfg(test)]
mod tests {
    use rorqual_protocol::agent::port_change::Change;

    use super::super::session::Session;
    use super::*;

    #[tokio::test]
    async fn a_services_port_is_published_on_both_versions_while_the_service_has_it() {
        let ports = Ports::default();
        let (_host, mut changes) = Session::connect(ports.clone());
        let mut ingress = Ingress::new(ports, &NetworkSettings::default());
        for _ in 0..2 {
            ingress.publish(Transport::Tcp, 8080);
        }
        ingress.unpublish(Transport::Udp, 8080);
        ingress.unpublish(Transport::Tcp, 8080);
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
