//! The start of the engine: settings, iptables, containerd, kernel modules, dockerd.

use std::path::Path;
use std::sync::Arc;

use nix::sys::utsname::uname;
use tracing::warn;

use super::condition::Service;
use super::state::Engine;
use super::{settings, supervisor};
use crate::boot::{self, NetworkSettings};
use crate::iptables;
use crate::ports::{Ingress, Ports};

/// Starts both services; the data disk must be mounted. Kernel modules are loaded while containerd starts, which needs
/// none of them.
pub(crate) async fn start(engine: &Arc<Engine>, network: &NetworkSettings, ports: Ports) {
    if let Err(error) = settings::write(network) {
        engine.cannot_start(format!("{error:#}"), None);
        return;
    }
    let ingress = Ingress::new(ports.clone(), network);
    if let Err(error) = iptables::serve(engine.processes.clone(), network, ports, ingress) {
        engine.cannot_start(format!("the firewall's socket cannot be made: {error}"), None);
        return;
    }
    tokio::spawn(supervisor::supervise(Arc::clone(engine), Service::Containerd));
    let loaded = tokio::task::spawn_blocking(load_modules).await;
    if let Err(error) = loaded {
        warn!("cannot load the engine's kernel modules: {error}");
    }
    tokio::spawn(supervisor::supervise(Arc::clone(engine), Service::Dockerd));
}

/// Loads the modules the engine needs, as the image lists them for a kernel that does not have them built in.
fn load_modules() {
    match uname() {
        Ok(kernel) => {
            let release = kernel.release().to_string_lossy();
            let list = format!("/usr/lib/rorqual/modules-{release}");
            boot::load_modules(Path::new(&list), Path::new("/"));
        }
        Err(errno) => warn!("cannot ask for the kernel's release: {errno}"),
    }
}
