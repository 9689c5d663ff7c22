//! Maps names to containers: pure rules, applied to each new list of the engine.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use crate::docker::model::ContainerSummary;

/// The label that names a container's HTTP port.
pub(super) const PORT_LABEL: &str = "dev.rorqual.http-port";
const DEFAULT_PORT: u16 = 80;
const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const NUMBER: &str = "com.docker.compose.container-number";

/// A container and the ways to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name, as docker shows it.
    pub(super) name: String,
    /// Its names below the domain: its own first, then its service's.
    pub(super) hosts: Vec<String>,
    pub(super) image: String,
    /// The engine's name of its state: `running`, `exited`.
    pub(super) state: String,
    /// Its HTTP port, or the text of a label that is not a port.
    pub(super) port: Result<u16, String>,
    /// Its address in the guest; `None` if it has no network.
    pub(super) address: Option<IpAddr>,
    /// TCP ports its image exposes.
    pub(super) exposed: Vec<u16>,
    /// Its number within the service. The lowest one receives the requests.
    number: u32,
}

impl Entry {
    /// Whether it can receive requests.
    pub(super) fn runs(&self) -> bool {
        self.state == "running"
    }

    /// Where to connect, if it runs and everything is known.
    pub(super) fn target(&self) -> Option<SocketAddr> {
        let port = *self.port.as_ref().ok()?;
        self.runs().then_some(SocketAddr::new(self.address?, port))
    }
}

/// All containers by their names.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: Vec<Entry>,
    by_host: HashMap<String, usize>,
}

impl Table {
    /// The table for the engine's list of all containers.
    pub(super) fn new(summaries: &[ContainerSummary]) -> Self {
        let mut entries: Vec<Entry> = summaries.iter().map(|summary| entry(summary, summaries)).collect();
        entries.sort_by(|one, other| {
            (Reverse(one.runs()), one.number, &one.name).cmp(&(Reverse(other.runs()), other.number, &other.name))
        });
        let mut by_host = HashMap::new();
        // A container's own name takes precedence over a service's, and a running container over a stopped one.
        for nth in 0..2 {
            for (index, entry) in entries.iter().enumerate() {
                if let Some(host) = entry.hosts.get(nth) {
                    by_host.entry(host.clone()).or_insert(index);
                }
            }
        }
        Self { entries, by_host }
    }

    /// The container that answers to a name below the domain.
    pub(super) fn find(&self, host: &str) -> Option<&Entry> {
        self.by_host.get(host).and_then(|&index| self.entries.get(index))
    }

    /// The running containers, ordered by name.
    pub(super) fn running(&self) -> Vec<&Entry> {
        let mut running: Vec<_> = self.entries.iter().filter(|entry| entry.runs()).collect();
        running.sort_by(|one, other| one.name.cmp(&other.name));
        running
    }
}

fn entry(summary: &ContainerSummary, all: &[ContainerSummary]) -> Entry {
    // A container that others link to also has names of the form "/other/alias".
    let name = summary.names.iter().filter_map(|name| name.strip_prefix('/')).find(|name| !name.contains('/'));
    let name = name.unwrap_or(&summary.id).to_owned();
    let mut hosts = vec![name.to_ascii_lowercase()];
    if let (Some(service), Some(project)) = (summary.labels.get(SERVICE), summary.labels.get(PROJECT)) {
        hosts.push(format!("{service}.{project}").to_ascii_lowercase());
    }
    let mut exposed: Vec<u16> =
        summary.ports.iter().filter(|port| port.protocol == "tcp").map(|port| port.private_port).collect();
    exposed.sort_unstable();
    exposed.dedup();
    Entry {
        hosts,
        image: summary.image.clone(),
        state: summary.state.clone(),
        port: match summary.labels.get(PORT_LABEL) {
            None => Ok(DEFAULT_PORT),
            Some(text) => text.parse().ok().filter(|port| *port != 0).ok_or_else(|| text.clone()),
        },
        address: address(summary, all),
        exposed,
        number: summary.labels.get(NUMBER).and_then(|number| number.parse().ok()).unwrap_or(1),
        name,
    }
}

