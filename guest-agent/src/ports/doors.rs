//! Ports at which clients come by IPv6 to a container that has only IPv4.
//!
//! dockerd leaves them to its proxy and makes no rule, so its firewall drops datagrams that the gateway brings to the
//! container's address. The agent adds the rule that dockerd adds for others.

use tokio::sync::{mpsc, oneshot};

use super::request::PublishRequest;
use super::transport::Transport;

/// The machine's network card, behind which the gateway is.
const CARD: &str = "eth0";

/// A change of the firewall for such a port.
pub(crate) struct Door {
    /// The words of the iptables command, after the program's name.
    pub(crate) rule: Vec<String>,
    /// Told, or dropped, once the change is made or has failed.
    pub(crate) done: oneshot::Sender<()>,
}

/// Opens the firewall for a port if dockerd does not. Without a maker of rules, datagrams are lost.
pub(super) async fn open(doors: Option<&mpsc::UnboundedSender<Door>>, request: &PublishRequest) {
    change(doors, "-I", request).await;
}

/// Takes back what [`open`] has done.
pub(super) async fn close(doors: Option<&mpsc::UnboundedSender<Door>>, request: &PublishRequest) {
    change(doors, "-D", request).await;
}

async fn change(doors: Option<&mpsc::UnboundedSender<Door>>, action: &str, request: &PublishRequest) {
    let (Some(rule), Some(doors)) = (rule(action, request), doors) else { return };
    let (done, told) = oneshot::channel();
    if doors.send(Door { rule, done }).is_ok() {
        // An error means that nobody makes rules any more.
        let _ = told.await;
    }
}

/// The rule that lets the gateway's packets through to the container.
fn rule(action: &str, request: &PublishRequest) -> Option<Vec<String>> {
    let transport = match request.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    (request.host_address.is_ipv6() && request.container_address.is_ipv4()).then(|| {
        let (address, port) = (request.container_address.to_string(), request.container_port.to_string());
        let words = [action, "DOCKER", "-i", CARD, "-p", transport, "-d", &address, "--dport", &port, "-j", "ACCEPT"];
        words.map(str::to_owned).to_vec()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_dockerd_leaves_to_its_proxy_gets_a_rule() {
        let mut request = PublishRequest {
            transport: Transport::Udp,
            host_address: "::".parse().unwrap(),
            host_port: 53,
            container_address: "172.17.0.2".parse().unwrap(),
            container_port: 5353,
        };
        let words = rule("-I", &request).unwrap();
        assert_eq!(words.join(" "), "-I DOCKER -i eth0 -p udp -d 172.17.0.2 --dport 5353 -j ACCEPT");
        request.host_address = "0.0.0.0".parse().unwrap();
        assert!(rule("-I", &request).is_none());
        request.host_address = "::".parse().unwrap();
        request.container_address = "fd00::2".parse().unwrap();
        assert!(rule("-I", &request).is_none());
    }
}
