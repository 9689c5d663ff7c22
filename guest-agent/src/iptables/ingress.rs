//! The rules by which dockerd leads a published port of a swarm service to its containers: one for each port, in the
//! chain `DOCKER-INGRESS` of the table `nat` (libnetwork, `service_linux.go`).

use super::command::{Action, Command, Family};
use super::dnat::port_of;
use crate::ports::Ingress;

const CHAIN: &str = "DOCKER-INGRESS";

/// Applies a command that was carried out to `ingress`.
pub(super) fn follow(command: &Command, ingress: &mut Ingress) {
    if (command.family, command.table.as_str(), command.chain.as_str()) != (Family::Ipv4, "nat", CHAIN) {
        return;
    }
    match &command.action {
        Action::Append(rule) | Action::Insert(rule) => {
            if let Some((transport, port)) = port_of(rule) {
                ingress.publish(transport, port);
            }
        }
        Action::Delete(rule) => {
            if let Some((transport, port)) = port_of(rule) {
                ingress.unpublish(transport, port);
            }
        }
        Action::Flush | Action::Remove => ingress.clear(),
        Action::Check(_) | Action::Create | Action::Policy(_) | Action::List => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Transport;

    fn port(line: &str) -> Option<(Transport, u16)> {
        port_of(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn dockerds_rule_for_a_port_is_understood() {
        let rule = "-p tcp --dport 8080 -j DNAT --to-destination 172.18.0.2:8080";
        assert_eq!(port(rule), Some((Transport::Tcp, 8080)));
        assert_eq!(port(&rule.replace("tcp", "udp")), Some((Transport::Udp, 8080)));
        for other in ["-j RETURN", "-p sctp --dport 1 -j DNAT", "-p tcp --dport 80 -j ACCEPT", "-p tcp -j DNAT"] {
            assert_eq!(port(other), None, "{other}");
        }
    }
}