fn address(summary: &ContainerSummary, all: &[ContainerSummary]) -> Option<IpAddr> {
    let mode = summary.host_config.network_mode.as_str();
    if mode == "host" {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    // It shares the network of another container, which cannot itself share that of a third.
    let owner = match mode.strip_prefix("container:") {
        Some(id) => all.iter().find(|other| other.id == id)?,
        None => summary,
    };
    if owner.host_config.network_mode == "host" {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    let endpoints = owner.network_settings.networks.values();
    let v4 = endpoints.clone().find_map(|endpoint| endpoint.address.parse().ok());
    v4.or_else(|| endpoints.clone().find_map(|endpoint| endpoint.address6.parse().ok()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn container(name: &str, state: &str, address: &str, labels: &Value) -> Value {
        json!({"Id": format!("id-{name}"), "Names": [format!("/{name}")], "Image": "i",
            "State": state, "Labels": labels,
            "Ports": [{"PrivatePort": 3000, "Type": "tcp"}, {"PrivatePort": 53, "Type": "udp"}],
            "HostConfig": {"NetworkMode": "bridge"},
            "NetworkSettings": {"Networks": {"bridge": {"IPAddress": address}}}})
    }

    fn table(containers: Value) -> Table {
        Table::new(&serde_json::from_value::<Vec<ContainerSummary>>(containers).unwrap())
    }

    #[test]
    fn a_running_container_is_reached_on_port_80_or_the_port_of_its_label() {
        let table = table(json!([
            container("Web", "running", "172.17.0.2", &json!({})),
            container("api", "running", "172.17.0.3", &json!({PORT_LABEL: "3000"})),
            container("odd", "running", "172.17.0.4", &json!({PORT_LABEL: "http"})),
            container("off", "exited", "", &Value::Null),
        ]));
        let target = |name: &str| table.find(name).unwrap().target();
        assert_eq!(target("web"), Some("172.17.0.2:80".parse().unwrap()));
        assert_eq!(target("api"), Some("172.17.0.3:3000".parse().unwrap()));
        assert_eq!((target("odd"), target("off")), (None, None));
        assert_eq!(table.find("odd").unwrap().port, Err("http".to_owned()));
        assert_eq!(table.find("web").unwrap().exposed, [3000]);
        assert_eq!(table.running().len(), 3);
        assert!(table.find("nobody").is_none());
    }

    #[test]
    fn a_service_is_its_first_container_that_runs_and_never_hides_a_container() {
        let of = |number: &str| json!({SERVICE: "db", PROJECT: "shop", NUMBER: number});
        let table = table(json!([
            container("shop-db-2", "running", "172.18.0.4", &of("2")),
            container("shop-db-3", "running", "172.18.0.5", &of("3")),
            container("shop-db-1", "exited", "", &of("1")),
            container("x.y", "exited", "", &json!({})),
            container("z", "running", "172.18.0.9", &json!({SERVICE: "x", PROJECT: "y"})),
        ]));
        assert_eq!(table.find("db.shop").unwrap().name, "shop-db-2");
        assert_eq!(table.find("x.y").unwrap().name, "x.y");
    }

    #[test]
    fn the_network_of_another_is_anothers_address() {
        let mut shared = container("side", "running", "", &json!({PORT_LABEL: "81"}));
        shared["HostConfig"]["NetworkMode"] = json!("container:id-web");
        shared["NetworkSettings"] = json!({"Networks": {}});
        let mut host = container("host", "running", "", &json!({}));
        host["HostConfig"]["NetworkMode"] = json!("host");
        let mut none = container("none", "running", "", &json!({}));
        none["HostConfig"]["NetworkMode"] = json!("none");
        let table = table(json!([container("web", "running", "172.17.0.2", &json!({})), shared, host, none]));
        assert_eq!(table.find("side").unwrap().target(), Some("172.17.0.2:81".parse().unwrap()));
        assert_eq!(table.find("host").unwrap().target(), Some("127.0.0.1:80".parse().unwrap()));
        assert_eq!(table.find("none").unwrap().target(), None);
    }
}
