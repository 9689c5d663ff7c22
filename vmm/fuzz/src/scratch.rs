//! Where targets put their files.

use std::path::{Path, PathBuf};

/// A directory for files and sockets, in memory where possible: flushing a disk a thousand times a second would test
/// the disk.
pub(crate) fn in_memory() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}
