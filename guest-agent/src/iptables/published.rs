//! The rules by which dockerd leads a published port to its container: one for each port and version of IP, in the
//! chain `DOCKER` of the table `nat` (libnetwork, `iptabler/port.go`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::command::{Action, Command, Family};
use super::dnat;
use crate::ports::PublishRequest;

const CHAIN: &str = "DOCKER";

/// What a command means for the published ports.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Publish(PublishRequest),
    Unpublish(PublishRequest),
    UnpublishAll,
}

/// What `command` means for the published ports, if anything.
pub(super) fn change(command: &Command) -> Option<Change> {
    if (command.table.as_str(), command.chain.as_str()) != ("nat", CHAIN) {
        return None;
    }
    match &command.action {
        Action::Append(rule) | Action::Insert(rule) => port_of(command.family, rule).map(Change::Publish),
        Action::Delete(rule) => port_of(command.family, rule).map(Change::Unpublish),
        Action::Flush | Action::Remove => Some(Change::UnpublishAll),
        Action::Check(_) | Action::Create | Action::Policy(_) | Action::List => None,
    }
}

/// The port that a rule leads to a container, if it does.
fn port_of(family: Family, rule: &[String]) -> Option<PublishRequest> {
    let (transport, host_port) = dnat::port_of(rule)?;
    let host_address = match (dnat::value(rule, "-d")?, family) {
        ("0/0", Family::Ipv4) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        ("0/0", Family::Ipv6) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        (address, _) => address.parse().ok()?,
    };
    let container: SocketAddr = dnat::value(rule, "--to-destination")?.parse().ok()?;
    Some(PublishRequest {
        transport,
        host_address,
        host_port,
        container_address: container.ip(),
        container_port: container.port(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Transport;

    fn told(line: &str) -> Option<Change> {
        change(&Command::of_line(line).unwrap())
    }

    fn request(transport: Transport, host: &str, container: &str) -> PublishRequest {
        let (host, container): (SocketAddr, SocketAddr) = (host.parse().unwrap(), container.parse().unwrap());
        PublishRequest {
            transport,
            host_address: host.ip(),
            host_port: host.port(),
            container_address: container.ip(),
            container_port: container.port(),
        }
    }

    #[test]
    fn dockerds_rules_for_a_port_are_understood() {
        let rule = "DOCKER -p tcp -d 0/0 --dport 8080 -j DNAT --to-destination 172.17.0.2:80 ! -i docker0";
        let port = request(Transport::Tcp, "0.0.0.0:8080", "172.17.0.2:80");
        assert_eq!(told(&format!("iptables --wait -t nat -A {rule}")), Some(Change::Publish(port.clone())));
        assert_eq!(told(&format!("iptables --wait -t nat -D {rule}")), Some(Change::Unpublish(port)));
        assert_eq!(told(&format!("iptables --wait -t nat -C {rule}")), None);
        assert_eq!(told("iptables --wait -t nat -F DOCKER"), Some(Change::UnpublishAll));
        let one = "iptables -t nat -A DOCKER -p udp -d 127.0.0.1 --dport 53 -j DNAT --to-destination 172.17.0.2:5353";
        let port = request(Transport::Udp, "127.0.0.1:53", "172.17.0.2:5353");
        assert_eq!(told(one), Some(Change::Publish(port)));
        let v6 = "ip6tables -t nat -A DOCKER -p tcp -d 0/0 --dport 80 -j DNAT --to-destination [fd00::2]:80 ! -i b \
                  ! -s fe80::/10";
        assert_eq!(told(v6), Some(Change::Publish(request(Transport::Tcp, "[::]:80", "[fd00::2]:80"))));
    }

    #[test]
    fn other_rules_publish_nothing() {
        for line in [
            "iptables -t nat -A DOCKER -i docker0 -j RETURN",
            "iptables -t filter -A DOCKER -p tcp -d 172.17.0.2 --dport 80 -j ACCEPT",
            "iptables -t nat -A DOCKER-INGRESS -p tcp --dport 80 -j DNAT --to-destination 172.18.0.2:80",
            "iptables -t nat -A POSTROUTING -p tcp -s 172.17.0.2 -d 172.17.0.2 --dport 80 -j MASQUERADE",
            "iptables -t nat -A DOCKER -p sctp -d 0/0 --dport 80 -j DNAT --to-destination 172.17.0.2:80",
        ] {
            assert_eq!(told(line), None, "{line}");
        }
    }
}
