//! The types the settings files parse to, and the defaults.

use std::{ops::RangeInclusive, path::PathBuf};

use crate::proxy::ProxyConfig;

/// Accepted number of CPUs of a machine.
pub const CPUS: RangeInclusive<u32> = 1..=64;
/// Accepted memory of a machine, in MiB.
pub const MEMORY_MIB: RangeInclusive<u32> = 512..=1_048_576;
/// Accepted size of a data disk, in GiB.
pub const DISK_GIB: RangeInclusive<u32> = 1..=16_384;
/// Accepted port numbers.
pub const PORTS: RangeInclusive<u32> = 1..=65_535;

/// How a machine's code is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceleratorChoice {
    /// The best accelerator that works.
    Auto,
    /// Hardware virtualization.
    Kvm,
    /// User Mode Linux.
    Uml,
}

/// Names of the accelerators in settings and requests.
pub(super) const ACCELERATORS: [(&str, AcceleratorChoice); 3] =
    [("auto", AcceleratorChoice::Auto), ("kvm", AcceleratorChoice::Kvm), ("uml", AcceleratorChoice::Uml)];

impl AcceleratorChoice {
    /// Parses a name used in settings and requests.
    pub fn parse(text: &str) -> Option<Self> {
        ACCELERATORS.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice)
    }
}

/// Where a port listens if docker requests every address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindPolicy {
    /// `0.0.0.0` becomes `127.0.0.1` and `::` becomes `::1`.
    Localhost,
    /// Every interface, as docker requested.
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
    /// Whether containers reach the host's localhost as `host.docker.internal`.
    pub host_access: bool,
    /// Whether link-local addresses are blocked for containers.
    pub block_link_local: bool,
}

/// `[routes]`: names for containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutesConfig {
    /// Whether names are served.
    pub enabled: bool,
    /// Port for HTTP.
    pub http_port: u16,
    /// Port for HTTPS; must differ from that for HTTP.
    pub https_port: u16,
    /// Whether ports 80 and 443 serve the names too.
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
    /// Accelerator of machines.
    pub accelerator: AcceleratorChoice,
    /// Defaults of a new machine.
    pub machine: MachineConfig,
    /// Where published ports listen.
    pub bind: BindPolicy,
    /// What containers can reach.
    pub network: NetworkConfig,
    /// Proxies of the guest.
    pub proxy: ProxyConfig,
    /// Names for containers.
    pub routes: RoutesConfig,
    /// Directory of a guest image that takes precedence over all others.
    pub image: Option<PathBuf>,
    /// Filter of the daemon's log, in the syntax of tracing.
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
