//! The parts of the engine's answers that are read. What is missing has its default: engines leave out what is empty.

#![allow(clippy::struct_field_names, reason = "the names are the engine's")]

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::backend::contract::Timestamp;

/// The engine writes `null` where it means empty.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The engine's time as text; none for what is not a time and for its zero, the year 1.
pub(crate) fn timestamp(text: &str) -> Option<Timestamp> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    (moment.year() > 1).then(|| Timestamp(i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)))
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ContainerSummary {
    pub(crate) id: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) names: Vec<String>,
    pub(crate) image: String,
    #[serde(rename = "ImageID")]
    pub(crate) image_id: String,
    pub(crate) command: String,
    pub(crate) created: i64,
    #[serde(deserialize_with = "nullable")]
    pub(crate) ports: Vec<Port>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) state: String,
    pub(crate) status: String,
    pub(crate) host_config: HostConfig,
    pub(crate) network_settings: SummaryNetworks,
    #[serde(deserialize_with = "nullable")]
    pub(crate) mounts: Vec<Mount>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct SummaryNetworks {
    #[serde(deserialize_with = "nullable")]
    pub(crate) networks: BTreeMap<String, Endpoint>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Port {
    #[serde(rename = "IP")]
    pub(crate) address: Option<String>,
    pub(crate) private_port: u16,
    pub(crate) public_port: Option<u16>,
    #[serde(rename = "Type")]
    pub(crate) protocol: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Mount {
    #[serde(rename = "Type")]
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) destination: String,
    #[serde(rename = "RW")]
    pub(crate) writable: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Endpoint {
    #[serde(rename = "IPAddress")]
    pub(crate) address: String,
    #[serde(rename = "GlobalIPv6Address")]
    pub(crate) address6: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) aliases: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ContainerInspect {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: String,
    pub(crate) path: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) args: Vec<String>,
    pub(crate) state: ContainerState,
    pub(crate) config: ContainerConfig,
    pub(crate) host_config: HostConfig,
    pub(crate) network_settings: SummaryNetworks,
    #[serde(deserialize_with = "nullable")]
    pub(crate) mounts: Vec<Mount>,
    pub(crate) graph_driver: GraphDriver,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct GraphDriver {
    pub(crate) name: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) data: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ContainerState {
    pub(crate) running: bool,
    pub(crate) exit_code: i32,
    pub(crate) started_at: String,
    pub(crate) finished_at: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ContainerConfig {
    pub(crate) image: String,
    pub(crate) user: String,
    pub(crate) tty: bool,
    pub(crate) open_stdin: bool,
    pub(crate) working_dir: String,
    pub(crate) hostname: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) env: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) cmd: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) entrypoint: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) exposed_ports: BTreeMap<String, Value>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) volumes: BTreeMap<String, Value>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct HostConfig {
    #[serde(deserialize_with = "nullable")]
    pub(crate) binds: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) port_bindings: BTreeMap<String, Option<Vec<PortBinding>>>,
    pub(crate) network_mode: String,
    pub(crate) restart_policy: RestartPolicy,
    pub(crate) auto_remove: bool,
    pub(crate) privileged: bool,
    pub(crate) readonly_rootfs: bool,
    #[serde(deserialize_with = "nullable")]
    pub(crate) cap_add: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) cap_drop: Vec<String>,
    pub(crate) memory: i64,
    #[serde(rename = "NanoCpus")]
    pub(crate) nano_cpus: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PortBinding {
    #[serde(rename = "HostIp")]
    pub(crate) address: String,
    pub(crate) host_port: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RestartPolicy {
    pub(crate) name: String,
    pub(crate) maximum_retry_count: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ImageSummary {
    pub(crate) id: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) repo_tags: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) repo_digests: Vec<String>,
    pub(crate) created: i64,
    pub(crate) size: u64,
    /// -1 when it was not asked for.
    pub(crate) shared_size: i64,
    #[serde(deserialize_with = "nullable")]
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ImageInspect {
    pub(crate) id: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) repo_tags: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) repo_digests: Vec<String>,
    pub(crate) created: String,
    pub(crate) architecture: String,
    pub(crate) variant: String,
    pub(crate) os: String,
    pub(crate) size: u64,
    pub(crate) config: ContainerConfig,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct HistoryItem {
    pub(crate) id: String,
    pub(crate) created: i64,
    pub(crate) created_by: String,
    pub(crate) size: u64,
    pub(crate) comment: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) driver: String,
    pub(crate) mountpoint: String,
    pub(crate) created_at: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) usage_data: Option<VolumeUsage>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct VolumeUsage {
    pub(crate) size: i64,
    pub(crate) ref_count: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Network {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: String,
    pub(crate) driver: String,
    pub(crate) internal: bool,
    #[serde(rename = "EnableIPv6")]
    pub(crate) ipv6: bool,
    #[serde(rename = "IPAM")]
    pub(crate) addresses: Ipam,
    #[serde(deserialize_with = "nullable")]
    pub(crate) containers: BTreeMap<String, NetworkMember>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Ipam {
    #[serde(deserialize_with = "nullable")]
    pub(crate) config: Vec<IpamConfig>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct IpamConfig {
    pub(crate) subnet: String,
    pub(crate) gateway: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct NetworkMember {
    pub(crate) name: String,
    #[serde(rename = "IPv4Address")]
    pub(crate) address: String,
    #[serde(rename = "IPv6Address")]
    pub(crate) address6: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Event {
    #[serde(rename = "Type")]
    pub(crate) kind: String,
    #[serde(rename = "Action")]
    pub(crate) action: String,
    #[serde(rename = "Actor")]
    pub(crate) actor: Actor,
    #[serde(rename = "timeNano")]
    pub(crate) time_nanoseconds: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Actor {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    #[serde(rename = "Attributes", deserialize_with = "nullable")]
    pub(crate) attributes: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Stats {
    pub(crate) cpu_stats: CpuStats,
    pub(crate) precpu_stats: CpuStats,
    pub(crate) memory_stats: MemoryStats,
    pub(crate) pids_stats: PidsStats,
    #[serde(deserialize_with = "nullable")]
    pub(crate) networks: BTreeMap<String, NetworkStats>,
    pub(crate) blkio_stats: BlkioStats,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CpuStats {
    pub(crate) cpu_usage: CpuUsage,
    pub(crate) system_cpu_usage: u64,
    pub(crate) online_cpus: u32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CpuUsage {
    pub(crate) total_usage: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct MemoryStats {
    pub(crate) usage: u64,
    pub(crate) limit: u64,
    #[serde(deserialize_with = "nullable")]
    pub(crate) stats: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PidsStats {
    pub(crate) current: u32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NetworkStats {
    pub(crate) rx_bytes: u64,
    pub(crate) tx_bytes: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct BlkioStats {
    #[serde(deserialize_with = "nullable")]
    pub(crate) io_service_bytes_recursive: Vec<BlkioEntry>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct BlkioEntry {
    pub(crate) op: String,
    pub(crate) value: u64,
}

/// A line of a pull or push.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ProgressLine {
    pub(crate) id: String,
    pub(crate) status: String,
    #[serde(rename = "progressDetail")]
    pub(crate) detail: ProgressDetail,
    pub(crate) error: Option<String>,
    pub(crate) stream: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ProgressDetail {
    pub(crate) current: u64,
    pub(crate) total: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_engine() {
        assert_eq!(timestamp("1970-01-01T00:00:01.5Z"), Some(Timestamp(1500)));
        assert_eq!(timestamp("2026-11-26T16:00:00.123456789+01:00"), Some(Timestamp(1_795_705_200_123)));
        assert_eq!(timestamp("0001-01-01T00:00:00Z"), None);
        assert_eq!(timestamp("soon"), None);
    }

    #[test]
    fn null_is_empty() {
        let network: Network =
            serde_json::from_str(r#"{"Name":"n","IPAM":{"Config":null},"Containers":null}"#).unwrap();
        assert!(network.addresses.config.is_empty() && network.containers.is_empty());
    }
}
