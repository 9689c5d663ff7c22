//! Containers as the window lists them.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use rorqual_engine::docker::{Query, model};
use serde_json::json;

use crate::{
    Inner,
    contract::{Container, ContainerPort, ContainerState, Failure, Health, Timestamp},
    labels::{compose, pairs},
};

/// Maximum number of concurrent inspections.
const MAX_INSPECTED: usize = 8;

/// All containers, or those of `ids` that exist.
pub(crate) async fn all(inner: &Inner, ids: Option<&BTreeSet<String>>) -> Result<Vec<Container>, Failure> {
    let query = Query::new("/containers/json", &[]).with("all", "1");
    let query = match ids {
        Some(ids) => query.filters(&json!({"id": ids})),
        None => query,
    };
    let summaries: Vec<model::ContainerSummary> = inner.docker.get(&query).await?;
    let containers = stream::iter(summaries).map(|summary| async move {
        // Only running containers show their start time.
        let inspected = match summary.state.as_str() {
            "running" | "paused" => inner
                .docker
                .get::<model::ContainerInspect>(&Query::new("/containers/{}/json", &[&summary.id]))
                .await
                .ok(),
            _ => None,
        };
        container(summary, inspected.as_ref())
    });
    Ok(containers.buffered(MAX_INSPECTED).collect().await)
}

/// One container, if it exists.
pub(super) async fn one(inner: &Inner, id: &str) -> Result<Option<Container>, Failure> {
    Ok(all(inner, Some(&BTreeSet::from([id.to_owned()]))).await?.pop())
}

/// A container of the engine's list; `inspected` adds its start time.
fn container(summary: model::ContainerSummary, inspected: Option<&model::ContainerInspect>) -> Container {
    let mut ports: Vec<ContainerPort> = summary
        .ports
        .into_iter()
        .map(|port| ContainerPort {
            protocol: port.protocol,
            container_port: port.private_port,
            host_port: port.public_port,
            host_address: port.address.filter(|_| port.public_port.is_some()),
        })
        .collect();
    ports.sort_by(|one, other| {
        (one.container_port, &one.protocol, &one.host_address).cmp(&(
            other.container_port,
            &other.protocol,
            &other.host_address,
        ))
    });
    // Containers in a network also have names of the form "/other/alias".
    let name = summary.names.iter().filter_map(|name| name.strip_prefix('/')).find(|name| !name.contains('/'));
    let state = state(&summary.state);
    Container {
        name: name.unwrap_or(&summary.id).to_owned(),
        exit_status: exit_status(&summary.status),
        health: health(&summary.status),
        state,
        started: inspected.and_then(|inspected| Timestamp::of_engine(&inspected.state.started_at)),
        finished: inspected
            .filter(|_| state != ContainerState::Running)
            .and_then(|inspected| Timestamp::of_engine(&inspected.state.finished_at)),
        id: summary.id,
        image: summary.image,
        image_id: summary.image_id,
        command: summary.command,
        created: Timestamp(summary.created * 1000),
        ports,
        networks: summary.network_settings.networks.into_keys().collect(),
        volumes: summary.mounts.into_iter().filter(|mount| mount.kind == "volume").map(|mount| mount.name).collect(),
        compose: compose(&summary.labels),
        labels: pairs(summary.labels),
    }
}

fn state(word: &str) -> ContainerState {
    match word {
        "running" => ContainerState::Running,
        "paused" => ContainerState::Paused,
        "restarting" => ContainerState::Restarting,
        "exited" => ContainerState::Exited,
        "removing" => ContainerState::Removing,
        "dead" => ContainerState::Dead,
        _ => ContainerState::Created,
    }
}

/// The exit status, which the engine's list has only as text: `Exited (137) 3 minutes ago`.
fn exit_status(status: &str) -> Option<i32> {
    status.strip_prefix("Exited (").or_else(|| status.strip_prefix("Restarting ("))?.split_once(')')?.0.parse().ok()
}

fn health(status: &str) -> Option<Health> {
    if status.contains("(healthy)") {
        Some(Health::Healthy)
    } else if status.contains("(unhealthy)") {
        Some(Health::Unhealthy)
    } else if status.contains("(health: starting)") {
        Some(Health::Starting)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_from_the_engines_words() {
        assert_eq!(exit_status("Exited (137) 3 minutes ago"), Some(137));
        assert_eq!(exit_status("Up 3 minutes"), None);
        assert_eq!(health("Up 3 minutes (healthy)"), Some(Health::Healthy));
        assert_eq!(health("Up 3 minutes (health: starting)"), Some(Health::Starting));
        assert_eq!(health("Up 3 minutes"), None);
    }

    #[test]
    fn a_container_has_its_own_name_and_its_project() {
        let summary: model::ContainerSummary = serde_json::from_str(
            r#"{"Id":"a1","Names":["/web-1/db","/db-1"],"State":"running","Status":"Up","Created":7,
                "Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
                    {"PrivatePort":53,"Type":"udp"}],
                "Labels":{"com.docker.compose.project":"shop","com.docker.compose.service":"db"},
                "Mounts":[{"Type":"volume","Name":"v"},{"Type":"bind"}]}"#,
        )
        .unwrap();
        let container = container(summary, None);
        assert_eq!((container.name.as_str(), container.created), ("db-1", Timestamp(7000)));
        assert_eq!(container.compose.unwrap().service, "db");
        assert_eq!((container.ports[0].host_port, container.ports[1].host_port), (None, Some(8080)));
        assert_eq!(container.volumes, ["v"]);
    }
}
