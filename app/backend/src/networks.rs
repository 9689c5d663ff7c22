//! Networks.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use rorqual_engine::{
    docker::{Query, model},
    error::Coded,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Inner,
    contract::{
        Bytes, Created, Empty, Failure, Network, NetworkCreate, NetworkMember, NetworkMembership, NetworkTarget,
        Pruned, Subnet, Timestamp,
    },
    labels::{pairs, project},
};

/// Maximum number of concurrent inspections.
const AT_ONCE: usize = 8;

/// Every network with its containers.
pub(super) async fn list(inner: &Inner) -> Result<Vec<Network>, Failure> {
    let all: Vec<model::Network> = inner.docker.get(&Query::new("/networks", &[])).await?;
    let details = stream::iter(all).map(|network| async move {
        match inner.docker.get::<model::Network>(&Query::new("/networks/{}", &[&network.id])).await {
            Ok(network) => Ok(Some(network)),
            // Removed since the list was read.
            Err(error) if error.code() == "not-found" => Ok(None),
            Err(error) => Err(error),
        }
    });
    let details: Vec<Option<model::Network>> = details.buffered(AT_ONCE).try_collect().await?;
    Ok(details.into_iter().flatten().map(convert).collect())
}

fn convert(network: model::Network) -> Network {
    let address = |text: String| Some(text).filter(|text| !text.is_empty());
    Network {
        built_in: matches!(network.name.as_str(), "bridge" | "host" | "none"),
        created: Timestamp::of_engine(&network.created),
        subnets: network
            .addresses
            .config
            .into_iter()
            .map(|range| Subnet { subnet: range.subnet, gateway: range.gateway.and_then(address) })
            .collect(),
        members: network
            .containers
            .into_iter()
            .map(|(container, member)| NetworkMember {
                container,
                name: member.name,
                addresses: [address(member.address), address(member.address6)].into_iter().flatten().collect(),
            })
            .collect(),
        project: project(&network.labels),
        id: network.id,
        name: network.name,
        driver: network.driver,
        internal: network.internal,
        ipv6: network.ipv6,
        labels: pairs(network.labels),
    }
}

pub(super) async fn create(inner: &Arc<Inner>, asked: NetworkCreate) -> Result<Created, Failure> {
    let range = asked.subnet.map(|subnet| json!({"Subnet": subnet, "Gateway": asked.gateway}));
    let body = json!({
        "Name": asked.name, "Driver": "bridge", "Internal": asked.internal, "EnableIPv6": asked.ipv6,
        "CheckDuplicate": true, "Attachable": false,
        "IPAM": {"Config": range.into_iter().collect::<Vec<_>>()},
    });
    let made: Value = inner.docker.post(&Query::new("/networks/create", &[]), &body).await?;
    let warnings =
        made["Warning"].as_str().filter(|warning| !warning.is_empty()).map(str::to_owned).into_iter().collect();
    Ok(Created { id: made["Id"].as_str().unwrap_or_default().to_owned(), warnings })
}

pub(super) async fn remove(inner: &Arc<Inner>, target: NetworkTarget) -> Result<Empty, Failure> {
    inner.docker.delete(&Query::new("/networks/{}", &[&target.id])).await?;
    Ok(Empty {})
}

pub(super) async fn connect(inner: &Arc<Inner>, asked: NetworkMembership) -> Result<Empty, Failure> {
    inner
        .docker
        .act(&Query::new("/networks/{}/connect", &[&asked.network]), Some(&json!({"Container": asked.container})))
        .await?;
    Ok(Empty {})
}

pub(super) async fn disconnect(inner: &Arc<Inner>, asked: NetworkMembership) -> Result<Empty, Failure> {
    inner
        .docker
        .act(&Query::new("/networks/{}/disconnect", &[&asked.network]), Some(&json!({"Container": asked.container})))
        .await?;
    Ok(Empty {})
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct PruneAnswer {
    networks_deleted: Option<Vec<String>>,
}

pub(super) async fn prune(inner: &Arc<Inner>, _: Empty) -> Result<Pruned, Failure> {
    let answer: PruneAnswer = inner.docker.post(&Query::new("/networks/prune", &[]), &json!({})).await?;
    Ok(Pruned { removed: answer.networks_deleted.unwrap_or_default(), reclaimed: Bytes(0) })
}
