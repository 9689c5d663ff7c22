//! What the settings files parse to, and the defaults.

use std::{ops::RangeInclusive, path::PathBuf};

use crate::proxy::ProxyConfig;

/// CPUs a machine may have.
pub const CPUS: RangeInclusive<u32> = 1..=64;
/// Memory a machine may have, in MiB.
pub const MEMORY_MIB: RangeInclusive<u32> = 512..=1_048_576;
/// Size a data disk may have, in GiB.
pub const DISK_GIB: RangeInclusive<u32> = 1..=16_384;
/// Ports that can be listened on.
pub const PORTS: RangeInclusive<u32> = 1..=65_535;

/// How a machine's processor runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceleratorChoice {
    /// The best that works.
    Auto,
    /// Hardware virtualization.
    Kvm,
    /// User Mode Linux.
    Uml,
}

/// The words for accelerators in settings and requests.
pub(super) const ACCELERATORS: [(&str, AcceleratorChoice); 3] =
    [("auto", AcceleratorChoice::Auto), ("kvm", AcceleratorChoice::Kvm), ("uml", AcceleratorChoice::Uml)];

impl AcceleratorChoice {
    /// Reads the word used in settings and requests.
    pub fn parse(text: &str) -> Option<Self> {
        ACCELERATORS.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice)
    }
}

/// Where a port listens when docker asks for every address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindPolicy {
    /// `0.0.0.0` becomes `127.0.0.1` and `::` becomes `::1`.
    Localhost,
    /// Every interface, as docker asked.
    All,
}

/// The words of `ports.bind`.
pub(super) const BIND_POLICIES: [(&str, BindPolicy); 2] =
    [("localhost", BindPolicy::Localhost), ("all", BindPolicy::All)];

/// `[network]`: what containers can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// The machine's network, such as `10.77.0.0/24`; `None` lets the monitor choose.
    pub subnet: Option<String>,
    /// Containers reach the host's localhost as `host.docker.internal`.
    pub host_access: bool,
    /// Containers do not reach link-local addresses.
    pub block_link_local: bool,
}

/// `[routes]`: names for containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutesConfig {
    /// Names are served.
    pub enabled: bool,
    /// Port of HTTP.
    pub http_port: u16,
    /// Port of HTTPS, another than that of HTTP.
    pub https_port: u16,
    /// Ports 80 and 443 serve the names too.
    pub standard_ports: bool,
}

/// CPUs, memory and disk of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineConfig {
    /// Virtual CPUs, within [`CPUS`].
    pub cpus: u32,
    /// Memory in MiB, within [`MEMORY_MIB`].
    pub memory_mib: u32,
    /// Size of the data disk in GiB, within [`DISK_GIB`].
    pub disk_gib: u32,
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self { cpus: 2, memory_mib: 2048, disk_gib: 64 }
    }
}

/// The settings of `config.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How machines run.
    pub accelerator: AcceleratorChoice,
    /// What a new machine gets.
    pub machine: MachineConfig,
    /// Where published ports listen.
    pub bind: BindPolicy,
    /// What containers can reach.
    pub network: NetworkConfig,
    /// Proxies on the way to the internet.
    pub proxy: ProxyConfig,
    /// Names for containers.
    pub routes: RoutesConfig,
    /// Directory of a guest image that is used before all others.
    pub image: Option<PathBuf>,
    /// tracing filter of the daemon's log.
    pub log: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            accelerator: AcceleratorChoice::Auto,
            machine: MachineConfig::default(),
            bind: BindPolicy::Localhost,
            network: NetworkConfig { subnet: None, host_access: true, block_link_local: true },
            proxy: ProxyConfig::default(),
            routes: RoutesConfig { enabled: true, http_port: 7080, https_port: 7443, standard_ports: true },
            image: None,
            log: "info".to_owned(),
        }
    }
}
