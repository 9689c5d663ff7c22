//! The configuration of a machine: one JSON document, unknown keys refused.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{ErrorCode, Failure};
use crate::net::network::Subnet4;
use crate::snapshot::document::NetworkRecord;

/// Longest path a Unix socket can have, without its closing zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// The runtime directory beside the control socket holds sockets with names this much longer than the directory's.
const RUNTIME_PATH_BYTES: usize = "/run/m/mconsole".len();
/// Longest identity of a disk (`VIRTIO_BLK_ID_BYTES`).
const ID_BYTES_MAX: usize = 20;
/// Less than this and the kernel does not reach its init.
const MEMORY_MIB_MIN: u64 = 64;
const MEMORY_MIB_MAX: u64 = 1 << 20;

/// Most processors of a KVM guest. Its interrupt controllers' numbers are 8 bits wide, so 254 would be the end.
const KVM_CPUS_MAX: u32 = 64;

/// What runs the guest's processor.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// User Mode Linux: the kernel as a process.
    Uml,
    /// The hypervisor of Linux.
    Kvm,
}

impl Accelerator {
    /// The name it has in configurations and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uml => "uml",
            Self::Kvm => "kvm",
        }
    }
}

/// Whether the monitor confines itself.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Confinement {
    /// As far as the host can.
    #[default]
    On,
    /// Not at all. For debugging only.
    Off,
}

/// A whole machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Version of this document; 1.
    pub version: u32,
    /// Name of the machine, for the log.
    pub name: String,
    /// What runs the guest's processor.
    pub accelerator: Accelerator,
    /// What is booted.
    pub kernel: Kernel,
    /// Number of processors: 1 with User Mode Linux, up to 64 with KVM.
    pub cpus: u32,
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// Guest memory is made of the host's reserved huge pages of 2 MiB, and stays reserved while the machine lives. Only with KVM.
    #[serde(default)]
    pub huge_pages: bool,
    /// Disks, in the order the guest finds them.
    #[serde(default)]
    pub block: Vec<Block>,
    /// The vsock device, if the machine has one.
    #[serde(default)]
    pub vsock: Option<Vsock>,
    /// A directory with a snapshot to go on from in place of booting; it is removed when the guest runs on. Only with KVM.
    #[serde(default)]
    pub restore: Option<PathBuf>,
    /// The network card, if the machine has one.
    #[serde(default)]
    pub net: Option<Net>,
    /// The addresses its network was given; not part of the document.
    #[serde(skip)]
    pub network: Option<NetworkRecord>,
    /// The guest's console goes here.
    pub console_log: PathBuf,
    /// Whether the monitor confines itself.
    #[serde(default)]
    pub confinement: Confinement,
    /// The control socket; its directory also holds the private runtime directory `run`.
    pub control_socket: PathBuf,
}

/// The kernel and its initial file system.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// The kernel image.
    pub path: PathBuf,
    /// The initial RAM file system.
    pub initramfs: PathBuf,
    /// What the guest finds on its command line besides the accelerator's own.
    #[serde(default)]
    pub command_line: String,
}

/// One disk.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Serial the guest finds the disk by; at most 20 bytes.
    pub id: String,
    /// The raw image.
    pub path: PathBuf,
    /// The guest may only read.
    pub read_only: bool,
}

/// The vsock device.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vsock {
    /// Context ID of the guest: 3 or more.
    pub guest_cid: u32,
    /// Host side of the hybrid convention.
    pub socket: PathBuf,
}

/// The network card and the gateway behind it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Net {
    /// The machine's network of IPv4 (`198.19.64.0/24`). None: one that the host has no other way to.
    #[serde(default)]
    pub subnet: Option<String>,
    /// Whether the guest reaches the host's loopback address as `host.docker.internal`.
    pub host_access: bool,
    /// Whether link-local addresses, where clouds keep a machine's secrets, are closed to the guest.
    pub block_link_local: bool,
}

