//! The start of the engine: settings, iptables, containerd and dockerd.

use std::sync::Arc;

use tracing::warn;

use super::condition::Service;
use super::state::Engine;
use super::{settings, supervisor};
use crate::boot::NetworkSettings;
use crate::iptables;
use crate::ports::{Ingress, Ports};

/// Starts both services side by side; the data disk must be mounted.
pub(crate) async fn start(engine: &Arc<Engine>, network: &NetworkSettings, ports: Ports) {
    if let Err(error) = settings::write(network) {
        engine.cannot_start(format!("{error:#}"), None);
        return;
    }
    if let Err(error) = iptables::serve(engine.processes.clone(), network, ports.clone(), Ingress::new(ports, network))
    {
        warn!("dockerd's iptables commands run as processes, and ports of swarm services stay unpublished: {error}");
    }
    tokio::spawn(supervisor::supervise(Arc::clone(engine), Service::Containerd));
    tokio::spawn(supervisor::supervise(Arc::clone(engine), Service::Dockerd));
}
