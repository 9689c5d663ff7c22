//! The settings and command lines of containerd and dockerd.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use super::condition::Service;
use crate::boot::{NetworkSettings, PORT_PROXY};
use crate::docker_api::DOCKER_SOCKET;
use crate::iptables::BUS_ADDRESS;
use crate::programs::{SEARCH_PATH, command};

const FOLDER: &str = "/run/rorqual/engine";
const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";
/// dockerd's process ID file. One left by a killed dockerd would prevent the next start.
pub(super) const DOCKERD_PID_FILE: &str = "/run/docker.pid";

/// crun's library with runc's answers (`images/runtime`), which scripts and programs expect: the exit statuses 126 and
/// 127, and ENOSYS for a system call that the seccomp profile does not know.
const RUNTIME: &str = "/usr/lib/rorqual/crun";

/// Programs that only dockerd finds: `runc`, which answers its questions from files (`images/runtime/crun/said.c`).
const FOR_DOCKERD: &str = "/usr/lib/rorqual/for-dockerd";

/// Plugins of containerd that dockerd never uses. Each costs start time and memory.
const UNUSED_PLUGINS: &[&str] = &[
    "io.containerd.grpc.v1.cri",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.nri.v1.nri",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.native",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
];

/// Writes the services' settings.
pub(super) fn write(network: &NetworkSettings) -> Result<()> {
    fs::create_dir_all(FOLDER).with_context(|| format!("cannot make {FOLDER}"))?;
    for (name, content) in [("containerd.toml", containerd()), ("dockerd.json", dockerd(network))] {
        let path = format!("{FOLDER}/{name}");
        fs::write(&path, content).with_context(|| format!("cannot write {path}"))?;
    }
    Ok(())
}

/// The command that starts a service.
pub(super) fn service_command(service: Service) -> Command {
    match service {
        Service::Containerd => {
            let mut containerd = command("/usr/bin/containerd");
            containerd.arg("--config").arg(format!("{FOLDER}/containerd.toml"));
            containerd
        }
        Service::Dockerd => {
            let mut dockerd = command("/usr/sbin/dockerd");
            dockerd.env("DBUS_SYSTEM_BUS_ADDRESS", BUS_ADDRESS);
            dockerd.env("PATH", format!("{FOR_DOCKERD}:{SEARCH_PATH}"));
            // The runtime of the steps of builds, which would otherwise be runc. No setting of the file names it.
            dockerd.env("DOCKER_BUILDKIT_RUNC_COMMAND", RUNTIME);
            dockerd.arg("--config-file").arg(format!("{FOLDER}/dockerd.json"));
            dockerd
        }
    }
}

fn containerd() -> String {
    let unused: Vec<String> = UNUSED_PLUGINS.iter().map(|name| format!("  {name:?},\n")).collect();
    format!(
        "version = 2\nroot = \"/var/lib/containerd\"\nstate = \"/run/containerd\"\noom_score = -999\n\
         disabled_plugins = [\n{}]\n[grpc]\n  address = {CONTAINERD_SOCKET:?}\n",
        unused.concat()
    )
}

fn dockerd(network: &NetworkSettings) -> String {
    let mut settings = json!({
        // Clients of published ports enter the machine by its network card and go to the container's address. Only the
        // gateway can send there, and it does so for published ports alone.
        "allow-direct-routing": true,
        "containerd": CONTAINERD_SOCKET,
        "data-root": "/var/lib/docker",
        "default-runtime": "crun",
        "features": { "buildkit": true },
        "hosts": [format!("unix://{DOCKER_SOCKET}")],
        // As with IPv4, containers reach other computers from the machine's own address.
        "ip6tables": true,
        "live-restore": false,
        "log-driver": "json-file",
        "log-opts": { "max-size": "20m", "max-file": "3" },
        "pidfile": DOCKERD_PID_FILE,
        "runtimes": { "crun": { "path": RUNTIME } },
        "shutdown-timeout": 15,
        "storage-driver": "overlay2",
        "userland-proxy": true,
        "userland-proxy-path": PORT_PROXY,
    });
    let hosts = [network.v4.map(|v4| format!("{}/32", v4.host)), network.v6.map(|v6| format!("{}/128", v6.host))];
    // A registry on the host may lack TLS, as one on localhost may.
    settings["insecure-registries"] = hosts.into_iter().flatten().collect();
    if let Some(v4) = network.v4 {
        // The meaning of `--add-host NAME:host-gateway`.
        settings["host-gateway-ip"] = v4.host.to_string().into();
    }
    settings.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockerd_publishes_ports_by_our_proxy() {
        let settings: serde_json::Value = serde_json::from_str(&dockerd(&NetworkSettings::default())).unwrap();
        assert_eq!(settings["userland-proxy-path"], "/run/rorqual/bin/rorqual-port-proxy");
        assert_eq!(settings["hosts"][0], "unix:///run/docker.sock");
    }

    #[test]
    fn containers_and_builds_run_by_crun_with_runcs_answers() {
        let settings: serde_json::Value = serde_json::from_str(&dockerd(&NetworkSettings::default())).unwrap();
        assert_eq!(settings["default-runtime"], "crun");
        assert_eq!(settings["runtimes"]["crun"]["path"], RUNTIME);
        let dockerd = service_command(Service::Dockerd);
        let variable = |name: &str| dockerd.get_envs().find(|(key, _)| *key == name).and_then(|(_, value)| value);
        assert!(variable("PATH").is_some_and(|path| path.as_encoded_bytes().starts_with(FOR_DOCKERD.as_bytes())));
        assert_eq!(variable("DOCKER_BUILDKIT_RUNC_COMMAND"), Some(RUNTIME.as_ref()));
        assert!(settings.get("experimental").is_none());
    }

    #[test]
    fn the_host_is_where_containers_and_pulls_look_for_it() {
        let line = "rorqual.net=10.0.0.2/24,10.0.0.1,10.0.0.254 rorqual.net6=fd00::2/64,fd00::1,fd00::fe";
        let network = crate::boot::CommandLine::parse(line).network;
        let settings: serde_json::Value = serde_json::from_str(&dockerd(&network)).unwrap();
        assert_eq!(settings["host-gateway-ip"], "10.0.0.254");
        assert_eq!(settings["insecure-registries"], json!(["10.0.0.254/32", "fd00::fe/128"]));
    }

    #[test]
    fn containerd_listens_where_dockerd_looks() {
        assert!(containerd().contains("address = \"/run/containerd/containerd.sock\""));
        assert!(dockerd(&NetworkSettings::default()).contains(CONTAINERD_SOCKET));
    }
}
