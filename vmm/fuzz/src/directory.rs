//! Where targets keep their files.

use std::path::{Path, PathBuf};

/// A directory for files and sockets, in memory where possible: a disk that is flushed a thousand times a second would
/// itself be what is tested.
pub(crate) fn in_memory() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}
