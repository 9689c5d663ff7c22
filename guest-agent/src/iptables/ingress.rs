//! The rules by which dockerd leads a published port of a swarm's service to its containers (libnetwork, `service_linux.go`): in the chain
//! `DOCKER-INGRESS` of the table `nat`, one for each port.

use super::command::{Action, Command, Family};
use crate::ports::{Ingress, Protocol};

const CHAIN: &str = "DOCKER-INGRESS";

/// Tells of what a command that was carried out changes.
pub(super) fn follow(command: &Command, ingress: &mut Ingress) {
    if (command.family, command.table.as_str(), command.chain.as_str()) != (Family::Ipv4, "nat", CHAIN) {
        return;
    }
    match &command.action {
        Action::Append(rule) | Action::Insert(rule) => {
            if let Some((protocol, port)) = port_of(rule) {
                ingress.publish(protocol, port);
            }
        }
        Action::Delete(rule) => {
            if let Some((protocol, port)) = port_of(rule) {
                ingress.unpublish(protocol, port);
            }
        }
        Action::Flush | Action::Remove => ingress.clear(),
        Action::Check(_) | Action::Create | Action::Policy(_) | Action::List => {}
    }
}

/// The port a rule leads elsewhere. None: it leads none.
fn port_of(rule: &[String]) -> Option<(Protocol, u16)> {
    let value = |option: &str| {
        let at = rule.iter().position(|word| word == option)?;
        rule.get(at + 1).map(String::as_str)
    };
    let protocol = match value("-p")? {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    (value("-j")? == "DNAT").then_some(())?;
    Some((protocol, value("--dport")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(line: &str) -> Option<(Protocol, u16)> {
        port_of(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn dockerds_rule_for_a_port_is_understood() {
        let rule = "-p tcp --dport 8080 -j DNAT --to-destination 172.18.0.2:8080";
        assert_eq!(port(rule), Some((Protocol::Tcp, 8080)));
        assert_eq!(port(&rule.replace("tcp", "udp")), Some((Protocol::Udp, 8080)));
        for other in ["-j RETURN", "-p sctp --dport 1 -j DNAT", "-p tcp --dport 80 -j ACCEPT", "-p tcp -j DNAT"] {
            assert_eq!(port(other), None, "{other}");
        }
    }
}
