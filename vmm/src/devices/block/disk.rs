//! The file behind a block device: raw, sparse, and locked if it is writable.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use rorqual_vmm_protocol::{Failure, FailureCode};
use thiserror::Error;
use tracing::error;

use crate::devices::counters::Counters;

/// Bytes of one sector, the unit of every position in the protocol, whatever the block size (virtio 1.3 §5.2.2).
pub const SECTOR_BYTES: u64 = 512;

/// Least time between two log lines about a full host.
const FULL_LOGGED_EVERY: Duration = Duration::from_mins(1);

/// Why a disk cannot be used.
#[derive(Debug, Error)]
pub enum DiskError {
    /// The file does not exist.
    #[error("the disk image {path} does not exist")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Another process holds the lock of the writable file.
    #[error("the disk image {path} is in use by another process")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file is smaller than a sector, or not a regular file.
    #[error("{path} cannot be a disk: {reason}")]
    Unsuitable {
        /// The file.
        path: PathBuf,
        /// What is wrong with the file.
        reason: &'static str,
    },
    /// The file is smaller than the size the guest knows.
    #[error("the disk image {path} has shrunk from {from} to {to} bytes, but a disk in use can only grow")]
    Shrunk {
        /// The file.
        path: PathBuf,
        /// Size the guest knows, in bytes.
        from: u64,
        /// Size of the file now, in bytes.
        to: u64,
    },
    /// The system refused.
    #[error("cannot {action} the disk image {path}: {source}")]
    Host {
        /// What the monitor tried to do.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl From<DiskError> for Failure {
    fn from(error: DiskError) -> Self {
        let (code, fix) = match &error {
            DiskError::Missing { .. } => (FailureCode::FileMissing, None),
            DiskError::Locked { .. } => (FailureCode::FileLocked, Some("stop the machine that uses it first")),
            DiskError::Unsuitable { .. } | DiskError::Shrunk { .. } => (FailureCode::ConfigInvalid, None),
            DiskError::Host { .. } => (FailureCode::Internal, None),
        };
        Self { code, message: error.to_string(), fix: fix.map(str::to_owned) }
    }
}

/// Counters of a block device.
#[derive(Debug, Default)]
pub(super) struct BlockCounters {
    pub(super) kicks: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) read_bytes: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) written_bytes: AtomicU64,
    pub(super) flushes: AtomicU64,
    pub(super) discards: AtomicU64,
    pub(super) write_zeroes: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) host_full: AtomicU64,
    pub(super) invalid_requests: AtomicU64,
}

/// An open disk image.
#[derive(Debug)]
pub struct Disk {
    file: File,
    path: PathBuf,
    read_only: bool,
    in_memory: bool,
    sectors: AtomicU64,
    /// When a full host was last logged.
    full_logged: Mutex<Option<Instant>>,
    pub(super) counters: BlockCounters,
}

