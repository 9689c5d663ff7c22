//! The data disk: formatted once, repaired when unclean, mounted, grown, trimmed.
//!
//! One rule covers all of it: contents that are not ours are never written to.

use std::fmt::{self, Display};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::statvfs;
use rorqual_protocol::agent::DataDiskReply;
use tracing::{info, warn};

use crate::boot;
use crate::processes::Processes;
use crate::programs::command;

mod superblock;

use superblock::{Content, FORMATTING, LABEL};

/// Where the data disk is mounted.
pub(crate) const MOUNT_POINT: &str = "/var/lib/rorqual";
/// Folders of the disk, and where the engine expects them.
///
/// containerd's folder is not among them: it only holds records of running containers, of which none outlives the
/// machine, and each change of one would wait for the disk.
pub(crate) const FOLDERS: [(&str, &str); 1] = [("/var/lib/rorqual/docker", "/var/lib/docker")];

/// `e2fsck` has repaired everything if its exit status has no bits but these (e2fsck(8)): 1 means errors corrected, 2
/// corrected and reboot advised, which only concerns a mounted root.
const REPAIRED: i32 = 1 | 2;

/// Advice for a disk that the machine does not touch.
const RESTORE: &str = "restore data.img from a copy, or move it away to start with an empty one";

/// Why the disk cannot be used, with what the user can do about it. It may stand anywhere in a chain of errors.
#[derive(Debug)]
struct Advised {
    message: String,
    /// An instruction.
    fix: &'static str,
}

impl Display for Advised {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Advised {}

/// What the user can do about `error`, if that is known.
pub(crate) fn advice(error: &anyhow::Error) -> Option<&'static str> {
    error.downcast_ref::<Advised>().map(|advised| advised.fix)
}

/// Makes `disk` the data disk and mounts it. Blocks. Every error is a message for the user; [`advice`] belongs to it.
pub(crate) fn mount_disk(disk: &Path, processes: &Processes) -> Result<()> {
    let name = disk.display();
    let mut file =
        OpenOptions::new().read(true).write(true).open(disk).with_context(|| format!("cannot open {name}"))?;
    let disk_bytes = file.seek(SeekFrom::End(0)).with_context(|| format!("cannot determine the size of {name}"))?;
    match superblock::inspect(&mut file, disk_bytes).with_context(|| format!("cannot read {name}"))? {
        Content::Blank => format(disk, &mut file, disk_bytes, processes)?,
        Content::Foreign(what) => bail!(Advised {
            message: format!(
                "the data disk holds {what}. It was left untouched: the machine only uses a blank disk or its own file \
                 system"
            ),
            fix: RESTORE,
        }),
        Content::Ours { bytes, .. } if bytes > disk_bytes => bail!(Advised {
            message: format!(
                "the data disk has {disk_bytes} bytes, but its file system has {bytes}: the image file was truncated"
            ),
            fix: RESTORE,
        }),
        Content::Ours { clean: true, .. } => {}
        Content::Ours { clean: false, .. } => repair(disk, processes)?,
    }
    drop(file);

    let options = "errors=remount-ro,nodiscard";
    mount(Some(disk), MOUNT_POINT, Some("ext4"), MsFlags::MS_NOATIME, Some(options)).with_context(|| Advised {
        message: format!("cannot mount the data disk {name} at {MOUNT_POINT}"),
        fix: "read why with `rorqual logs kernel`",
    })?;
    for (source, target) in FOLDERS {
        std::fs::create_dir_all(source).with_context(|| Advised {
            message: format!("cannot create {source} on the data disk"),
            fix: "read whether the disk is full or damaged with `rorqual logs kernel`",
        })?;
        boot::bind(source, target)?;
    }
    if let Err(error) = grow() {
        warn!("cannot grow the data disk: {error:#}");
    }
    Ok(())
}

/// Makes the file system. The image is sparse and blank, so nothing needs to be zeroed or discarded, now or later.
fn format(disk: &Path, file: &mut File, disk_bytes: u64, processes: &Processes) -> Result<()> {
    info!("formatting the blank data disk, {} MiB", disk_bytes >> 20);
    let mut mark = |content: &[u8]| -> std::io::Result<()> {
        file.seek(SeekFrom::Start(disk_bytes - FORMATTING.len() as u64))?;
        file.write_all(content)?;
        file.sync_all()
    };
    mark(FORMATTING).context(Advised {
        message: "cannot write to the data disk".to_owned(),
        fix: "free space on the host's disk, then run `rorqual restart`",
    })?;
    let mut program = command("/usr/sbin/mkfs.ext4");
    program
        .args(["-q", "-F", "-m", "0", "-b", "4096", "-L", LABEL, "-J", "size=64"])
        .args(["-E", "nodiscard,assume_storage_prezeroed=1,lazy_itable_init=1,lazy_journal_init=1"])
        .arg(disk);
    run(&mut program, 0, processes).context("cannot format the data disk")?;
    mark(&[0; FORMATTING.len()]).context(Advised {
        message: "cannot write to the data disk".to_owned(),
        fix: "free space on the host's disk, then run `rorqual restart`",
    })
}

