//! Reading and checking the configuration of a machine.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use rorqual_vmm_protocol::{Config, Failure, FailureCode, VERSION};

use crate::guest::{Capabilities, accelerators};
use crate::net::network::Subnet4;

/// Longest path of a Unix socket in bytes, without its closing zero.
const MAX_SOCKET_PATH_BYTES: usize = 107;
/// Bytes by which the longest name of a socket in the runtime directory exceeds the machine's directory.
const RUNTIME_PATH_BYTES: usize = "/run/m/mconsole".len();
/// Longest identity of a disk in bytes (`VIRTIO_BLK_ID_BYTES`).
const MAX_ID_BYTES: usize = 20;
/// Least memory in MiB with which the kernel reaches its init.
const MIN_MEMORY_MIB: u64 = 64;
const MAX_MEMORY_MIB: u64 = 1 << 20;

/// Reads and checks the document at `path`. Failures name the key or the line.
pub fn load(path: &Path) -> Result<Config, Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::of_file("read the configuration", path, &error))?;
    let invalid = |reason| Failure::new(FailureCode::ConfigInvalid, format!("{}: {reason}", path.display()));
    let config = parse(&text).map_err(invalid)?;
    let capabilities = accelerators::platform(config.accelerator)?.capabilities();
    fits(&config, capabilities).map_err(invalid)?;
    Ok(config)
}

/// Whether a monitor on this host accepts the document `text`.
pub(crate) fn is_valid(text: &str) -> bool {
    parse(text).is_ok_and(|config| {
        accelerators::platform(config.accelerator).is_ok_and(|platform| fits(&config, platform.capabilities()).is_ok())
    })
}

/// Reads a document and checks what every accelerator demands.
fn parse(text: &str) -> Result<Config, String> {
    let config: Config = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if config.version != VERSION {
        return Err(format!("version is {}; this monitor reads version {VERSION}", config.version));
    }
    if !(MIN_MEMORY_MIB..=MAX_MEMORY_MIB).contains(&config.memory_mib) {
        let given = config.memory_mib;
        return Err(format!("memory_mib is {given}; it must be {MIN_MEMORY_MIB} to {MAX_MEMORY_MIB}"));
    }
    if config.kernel.command_line.contains(['\n', '\0']) {
        return Err("kernel.command_line contains a line break or a zero byte".to_owned());
    }
    check_disks(&config)?;
    if let Some(vsock) = &config.vsock {
        if vsock.guest_cid < 3 || vsock.guest_cid == u32::MAX {
            let given = vsock.guest_cid;
            return Err(format!("vsock.guest_cid is {given}; 0 to 2 and {} are reserved", u32::MAX));
        }
        socket_path_fits("vsock.socket", &vsock.socket, 0)?;
    }
    if let Some(subnet) = config.net.as_ref().and_then(|net| net.subnet.as_deref())
        && Subnet4::parse(subnet).is_none()
    {
        return Err(format!("net.subnet is {subnet:?}; it must be a network of 8 to 28 bits, such as 10.77.0.0/24"));
    }
    socket_path_fits("control_socket", &config.control_socket, 0)?;
    socket_path_fits("the runtime directory beside control_socket", config.directory(), RUNTIME_PATH_BYTES)?;
    Ok(config)
}

fn check_disks(config: &Config) -> Result<(), String> {
    let mut seen = HashSet::new();
    for disk in &config.block {
        let visible = disk.id.bytes().all(|byte| byte.is_ascii_graphic());
        if disk.id.is_empty() || disk.id.len() > MAX_ID_BYTES || !visible {
            return Err(format!("block id {:?} must be 1 to {MAX_ID_BYTES} visible ASCII characters", disk.id));
        }
        if !seen.insert(disk.id.as_str()) {
            return Err(format!("block id {:?} occurs twice", disk.id));
        }
    }
    Ok(())
}

/// Checks a document against what its accelerator can do.
fn fits(config: &Config, capabilities: Capabilities) -> Result<(), String> {
    let name = config.accelerator.name();
    if !(1..=capabilities.max_cpus).contains(&config.cpus) {
        return Err(format!("cpus is {}; the accelerator {name} has 1 to {}", config.cpus, capabilities.max_cpus));
    }
    if config.restore.is_some() && !capabilities.snapshots {
        return Err(format!("restore is set, but the accelerator {name} has no snapshots"));
    }
    if config.huge_pages && !capabilities.huge_pages {
        return Err(format!("huge_pages is set, but the accelerator {name} has none"));
    }
    if config.huge_pages && !config.memory_mib.is_multiple_of(2) {
        return Err(format!("memory_mib is {}; with huge_pages it must be even", config.memory_mib));
    }
    Ok(())
}

fn socket_path_fits(what: &str, path: &Path, further: usize) -> Result<(), String> {
    let length = path.as_os_str().len() + further;
    if length > MAX_SOCKET_PATH_BYTES {
        return Err(format!("the path of {what} has {length} bytes; a socket's has at most {MAX_SOCKET_PATH_BYTES}"));
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

    fn checked(text: &str) -> Result<Config, String> {
        let config = parse(text)?;
        let platform = accelerators::platform(config.accelerator).map_err(|failure| failure.message)?;
        fits(&config, platform.capabilities()).map(|()| config)
    }

    fn refused(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from));
        checked(&GOOD.replacen(from, to, 1)).unwrap_err()
    }

    #[test]
    fn each_accelerator_has_its_own_number_of_processors() {
        let document = |accelerator: &str, cpus: u32| {
            let document = serde_json::json!({
                "version": 1, "name": "m", "accelerator": accelerator, "kernel": {"path": "/k", "initramfs": "/i"},
                "cpus": cpus, "memory_mib": 128, "console_log": "/m/console.log", "control_socket": "/m/control.sock"
            });
            checked(&document.to_string())
        };
        assert!(document("kvm", 64).is_ok());
        assert!(document("uml", 64).unwrap_err().contains("uml has 1 to 1"));
        assert!(document("kvm", 65).is_err());
    }

    #[test]
    fn the_documented_example_is_accepted() {
        let config = checked(GOOD).unwrap();
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
