//! Which of the machine's listeners the host publishes, and how: the rules alone.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use rorqual_protocol::agent::PublishedPort;
use rorqual_protocol::agent::published_port::{Kind, Protocol};

use super::super::transport::Transport;
use super::sock_diag::Listener;
use crate::boot::NetworkSettings;

/// Ports of the machine itself: names, DHCP, time, mDNS, the Docker API. The host has its own programs there, or nobody
/// asks the host for them.
const MACHINES_OWN: [u16; 7] = [53, 67, 68, 123, 323, 5353, 2375];
/// Numbers of no control group and of the root, which holds the machine's own programs.
const MACHINES_GROUPS: [u64; 2] = [0, 1];

/// One port of the host: a transport, a version of IP and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    udp: bool,
    ipv6: bool,
    port: u16,
}

/// Where the host listens for it, and where that leads in the guest. Unspecified addresses order before others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    host: IpAddr,
    target: IpAddr,
}

/// The facts the decision rests on.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// The machine's addresses on the link to the host.
    pub(super) own: (Option<Ipv4Addr>, Option<Ipv6Addr>),
    /// Ports the kernel assigns to sockets that ask for none. UDP sockets there are mostly clients.
    pub(super) handed_out: RangeInclusive<u16>,
}

impl Rules {
    pub(super) fn new(network: &NetworkSettings, handed_out: RangeInclusive<u16>) -> Self {
        Self { own: (network.v4.map(|v4| v4.own.0), network.v6.map(|v6| v6.own.0)), handed_out }
    }

    /// The ports to publish for `listeners`. `taken` returns whether docker publishes one.
    pub(super) fn wanted(&self, listeners: &[Listener], taken: impl Fn(Protocol, u16) -> bool) -> BTreeMap<Place, Way> {
        let mut wanted = BTreeMap::new();
        for listener in listeners.iter().filter(|listener| self.concerns(listener)) {
            if taken(listener.transport.into(), listener.port) {
                continue;
            }
            for way in self.ways(listener) {
                let (udp, ipv6) = (listener.transport == Transport::Udp, way.host.is_ipv6());
                let place = wanted.entry(Place { udp, ipv6, port: listener.port }).or_insert(way);
                *place = way.min(*place);
            }
        }
        wanted
    }

    /// Whether a listener is a container's and at a port that may be published.
    fn concerns(&self, listener: &Listener) -> bool {
        let client = listener.transport == Transport::Udp && self.handed_out.contains(&listener.port);
        !MACHINES_GROUPS.contains(&listener.control_group) && !MACHINES_OWN.contains(&listener.port) && !client
    }

    fn ways(&self, listener: &Listener) -> Vec<Way> {
        let mut ways = match listener.address {
            IpAddr::V4(address) => vec![self.to_v4(address)],
            IpAddr::V6(address) => match address.to_ipv4_mapped() {
                Some(address) => vec![self.to_v4(address)],
                None if address.is_unspecified() && !listener.only_ipv6 => {
                    vec![self.to_v4(Ipv4Addr::UNSPECIFIED), self.to_v6(address)]
                }
                None => vec![self.to_v6(address)],
            },
        };
        // Nobody connects to a multicast address, and a link-local one needs the name of its link.
        let link_local = |way: &Way| matches!(way.target, IpAddr::V6(address) if address.is_unicast_link_local());
        ways.retain(|way| !way.target.is_multicast() && !link_local(way));
        if listener.transport == Transport::Udp {
            // Datagrams arrive by the network card, which cannot reach the machine's loopback.
            ways.retain(|way| !way.target.is_loopback());
        }
        ways
    }

    fn to_v4(&self, address: Ipv4Addr) -> Way {
        if address.is_unspecified() || Some(address) == self.own.0 {
            let target = self.own.0.unwrap_or(Ipv4Addr::LOCALHOST);
            return Way { host: Ipv4Addr::UNSPECIFIED.into(), target: target.into() };
        }
        Way { host: Ipv4Addr::LOCALHOST.into(), target: address.into() }
    }

    fn to_v6(&self, address: Ipv6Addr) -> Way {
        if address.is_unspecified() || Some(address) == self.own.1 {
            let target = self.own.1.unwrap_or(Ipv6Addr::LOCALHOST);
            return Way { host: Ipv6Addr::UNSPECIFIED.into(), target: target.into() };
        }
        Way { host: Ipv6Addr::LOCALHOST.into(), target: address.into() }
    }
}