impl Disk {
    /// Releases the lock of the image, so that another process can open it. Only for a guest that has ended.
    pub fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }

    /// Opens the image. A writable image is locked (`flock`, bound to this open file description) until it is dropped.
    ///
    /// # Errors
    /// See [`DiskError`].
    pub fn open(path: &Path, read_only: bool) -> Result<Self, DiskError> {
        let host = |action| move |source| DiskError::Host { action, path: path.to_owned(), source };
        let file =
            OpenOptions::new().read(true).write(!read_only).open(path).map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => DiskError::Missing { path: path.to_owned() },
                _ => host("open")(source),
            })?;
        let metadata = file.metadata().map_err(host("inspect"))?;
        if !metadata.is_file() {
            return Err(DiskError::Unsuitable { path: path.to_owned(), reason: "it is not a regular file" });
        }
        if !read_only {
            file.try_lock().map_err(|failure| match failure {
                TryLockError::WouldBlock => DiskError::Locked { path: path.to_owned() },
                TryLockError::Error(source) => host("lock")(source),
            })?;
        }
        let sectors = metadata.len() / SECTOR_BYTES;
        if sectors == 0 {
            return Err(DiskError::Unsuitable {
                path: path.to_owned(),
                reason: "it is smaller than one sector of 512 bytes",
            });
        }
        Ok(Self {
            // A system that cannot say so has a disk somewhere.
            in_memory: fstatfs(&file).is_ok_and(|file_system| file_system.filesystem_type() == TMPFS_MAGIC),
            file,
            path: path.to_owned(),
            read_only,
            sectors: AtomicU64::new(sectors),
            full_logged: Mutex::new(None),
            counters: BlockCounters::default(),
        })
    }

    /// Whether the guest may only read.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Whether the file's contents are always in memory, so that no read waits for a disk.
    pub(super) fn is_in_memory(&self) -> bool {
        self.in_memory
    }

    /// The size the guest knows, in sectors of 512 bytes.
    pub fn sectors(&self) -> u64 {
        self.sectors.load(Ordering::Acquire)
    }

    /// Reads the size of the file again, after it was grown on the host, and returns it in bytes.
    ///
    /// # Errors
    /// [`DiskError::Shrunk`] if the file is smaller than before.
    pub fn reread_size(&self) -> Result<u64, DiskError> {
        let metadata = self.file.metadata().map_err(|source| DiskError::Host {
            action: "inspect",
            path: self.path.clone(),
            source,
        })?;
        let sectors = metadata.len() / SECTOR_BYTES;
        let before = self.sectors();
        if sectors < before {
            return Err(DiskError::Shrunk { path: self.path.clone(), from: before * SECTOR_BYTES, to: metadata.len() });
        }
        self.sectors.store(sectors, Ordering::Release);
        Ok(sectors * SECTOR_BYTES)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Makes everything written so far durable.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Gives `length` bytes at `offset` back to the host. They read as zeroes.
    pub(super) fn punch_hole(&self, offset: i64, length: i64) -> io::Result<()> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        Ok(fallocate(&self.file, flags, offset, length)?)
    }

    /// Makes `length` bytes at `offset` read as zeroes and keeps their blocks.
    pub(super) fn write_zeroes(&self, offset: i64, length: i64) -> io::Result<()> {
        let flags = FallocateFlags::FALLOC_FL_ZERO_RANGE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        match fallocate(&self.file, flags, offset, length) {
            // Some file systems do not support it, tmpfs among them.
            Err(nix::errno::Errno::EOPNOTSUPP) => self.write_zero_blocks(offset, length),
            answer => Ok(answer?),
        }
    }

    fn write_zero_blocks(&self, offset: i64, length: i64) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        static ZEROES: [u8; 1 << 16] = [0; 1 << 16];
        let (mut at, end) = (offset.cast_unsigned(), offset.cast_unsigned() + length.cast_unsigned());
        while at < end {
            let piece = usize::try_from(end - at).unwrap_or(usize::MAX).min(ZEROES.len());
            self.file.write_all_at(&ZEROES[..piece], at)?;
            at += piece as u64;
        }
        Ok(())
    }

    /// Counts and logs a request that failed on the host. A full host fails many requests and is logged once a minute.
    pub(super) fn failed(&self, action: &str, failure: &io::Error) {
        self.counters.errors.fetch_add(1, Ordering::Relaxed);
        if !matches!(failure.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) {
            error!(disk = %self.path.display(), action, "the host failed a request of the guest: {failure}");
            return;
        }
        self.counters.host_full.fetch_add(1, Ordering::Relaxed);
        let mut logged = self.full_logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|logged| logged.elapsed() >= FULL_LOGGED_EVERY) {
            *logged = Some(Instant::now());
            error!(
                disk = %self.path.display(), action,
                "the host has no room for the disk image; the guest gets I/O errors until there is some: {failure}"
            );
        }
    }
}

impl Counters for Disk {
    fn snapshot(&self) -> Vec<(&'static str, u64)> {
        let counters = &self.counters;
        [
            ("kicks", &counters.kicks),
            ("reads", &counters.reads),
            ("read_bytes", &counters.read_bytes),
            ("writes", &counters.writes),
            ("written_bytes", &counters.written_bytes),
            ("flushes", &counters.flushes),
            ("discards", &counters.discards),
            ("write_zeroes", &counters.write_zeroes),
            ("errors", &counters.errors),
            ("host_full", &counters.host_full),
            ("invalid_requests", &counters.invalid_requests),
        ]
        .into_iter()
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
        .collect()
    }
}
