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
    /// `bridge`, `host`, `none`, …
    pub driver: String,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Docker's own (`bridge`, `host`, `none`): cannot be removed.
    pub built_in: bool,
    /// Nothing outside it is reached.
    pub internal: bool,
    /// Containers have IPv6 in it.
    pub ipv6: bool,
    /// Address ranges.
    pub subnets: Vec<Subnet>,
    /// Who is in it.
    pub members: Vec<NetworkMember>,
    /// Compose's project, if it belongs to one.
    pub project: Option<String>,
    /// Labels.
    pub labels: Vec<NameValue>,
}

/// An address range of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Subnet {
    /// `172.18.0.0/16`.
    pub subnet: String,
    /// Gateway's address, if any.
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
    /// Its addresses there; empty while it does not run.
    pub addresses: Vec<String>,
}

/// Names a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct NetworkTarget {
    /// Identifier or name.
    pub id: String,
}

/// Makes a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct NetworkCreate {
    /// Name.
    pub name: String,
    /// Address range; absent means docker chooses.
    pub subnet: Option<String>,
    /// Gateway; absent means docker chooses.
    pub gateway: Option<String>,
    /// Nothing outside it is reached.
    pub internal: bool,
    /// With IPv6.
    pub ipv6: bool,
}

/// Puts a container in a network, or takes it out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct NetworkMembership {
    /// The network.
    pub network: String,
    /// The container.
    pub container: String,
}