/// A place and its way as the host receives them.
pub(super) fn published_port(place: Place, way: Way) -> PublishedPort {
    let protocol = if place.udp { Protocol::Udp } else { Protocol::Tcp };
    PublishedPort {
        protocol: protocol.into(),
        host_address: way.host.to_string(),
        host_port: place.port.into(),
        container_address: way.target.to_string(),
        container_port: place.port.into(),
        kind: Kind::HostNetwork.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules { own: (Some(Ipv4Addr::new(10, 0, 0, 2)), "fd00::2".parse().ok()), handed_out: 32_768..=60_999 }
    }

    fn listener(transport: Transport, address: &str) -> Listener {
        let address: std::net::SocketAddr = address.parse().unwrap();
        Listener { transport, address: address.ip(), port: address.port(), only_ipv6: false, control_group: 40 }
    }

    fn wanted(listeners: &[Listener]) -> Vec<String> {
        let wanted = rules().wanted(listeners, |_, port| port == 9999);
        let shown = wanted.into_iter().map(|(place, way)| {
            let port = published_port(place, way);
            let protocol = port.protocol().as_str_name().replace("PROTOCOL_", "").to_lowercase();
            format!("{}:{}/{protocol} -> {}", port.host_address, port.host_port, port.container_address)
        });
        shown.collect()
    }

    fn tcp(address: &str) -> Vec<String> {
        wanted(&[listener(Transport::Tcp, address)])
    }

    #[test]
    fn a_listener_on_every_address_is_reached_by_the_machines_own() {
        assert_eq!(tcp("0.0.0.0:80"), ["0.0.0.0:80/tcp -> 10.0.0.2"]);
        assert_eq!(tcp("10.0.0.2:80"), ["0.0.0.0:80/tcp -> 10.0.0.2"]);
        assert_eq!(tcp("[::]:80"), ["0.0.0.0:80/tcp -> 10.0.0.2", ":::80/tcp -> fd00::2"]);
        let only_ipv6 = Listener { only_ipv6: true, ..listener(Transport::Tcp, "[::]:80") };
        assert_eq!(wanted(&[only_ipv6]), [":::80/tcp -> fd00::2"]);
    }

    #[test]
    fn a_listener_on_one_address_is_reached_from_localhost_alone() {
        assert_eq!(tcp("127.0.0.1:80"), ["127.0.0.1:80/tcp -> 127.0.0.1"]);
        assert_eq!(tcp("[::1]:80"), ["::1:80/tcp -> ::1"]);
        assert_eq!(tcp("172.17.0.1:80"), ["127.0.0.1:80/tcp -> 172.17.0.1"]);
        assert_eq!(tcp("[::ffff:127.0.0.1]:80"), ["127.0.0.1:80/tcp -> 127.0.0.1"]);
        assert!(tcp("[fe80::1]:80").is_empty());
    }

    #[test]
    fn several_sockets_of_one_port_are_one_port() {
        let on = |address: &str| listener(Transport::Tcp, address);
        let one = ["0.0.0.0:80/tcp -> 10.0.0.2"];
        assert_eq!(wanted(&[on("0.0.0.0:80"), on("0.0.0.0:80")]), one);
        assert_eq!(wanted(&[on("127.0.0.1:80"), on("0.0.0.0:80")]), one);
        assert_eq!(wanted(&[on("0.0.0.0:80"), on("127.0.0.1:80")]), one);
    }

    #[test]
    fn datagrams_are_published_where_they_can_arrive_and_are_meant_to() {
        let udp = |address: &str| wanted(&[listener(Transport::Udp, address)]);
        assert_eq!(udp("0.0.0.0:500"), ["0.0.0.0:500/udp -> 10.0.0.2"]);
        assert!(udp("127.0.0.1:500").is_empty());
        assert!(udp("239.1.2.3:500").is_empty());
        assert!(udp("0.0.0.0:40000").is_empty());
        assert_eq!(tcp("0.0.0.0:40000").len(), 1);
    }

    #[test]
    fn the_machines_own_ports_and_dockers_are_left_out() {
        for port in MACHINES_OWN {
            assert!(tcp(&format!("0.0.0.0:{port}")).is_empty());
        }
        assert!(tcp("0.0.0.0:9999").is_empty());
        for control_group in MACHINES_GROUPS {
            let own = Listener { control_group, ..listener(Transport::Tcp, "0.0.0.0:80") };
            assert!(wanted(&[own]).is_empty());
        }
    }
}
