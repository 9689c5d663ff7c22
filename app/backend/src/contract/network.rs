//! Networks.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{NameValue, Timestamp};

/// A network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Full identifier.
    pub id: String,
    /// Name.
    pub name: String,
    /// Driver: `bridge`, `host`, `none`, …
    pub driver: String,
    /// Creation time.
    pub created: Option<Timestamp>,
    /// One of Docker's own networks (`bridge`, `host`, `none`), which cannot be removed.
    pub built_in: bool,
    /// Containers in it cannot reach anything outside it.
    pub internal: bool,
    /// IPv6 is enabled.
    pub ipv6: bool,
    /// Address ranges.
    pub subnets: Vec<Subnet>,
    /// Containers in it.
    pub members: Vec<NetworkMember>,
    /// Its Compose project, if any.
    pub project: Option<String>,
    /// Labels.
    pub labels: Vec<NameValue>,
}

/// An address range of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Subnet {
    /// In CIDR notation: `172.18.0.0/16`.
    pub subnet: String,
    /// Address of the gateway, if any.
    pub gateway: Option<String>,
}

/// A container in a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct NetworkMember {
    /// Identifier of the container.
    pub container: String,
    /// Its name.
    pub name: String,
    /// Its addresses in the network; empty while it does not run.
    pub addresses: Vec<String>,
}

/// Identifies a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct NetworkTarget {
    /// Identifier or name.
    pub id: String,
}

/// Creates a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct NetworkCreate {
    /// Name.
    pub name: String,
    /// Address range in CIDR notation; absent means Docker chooses.
    pub subnet: Option<String>,
    /// Address of the gateway; absent means Docker chooses.
    pub gateway: Option<String>,
    /// Containers in it cannot reach anything outside it.
    pub internal: bool,
    /// Enables IPv6.
    pub ipv6: bool,
}

/// Connects a container to a network, or disconnects it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct NetworkMembership {
    /// The network.
    pub network: String,
    /// The container.
    pub container: String,
}
