//! The network card of a machine, with the gateway behind it.

use std::path::Path;

use rorqual_vmm_protocol::{Failure, Net};
use tracing::{info, warn};

use crate::confinement::paths::RESOLV_CONF;
use crate::devices::net::{MAX_PAIRS, NetDevice, Settings};
use crate::net::gateway::{self, Gateway};
use crate::net::network::{GUEST_MAC, MTU, Network, Subnet4};
use crate::net::publications::Publishers;
use crate::net::record::NetworkRecord;
use crate::net::routes::Routes;

/// A network card.
pub(crate) struct Card {
    /// The device.
    pub(crate) device: NetDevice,
    /// Where ports of the guest are published.
    pub(crate) publishers: Publishers,
    /// The addresses of the network, for a snapshot.
    pub(crate) record: NetworkRecord,
    /// The addresses of the network, for the kernel's command line.
    pub(crate) parameters: String,
}

impl Card {
    /// Makes the card `net` of the machine named `machine`, with a pair of queues for each of `cpus` as far as
    /// possible. A guest that was saved keeps the addresses `saved`.
    pub(crate) fn make(machine: &str, net: &Net, cpus: u32, saved: Option<NetworkRecord>) -> Result<Self, Failure> {
        let routes = Routes::of_host();
        let subnet = saved.as_ref().map(|saved| saved.subnet.as_str()).or(net.subnet.as_deref());
        let wanted = subnet.and_then(Subnet4::parse);
        if let Some((to, bits)) = wanted.and_then(|subnet| routes.clash(subnet)) {
            warn!(?subnet, "this computer has a route to {to}/{bits}, which the machine cannot reach now");
        }
        let subnet = wanted.unwrap_or_else(|| routes.choose());
        let prefix6 = saved.map_or_else(|| routes.choose6(), |saved| saved.prefix6);
        let record = NetworkRecord { subnet: format!("{}/{}", subnet.address, subnet.prefix), prefix6 };
        let network = Network::new(subnet, prefix6, net.host_access, net.block_link_local);
        let resolv_conf = Path::new(RESOLV_CONF);
        let gateway = Gateway::new(machine, network, resolv_conf)
            .map_err(|error| Failure::internal("open the sockets of the machine's network", error))?;
        let mut parameters = network.command_line();
        let search = gateway::search_domains(resolv_conf);
        if !search.is_empty() {
            parameters = format!("{parameters} rorqual.search={}", search.join(","));
        }
        info!(guest = %network.v4.guest, gateway = %network.v4.gateway, "the machine's network");
        let (statistics, publishers) = (gateway.statistics(), gateway.publishers());
        let pairs = MAX_PAIRS.min(cpus.try_into().unwrap_or(MAX_PAIRS));
        let settings = Settings { mac: GUEST_MAC, mtu: MTU, pairs };
        let device = NetDevice::new(settings, Box::new(gateway), Some(statistics));
        Ok(Self { device, publishers, record, parameters })
    }
}
