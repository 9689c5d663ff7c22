//! Under which address and port the guest sees a client of a published port.

use std::net::{IpAddr, SocketAddr};

use crate::net::network::Network;

/// How the guest sees `client`, which talks to the guest's `to`: under its own address if the guest's answers to that
/// lead back to the gateway, otherwise under the address that stands for the host.
pub(crate) fn seen(client: SocketAddr, to: SocketAddr, network: &Network) -> SocketAddr {
    let leads_back = match (client.ip(), to.ip()) {
        (IpAddr::V4(client), IpAddr::V4(_)) => {
            !client.is_loopback() && client.octets()[0] != 0 && !network.in_subnet(client.into())
        }
        (IpAddr::V6(client), IpAddr::V6(_)) => {
            let embedded = client.segments()[..5] == [0; 5];
            !embedded && !client.is_unicast_link_local() && !network.in_subnet(client.into())
        }
        _ => false,
    };
    if leads_back { SocketAddr::new(client.ip(), client.port()) } else { host_beside(to, client.port(), network) }
}

/// The address that stands for the host, of the same IP version as `to`.
fn host_beside(to: SocketAddr, port: u16, network: &Network) -> SocketAddr {
    let host = if to.is_ipv4() { IpAddr::V4(network.v4.host) } else { IpAddr::V6(network.v6.host) };
    SocketAddr::new(host, port)
}

/// Other ends for a client whose own is taken: the host's address and the next ports.
pub(crate) fn others(first: SocketAddr, to: SocketAddr, network: &Network) -> impl Iterator<Item = SocketAddr> {
    const TRIES: u16 = 256;
    let host = host_beside(to, first.port(), network);
    (0..TRIES).map(move |step| SocketAddr::new(host.ip(), first.port().wrapping_add(step).max(1024)))
}

#[cfg(test)]
mod tests {
    use crate::net::network::tests::network;

    #[test]
    fn a_client_is_seen_as_itself_unless_its_address_means_something_else_in_the_guest() {
        let seen =
            |client: &str, to: &str| super::seen(client.parse().unwrap(), to.parse().unwrap(), &network()).to_string();
        assert_eq!(seen("192.168.1.7:5000", "172.17.0.2:53"), "192.168.1.7:5000");
        assert_eq!(seen("127.0.0.1:5000", "172.17.0.2:53"), "198.19.64.254:5000");
        assert_eq!(seen("198.19.64.9:5000", "172.17.0.2:53"), "198.19.64.254:5000");
        assert_eq!(seen("[::1]:5000", "172.17.0.2:53"), "198.19.64.254:5000");
        assert_eq!(seen("[2001:db8::7]:5000", "172.17.0.2:53"), "198.19.64.254:5000");
        assert_eq!(seen("[2001:db8::7]:5000", "[fd00::2]:53"), "[2001:db8::7]:5000");
        for client in ["[::1]:5000", "[fe80::7]:5000", "[fd72:6f72:7175:40::9]:5000", "192.168.1.7:5000"] {
            assert_eq!(seen(client, "[fd00::2]:53"), "[fd72:6f72:7175:40::fe]:5000");
        }
    }
}
