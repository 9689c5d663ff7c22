//! The data disk of a machine: a raw, sparse file that never shrinks.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::sys::statvfs::statvfs;
use thiserror::Error;

use crate::error::Coded;

const GIB: u64 = 1 << 30;
/// Minimum free space on the host to start a machine, in bytes. With less, the guest would fill it right away, and its
/// file system would see write errors.
pub(crate) const FREE_NEEDED: u64 = GIB;
/// Free space below which a start warns, in bytes.
pub(crate) const FREE_LOW: u64 = 5 * GIB;
/// Advice for too little space on the host.
pub(crate) const FREE_SPACE: &str =
    "free some space, or move the state directory to a larger disk and set RORQUAL_HOME to it";

/// Why the data disk cannot be used.
#[derive(Debug, Error)]
pub enum DiskError {
    /// The host's file system is nearly full.
    #[error(
        "not enough free space for the machine's disk: {directory} has {free} MiB free, and a start needs {needed} MiB",
        directory = directory.display(), free = free_bytes >> 20, needed = FREE_NEEDED >> 20
    )]
    NoSpace {
        /// Path of the disk.
        directory: PathBuf,
        /// Free space, in bytes.
        free_bytes: u64,
    },
    /// The path is not a regular file.
    #[error("the machine's disk {0} is not a regular file")]
    NotAFile(PathBuf),
    /// The operating system refused an operation.
    #[error("cannot {action} the machine's disk {path}: {source}", path = path.display())]
    Io {
        /// The operation: "create", "read", "grow".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl Coded for DiskError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoSpace { .. } => "disk-space-low",
            Self::NotAFile(_) | Self::Io { .. } => "disk-unusable",
        }
    }

    fn fix(&self) -> Option<String> {
        Some(match self {
            Self::NoSpace { .. } => FREE_SPACE.to_owned(),
            Self::NotAFile(_) => "move it away, or put the disk back".to_owned(),
            Self::Io { path, .. } => format!("check the permissions of {} and the space around it", path.display()),
        })
    }
}

#[cfg(test)]
crate::error::tests::samples!(DiskError {
    NoSpace => Self::NoSpace { directory: "/h".into(), free_bytes: 300 << 20 },
    NotAFile => Self::NotAFile("/h/data.img".into()),
    Io => Self::Io { action: "grow", path: "/h/data.img".into(), source: crate::error::tests::refusal() },
});

/// The result of preparing the disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Prepared {
    pub(crate) change: Change,
    /// A warning for the user if little space is left on the host.
    pub(crate) warning: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Created,
    Grown,
    None,
}

/// Ensures that a data disk of at least `gib` GiB exists, and that the host has space for its use. Never shrinks a
/// disk.
pub(crate) fn prepare(path: &Path, gib: u32) -> Result<Prepared, DiskError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let free =
        free_space(directory).map_err(|source| DiskError::Io { action: "read", path: path.to_owned(), source })?;
    prepare_with(path, gib, free)
}

fn prepare_with(path: &Path, gib: u32, free_bytes: u64) -> Result<Prepared, DiskError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    if free_bytes < FREE_NEEDED {
        return Err(DiskError::NoSpace { directory: directory.to_owned(), free_bytes });
    }
    let io = |action| move |source| DiskError::Io { action, path: path.to_owned(), source };
    let existed = path.exists();
    let file = open(path).map_err(io(if existed { "read" } else { "create" }))?;
    let metadata = file.metadata().map_err(io("read"))?;
    if !metadata.is_file() {
        return Err(DiskError::NotAFile(path.to_owned()));
    }
    let wanted = u64::from(gib) * GIB;
    let change = match (existed, metadata.len() < wanted) {
        (_, false) => Change::None,
        (true, true) => Change::Grown,
        (false, true) => Change::Created,
    };
    if change != Change::None {
        file.set_len(wanted).and_then(|()| file.sync_all()).map_err(io("grow"))?;
    }
    let warning =
        (free_bytes < FREE_LOW).then(|| format!("only {} MiB are free in {}", free_bytes >> 20, directory.display()));
    Ok(Prepared { change, warning })
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Free space for this user on the file system of `path`, in bytes.
pub(crate) fn free_space(path: &Path) -> io::Result<u64> {
    let stat = statvfs(path)?;
    Ok(stat.blocks_available() * stat.fragment_size())
}

/// Size of a disk, and the space it takes on the host, in bytes; zeroes if there is no disk.
pub(crate) fn sizes(path: &Path) -> (u64, u64) {
    std::fs::metadata(path).map_or((0, 0), |metadata| (metadata.len(), metadata.blocks() * 512))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_disk_is_large_and_takes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data.img");
        assert_eq!(prepare_with(&path, 64, 100 * GIB).unwrap(), Prepared { change: Change::Created, warning: None });
        let (size, allocated) = sizes(&path);
        assert_eq!(size, 64 * GIB);
        assert!(allocated < 1 << 20, "{allocated}");
    }

    #[test]
    fn a_disk_grows_and_never_shrinks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data.img");
        std::fs::write(&path, b"data").unwrap();
        assert_eq!(prepare_with(&path, 2, 100 * GIB).unwrap().change, Change::Grown);
        assert_eq!(prepare_with(&path, 1, 100 * GIB).unwrap().change, Change::None);
        assert_eq!(sizes(&path).0, 2 * GIB);
        let mut start = [0; 4];
        io::Read::read_exact(&mut File::open(&path).unwrap(), &mut start).unwrap();
        assert_eq!(&start, b"data");
    }

    #[test]
    fn a_full_host_refuses_the_start_and_says_how_much_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data.img");
        let error = prepare_with(&path, 64, 300 << 20).unwrap_err().to_string();
        assert!(error.contains("300 MiB free") && error.contains("1024 MiB"), "{error}");
        assert!(!path.exists());
        assert!(prepare_with(&path, 64, 2 * GIB).unwrap().warning.unwrap().contains("2048 MiB"));
    }

    #[test]
    fn a_disk_that_is_a_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        assert!(prepare_with(directory.path(), 1, 100 * GIB).unwrap_err().to_string().contains("disk"));
    }
}