impl Config {
    /// Reads and checks the document at `path`. Errors name the key or the line.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let text =
            fs::read_to_string(path).map_err(|error| Failure::of_file("read the configuration", path, &error))?;
        Self::parse(&text)
            .map_err(|reason| Failure::new(ErrorCode::ConfigInvalid, format!("{}: {reason}", path.display())))
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let config: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if self.version != 1 {
            return Err(format!("version {} is not known; this monitor reads version 1", self.version));
        }
        let most = match self.accelerator {
            Accelerator::Uml => 1,
            Accelerator::Kvm => KVM_CPUS_MAX,
        };
        if !(1..=most).contains(&self.cpus) {
            let name = self.accelerator.name();
            return Err(format!("cpus is {}; the accelerator {name} has 1 to {most}", self.cpus));
        }
        if !(MEMORY_MIB_MIN..=MEMORY_MIB_MAX).contains(&self.memory_mib) {
            return Err(format!(
                "memory_mib is {}; it must be from {MEMORY_MIB_MIN} to {MEMORY_MIB_MAX}",
                self.memory_mib
            ));
        }
        if self.restore.is_some() && self.accelerator != Accelerator::Kvm {
            return Err(format!("restore is set, but the accelerator {} has no snapshots", self.accelerator.name()));
        }
        if self.huge_pages && (self.accelerator != Accelerator::Kvm || !self.memory_mib.is_multiple_of(2)) {
            return Err("huge_pages needs the accelerator kvm and an even memory_mib".to_owned());
        }
        if self.kernel.command_line.contains(['\n', '\0']) {
            return Err("kernel.command_line has a line break or a zero byte".to_owned());
        }
        let mut seen = HashSet::new();
        for disk in &self.block {
            if disk.id.is_empty()
                || disk.id.len() > ID_BYTES_MAX
                || !disk.id.bytes().all(|byte| byte.is_ascii_graphic())
            {
                return Err(format!("block id {:?} must be 1 to {ID_BYTES_MAX} visible ASCII characters", disk.id));
            }
            if !seen.insert(disk.id.as_str()) {
                return Err(format!("block id {:?} is there twice", disk.id));
            }
        }
        if let Some(vsock) = &self.vsock {
            if vsock.guest_cid < 3 || vsock.guest_cid == u32::MAX {
                return Err(format!(
                    "vsock.guest_cid is {}; 0 to 2 and {} have other meanings",
                    vsock.guest_cid,
                    u32::MAX
                ));
            }
            socket_path_fits("vsock.socket", &vsock.socket, 0)?;
        }
        if let Some(subnet) = self.net.as_ref().and_then(|net| net.subnet.as_deref())
            && Subnet4::parse(subnet).is_none()
        {
            return Err(format!(
                "net.subnet is {subnet:?}; it must be a network of 16 addresses or more such as 10.77.0.0/24"
            ));
        }
        socket_path_fits("control_socket", &self.control_socket, 0)?;
        socket_path_fits("the runtime directory beside control_socket", self.directory(), RUNTIME_PATH_BYTES)
    }

    /// The machine's directory: the control socket's.
    pub fn directory(&self) -> &Path {
        match self.control_socket.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }
}

fn socket_path_fits(what: &str, path: &Path, further: usize) -> Result<(), String> {
    let length = path.as_os_str().len() + further;
    if length > SOCKET_PATH_BYTES_MAX {
        return Err(format!("the path of {what} is {length} bytes; a socket's may have {SOCKET_PATH_BYTES_MAX}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{
  "version": 1, "name": "default", "accelerator": "uml",
  "kernel": {"path": "/k", "initramfs": "/i", "command_line": "rorqual.machine=default"},
  "cpus": 1, "memory_mib": 2048,
  "block": [{"id": "root", "path": "/r", "read_only": true}, {"id": "data", "path": "/d", "read_only": false}],
  "vsock": {"guest_cid": 3, "socket": "/m/vsock.sock"},
  "net": {"subnet": "10.77.0.0/24", "host_access": true, "block_link_local": true},
  "console_log": "/m/console.log", "control_socket": "/m/control.sock"
}"#;

    fn refused(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from));
        Config::parse(&GOOD.replacen(from, to, 1)).unwrap_err()
    }

    #[test]
    fn each_accelerator_has_its_own_number_of_processors() {
        let mut config: Config = serde_json::from_value(serde_json::json!({
            "version": 1, "name": "m", "accelerator": "kvm", "kernel": {"path": "/k", "initramfs": "/i"},
            "cpus": 64, "memory_mib": 128, "console_log": "/m/console.log", "control_socket": "/m/control.sock"
        }))
        .unwrap();
        assert!(config.check().is_ok());
        config.accelerator = Accelerator::Uml;
        assert!(config.check().unwrap_err().contains("uml has 1 to 1"));
        (config.accelerator, config.cpus) = (Accelerator::Kvm, 65);
        assert!(config.check().is_err());
    }

    #[test]
    fn the_documented_example_is_accepted() {
        let config = Config::parse(GOOD).unwrap();
        assert_eq!(config.block[1].id, "data");
        assert_eq!(config.directory(), Path::new("/m"));
    }

    #[test]
    fn an_unknown_key_is_refused_by_name_and_line() {
        let reason = refused("\"cpus\": 1,", "\"cpus\": 1, \"colour\": 2,");
        assert!(reason.contains("colour") && reason.contains("line 4"), "{reason}");
    }

    #[test]
    fn values_out_of_range_are_refused_by_key() {
        assert!(refused("\"version\": 1", "\"version\": 2").contains("version"));
        assert!(refused("\"cpus\": 1", "\"cpus\": 2").contains("cpus"));
        assert!(refused("2048", "1").contains("memory_mib"));
        assert!(refused("2048", "2048, \"huge_pages\": true").contains("huge_pages"));
        assert!(refused("\"guest_cid\": 3", "\"guest_cid\": 2").contains("guest_cid"));
        assert!(refused("\"id\": \"root\"", "\"id\": \"data\"").contains("twice"));
        assert!(refused("\"id\": \"root\"", "\"id\": \"a name longer than 20\"").contains("block id"));
        assert!(refused("\"cpus\": 1", "\"restore\": \"/s\", \"cpus\": 1").contains("no snapshots"));
        assert!(refused("10.77.0.0/24", "10.77.0.1/24").contains("net.subnet"));
        let long = format!("/{}/control.sock", "x".repeat(100));
        assert!(refused("/m/control.sock", &long).contains("control_socket"));
    }
}
