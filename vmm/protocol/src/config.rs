//! The configuration of one machine: the document `vmm.json`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The version of the document that this crate describes.
pub const VERSION: u32 = 1;

/// What runs the guest's processors.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// User Mode Linux: the guest kernel is a process of the host.
    Uml,
    /// The hypervisor of Linux.
    Kvm,
}

impl Accelerator {
    /// The name in configurations and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uml => "uml",
            Self::Kvm => "kvm",
        }
    }
}

/// Whether the monitor confines itself.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confinement {
    /// As far as the host can.
    #[default]
    On,
    /// Not at all. For debugging only.
    Off,
}

/// One machine.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Version of the document: [`VERSION`].
    pub version: u32,
    /// Name of the machine, for the log.
    pub name: String,
    /// What runs the guest's processors.
    pub accelerator: Accelerator,
    /// What is booted.
    pub kernel: Kernel,
    /// Number of processors: 1 with User Mode Linux, 1 to 64 with KVM.
    pub cpus: u32,
    /// Guest memory in MiB, 64 to 1,048,576.
    pub memory_mib: u64,
    /// Take guest memory from the host's reserved huge pages of 2 MiB, all of it at the start. KVM only; `memory_mib`
    /// must be even.
    #[serde(default, skip_serializing_if = "is_default")]
    pub huge_pages: bool,
    /// The disks, in the order the guest finds them.
    #[serde(default)]
    pub block: Vec<Block>,
    /// The vsock device, if the machine has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vsock: Option<Vsock>,
    /// Directory of a snapshot to resume from instead of booting. The monitor removes it once the guest runs. KVM only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<PathBuf>,
    /// The network card, if the machine has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net: Option<Net>,
    /// File that receives the guest's console.
    pub console_log: PathBuf,
    /// Whether the monitor confines itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub confinement: Confinement,
    /// The control socket, at most 107 bytes. Its directory also holds the monitor's private runtime directory, `run`.
    pub control_socket: PathBuf,
}

impl Config {
    /// The machine's directory: the one that holds the control socket.
    pub fn directory(&self) -> &Path {
        match self.control_socket.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }
}

/// The guest kernel and its initial file system.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// The kernel image: an executable with User Mode Linux, a `vmlinux` with a PVH entry with KVM.
    pub path: PathBuf,
    /// The initial RAM file system.
    pub initramfs: PathBuf,
    /// The kernel's command line, without what the monitor adds to it. No line break and no zero byte.
    #[serde(default)]
    pub command_line: String,
}

/// One disk.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Virtio serial by which the guest finds the disk: 1 to 20 visible ASCII characters, unique in the machine.
    pub id: String,
    /// The raw image.
    pub path: PathBuf,
    /// Whether the guest may only read.
    pub read_only: bool,
}

/// The vsock device.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Vsock {
    /// Context ID of the guest, 3 to 4,294,967,294.
    pub guest_cid: u32,
    /// Socket the host connects to, at most 107 bytes.
    pub socket: PathBuf,
}

/// The network card and the gateway behind it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Net {
    /// The machine's IPv4 network, such as `198.19.64.0/24`, with 8 to 28 bits. None: the monitor chooses one to which
    /// the host has no other route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// Whether the guest reaches the host's loopback address as `host.docker.internal`.
    pub host_access: bool,
    /// Whether link-local addresses, where clouds serve a machine's credentials, are closed to the guest.
    pub block_link_local: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_documented_document_is_read_and_written_back() {
        let document = json!({
            "version": 1, "name": "default", "accelerator": "uml",
            "kernel": {"path": "/k", "initramfs": "/i", "command_line": "rorqual.machine=default"},
            "cpus": 1, "memory_mib": 2048,
            "block": [{"id": "root", "path": "/r", "read_only": true}],
            "vsock": {"guest_cid": 3, "socket": "/m/vsock.sock"},
            "net": {"subnet": "10.77.0.0/24", "host_access": true, "block_link_local": true},
            "console_log": "/m/console.log", "control_socket": "/m/control.sock"
        });
        let config: Config = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(config.directory(), Path::new("/m"));
        assert_eq!(serde_json::to_value(&config).unwrap(), document);
        assert!(serde_json::from_value::<Config>(with(document, "colour", json!(2))).is_err());
    }

    #[test]
    fn keys_with_a_default_may_be_absent_and_are_written_only_when_set() {
        let least = json!({
            "version": 1, "name": "m", "accelerator": "kvm", "kernel": {"path": "/k", "initramfs": "/i"},
            "cpus": 2, "memory_mib": 128, "console_log": "/m/console.log", "control_socket": "control.sock"
        });
        let config: Config = serde_json::from_value(least.clone()).unwrap();
        assert_eq!(config.directory(), Path::new("."));
        assert_eq!((config.vsock.is_none(), config.net.is_none(), config.huge_pages), (true, true, false));
        assert_eq!(config.confinement, Confinement::On);
        let written = serde_json::to_value(&config).unwrap();
        assert_eq!(written["block"], json!([]));
        assert_eq!(written["kernel"]["command_line"], "");
        assert!(written.get("restore").is_none() && written.get("huge_pages").is_none());
        let full =
            Config { huge_pages: true, confinement: Confinement::Off, restore: Some("/m/snapshot".into()), ..config };
        let written = serde_json::to_value(&full).unwrap();
        assert_eq!((&written["huge_pages"], &written["confinement"]), (&json!(true), &json!("off")));
        assert_eq!(written["restore"], "/m/snapshot");
        assert_eq!(serde_json::from_value::<Config>(written).unwrap(), full);
        // A daemon may write null for what is not there.
        assert_eq!(serde_json::from_value::<Config>(with(least, "net", json!(null))).unwrap().net, None);
    }

    fn with(mut document: serde_json::Value, key: &str, value: serde_json::Value) -> serde_json::Value {
        document[key] = value;
        document
    }
}