fn repair(disk: &Path, processes: &Processes) -> Result<()> {
    info!("the data disk was not unmounted cleanly or has errors: checking it");
    let mut program = command("/usr/sbin/e2fsck");
    program.arg("-p").arg(disk);
    let output = run(&mut program, REPAIRED, processes).context(Advised {
        message: "the data disk is damaged and could not be repaired automatically".to_owned(),
        fix: "make a copy of data.img, then run `e2fsck -f` on it on the host, or restore it from an older copy",
    })?;
    info!("the data disk is sound: {}", output);
    Ok(())
}

/// Runs a program to its end and returns its output; an exit status with other bits than `accepted` is an error.
fn run(command: &mut Command, accepted: i32, processes: &Processes) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = processes.start(command).with_context(|| format!("cannot start {name}"))?;
    let mut output = Vec::new();
    // Neither program writes more to the second pipe than it holds while the first is read.
    if let Some(mut pipe) = running.stdout {
        pipe.read_to_end(&mut output).with_context(|| format!("cannot read the output of {name}"))?;
    }
    if let Some(mut pipe) = running.stderr {
        pipe.read_to_end(&mut output).with_context(|| format!("cannot read the output of {name}"))?;
    }
    // Messages for the user are one line.
    let output = String::from_utf8_lossy(&output).split_whitespace().collect::<Vec<_>>().join(" ");
    let status = running.exit.blocking_recv().with_context(|| format!("the exit status of {name} was lost"))?;
    match status.code() {
        Some(code) if code & !accepted == 0 => Ok(output),
        _ => Err(anyhow!("{name} ended with {status}: {output}")),
    }
}

nix::ioctl_write_ptr! {
    /// `EXT4_IOC_RESIZE_FS`: grows the mounted file system to the given number of blocks.
    ext4_resize, b'f', 16, u64
}
nix::ioctl_read! {
    /// `BLKGETSIZE64`: size of a block device in bytes.
    block_device_bytes, 0x12, 114, u64
}

/// `struct fstrim_range` of linux/fs.h.
#[repr(C)]
struct TrimRange {
    start: u64,
    length: u64,
    shortest: u64,
}

nix::ioctl_readwrite! {
    /// `FITRIM`: discards what the file system does not use; the length becomes the number of bytes discarded.
    trim_range, b'X', 121, TrimRange
}

/// Grows the file system to the size of its device, if that has grown, and returns the sizes.
pub(crate) fn grow() -> Result<DataDiskReply> {
    let device = mounted_device()?;
    let file = File::open(&device).with_context(|| format!("cannot open {}", device.display()))?;
    let mut device_bytes = 0;
    // SAFETY: the descriptor is open, and the call writes one u64, which `device_bytes` is.
    unsafe { block_device_bytes(file.as_raw_fd(), &raw mut device_bytes) }
        .with_context(|| format!("cannot determine the size of {}", device.display()))?;

    let mut superblock = File::open(&device).with_context(|| format!("cannot open {}", device.display()))?;
    let content = superblock::inspect(&mut superblock, device_bytes)
        .with_context(|| format!("cannot read {}", device.display()))?;
    let root = File::open(MOUNT_POINT).with_context(|| format!("cannot open {MOUNT_POINT}"))?;
    let block_bytes =
        statvfs(MOUNT_POINT).with_context(|| format!("cannot determine the size of {MOUNT_POINT}"))?.block_size();
    if let Content::Ours { bytes, .. } = content {
        let blocks: u64 = device_bytes / block_bytes.max(1);
        if blocks > bytes / block_bytes.max(1) {
            info!("the data disk grows from {} to {} MiB", bytes >> 20, device_bytes >> 20);
            // SAFETY: the descriptor is open, and the call reads one u64, which `blocks` is.
            unsafe { ext4_resize(root.as_raw_fd(), &raw const blocks) }
                .context("cannot grow the file system of the data disk")?;
        }
    }
    let sizes = statvfs(MOUNT_POINT).with_context(|| format!("cannot determine the size of {MOUNT_POINT}"))?;
    let unit = sizes.fragment_size();
    Ok(DataDiskReply {
        device_bytes,
        total_bytes: sizes.blocks() * unit,
        used_bytes: (sizes.blocks() - sizes.blocks_free()) * unit,
        free_bytes: sizes.blocks_available() * unit,
    })
}

/// Returns what the file system does not use to the host, and returns the number of bytes.
pub(crate) fn trim() -> Result<u64> {
    let root = File::open(MOUNT_POINT).with_context(|| format!("cannot open {MOUNT_POINT}"))?;
    let mut range = TrimRange { start: 0, length: u64::MAX, shortest: 0 };
    // SAFETY: the descriptor is open, and the call reads and writes one fstrim_range, which `range` is laid out as.
    unsafe { trim_range(root.as_raw_fd(), &raw mut range) }.context("cannot trim the data disk")?;
    Ok(range.length)
}

/// Whether the data disk is mounted.
pub(crate) fn is_mounted() -> bool {
    mounted_device().is_ok()
}

/// The device that is mounted as the data disk.
fn mounted_device() -> Result<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    mounts
        .lines()
        .find_map(|line| {
            let mut words = line.split(' ');
            let device = words.next()?;
            (words.next()? == MOUNT_POINT).then(|| PathBuf::from(device))
        })
        .ok_or_else(|| anyhow!("the data disk is not mounted"))
}
