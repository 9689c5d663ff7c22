//! The saved state of a machine: the directory a suspension leaves and the next start resumes from.

use std::{fs, io};

use rorqual_vmm_protocol::SNAPSHOT_DOCUMENT;

use crate::home::MachinePaths;

/// Whether there is a complete saved state. The monitor writes its document last.
pub(super) fn exists(paths: &MachinePaths) -> bool {
    paths.snapshot().join(SNAPSHOT_DOCUMENT).exists()
}

/// Deletes the saved state; none is no error.
pub(super) fn delete(paths: &MachinePaths) -> io::Result<()> {
    match fs::remove_dir_all(paths.snapshot()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
