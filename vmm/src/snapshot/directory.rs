//! The directory of a snapshot: opening, removing and writing it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rorqual_vmm_protocol::{Failure, FailureCode, SNAPSHOT_DOCUMENT as DOCUMENT};

use super::document::Document;
use super::memory;
use crate::net::record::NetworkRecord;

const DOCUMENT_NEW: &str = "state.json.new";
const MEMORY: &str = "memory";

/// A snapshot that was read and checked.
#[derive(Debug)]
pub struct Opened {
    /// Everything but the memory.
    pub document: Document,
    /// The memory file, for mapping.
    pub memory: File,
    directory: PathBuf,
}

fn invalid(directory: &Path, reason: impl std::fmt::Display) -> Failure {
    Failure::new(
        FailureCode::SnapshotInvalid,
        format!("cannot use the saved state in {}: {reason}", directory.display()),
    )
}

/// Reads the snapshot in `directory` and checks it. The memory is read only if its file was touched since it was
/// written; otherwise it is as sound as the file system.
pub fn open(directory: &Path) -> Result<Opened, Failure> {
    let refused = |reason: String| invalid(directory, reason);
    let path = directory.join(DOCUMENT);
    let bytes = fs::read(&path).map_err(|error| refused(format!("cannot read {DOCUMENT}: {error}")))?;
    let document = Document::parse(&bytes).map_err(refused)?;
    let memory = File::options()
        .read(true)
        .write(true)
        .open(directory.join(MEMORY))
        .map_err(|error| refused(format!("cannot open {MEMORY}: {error}")))?;
    memory::check(&memory, &document.memory).map_err(refused)?;
    Ok(Opened { document, memory, directory: directory.to_owned() })
}

/// The addresses of the network of a saved machine, if they can be read; [`open`] reports why not.
pub fn network(directory: &Path) -> Option<NetworkRecord> {
    Document::parse(&fs::read(directory.join(DOCUMENT)).ok()?).ok()?.shape.network
}

impl Opened {
    /// Removes the files: once the guest runs, its disks change and the saved memory no longer fits them. Mappings
    /// stay.
    pub fn consume(&self) -> Result<(), Failure> {
        remove(&self.directory)
    }

    /// The failure of a snapshot that is whole but does not fit the machine.
    pub fn unfit(&self, reason: impl std::fmt::Display) -> Failure {
        invalid(&self.directory, reason)
    }
}

/// Removes a snapshot, the document first, so that an interrupted removal leaves none.
pub fn remove(directory: &Path) -> Result<(), Failure> {
    for name in [DOCUMENT, DOCUMENT_NEW, MEMORY] {
        let path = directory.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::of_file("remove the saved state", &path, &error));
            }
            _ => {}
        }
    }
    sync_directory(directory)
}

fn sync_directory(directory: &Path) -> Result<(), Failure> {
    let synced = File::open(directory).and_then(|opened| opened.sync_all());
    match synced {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::of_file("sync", directory, &error)),
        _ => Ok(()),
    }
}

/// Creates the file for the memory of a new snapshot, and removes an older snapshot in `directory`.
pub fn create_memory(directory: &Path) -> Result<File, Failure> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(directory);
    made.map_err(|error| Failure::of_file("create the directory", directory, &error))?;
    remove(directory)?;
    let path = directory.join(MEMORY);
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| Failure::of_file("create", &path, &error))
}

/// Writes the document, which completes the snapshot. Everything is on the disk when this returns.
pub fn commit(directory: &Path, document: &Document) -> Result<(), Failure> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let new = directory.join(DOCUMENT_NEW);
    let failed = |error: io::Error| Failure::of_file("write", &new, &error);
    let bytes = document.to_bytes().map_err(|error| Failure::internal("serialize the machine's state", error))?;
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(failed)?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&new, directory.join(DOCUMENT)).map_err(failed)?;
    sync_directory(directory)
}
