//! Finds the machine's disks by their virtio serial (virtio 1.3 §5.2.6.1, `VIRTIO_BLK_T_GET_ID`).

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};
use tracing::warn;

/// How long the kernel may take to find its disks. In practice they exist before the first process; this only ends the
/// wait for one that was never attached.
const DISK_PATIENCE: Duration = Duration::from_secs(10);

/// Kernel multicast group of uevents (the other one is udev's).
const KERNEL_UEVENTS: u32 = 1;

/// How far the kernel reads ahead, in KiB. By itself, Linux 7.3 reads 8 MiB: twice the largest request of the disk.
const READ_AHEAD_KIB: &str = "1024";

/// Device nodes of disks by serial.
pub(crate) type Disks = BTreeMap<String, PathBuf>;

/// The kernel's announcements of devices. Subscribed before the modules are loaded, so that none is missed.
pub(crate) struct Uevents(OwnedFd);

impl Uevents {
    /// Subscribes.
    pub(crate) fn subscribe() -> Result<Self, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkKObjectUEvent)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_UEVENTS))?;
        Ok(Self(socket))
    }

    /// Waits for announcements, at most for `patience`, and discards them.
    fn wait(&self, patience: Duration) -> Result<(), Errno> {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        let mut announcement = [0; 8192];
        loop {
            match recv(self.0.as_raw_fd(), &mut announcement, MsgFlags::empty()) {
                // An overflow loses announcements, not devices: the caller lists all devices again.
                Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// Has the kernel read ahead up to [`READ_AHEAD_KIB`] of each disk.
pub(crate) fn limit_read_ahead(disks: &Disks) {
    for disk in disks.values() {
        let name = disk.file_name().unwrap_or_default();
        let setting = Path::new("/sys/block").join(name).join("queue/read_ahead_kb");
        if let Err(error) = std::fs::write(&setting, READ_AHEAD_KIB) {
            warn!("cannot limit how far the kernel reads ahead, in {}: {error}", setting.display());
        }
    }
}

/// Waits until disks with all `wanted` serials exist or the patience is over, and returns the disks found.
pub(crate) fn find(wanted: &[&str], uevents: &Uevents) -> Result<Disks, Errno> {
    let deadline = Instant::now() + DISK_PATIENCE;
    loop {
        let disks = scan(Path::new("/sys/block"));
        let patience = deadline.saturating_duration_since(Instant::now());
        if wanted.iter().all(|serial| disks.contains_key(*serial)) || patience.is_zero() {
            return Ok(disks);
        }
        uevents.wait(patience)?;
    }
}

/// The virtio disks with a serial below `block`, a folder laid out as `/sys/block`.
fn scan(block: &Path) -> Disks {
    let Ok(entries) = std::fs::read_dir(block) else { return Disks::new() };
    let mut disks = Disks::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with("vd") {
            continue;
        }
        let Ok(serial) = std::fs::read_to_string(entry.path().join("serial")) else { continue };
        let serial = serial.trim_matches(['\0', '\n', ' ']);
        if !serial.is_empty() {
            disks.insert(serial.to_owned(), Path::new("/dev").join(name));
        }
    }
    disks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_virtio_disks_with_a_serial_are_found() {
        let block = tempfile::tempdir().unwrap();
        for (disk, serial) in [("vda", Some("root\n")), ("vdb", Some("data")), ("vdc", Some("\n")), ("vdd", None)] {
            let folder = block.path().join(disk);
            std::fs::create_dir(&folder).unwrap();
            if let Some(serial) = serial {
                std::fs::write(folder.join("serial"), serial).unwrap();
            }
        }
        std::fs::create_dir(block.path().join("loop0")).unwrap();
        std::fs::write(block.path().join("loop0/serial"), "root").unwrap();
        let expected = [("data".to_owned(), "/dev/vdb".into()), ("root".to_owned(), "/dev/vda".into())];
        assert_eq!(scan(block.path()), Disks::from(expected));
    }

    #[test]
    fn no_block_devices_are_no_disks() {
        assert!(scan(Path::new("/nowhere")).is_empty());
    }
}
