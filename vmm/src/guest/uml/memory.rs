//! The directory for the physical memory of User Mode Linux: an unlinked, sparse file, mapped shared and executable.

use std::env;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::statvfs::statvfs;
use tracing::warn;

use rorqual_vmm_protocol::{Failure, FailureCode};

const MIB: u64 = 1 << 20;
/// Bytes of the trial mapping: one page.
const TRIAL_BYTES: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// The best directory for `memory_mib` of guest memory: in memory if it has room, else on disk beside the machine.
pub(super) fn directory(memory_mib: u64, machine: &Path) -> Result<PathBuf, Failure> {
    let total = memory_of_host().map_err(|error| Failure::internal("read /proc/meminfo", error))?;
    if total < memory_mib * MIB {
        let message =
            format!("the machine needs {memory_mib} MiB of memory, but this computer has {} MiB", total / MIB);
        return Err(Failure::new(FailureCode::NoMemory, message).with_fix("give the machine less memory"));
    }
    let mut refusals = Vec::new();
    for candidate in candidates(machine) {
        match suits(&candidate, memory_mib * MIB) {
            Ok(()) => {
                if !refusals.is_empty() {
                    let refusals = refusals.join("; ");
                    warn!(directory = %candidate.display(), "the guest's memory is not in the best place: {refusals}");
                }
                return Ok(candidate);
            }
            Err(reason) => refusals.push(format!("{}: {reason}", candidate.display())),
        }
    }
    let message = format!("no directory has room for {memory_mib} MiB of guest memory ({})", refusals.join("; "));
    Err(Failure::new(FailureCode::NoMemory, message)
        .with_fix("free some space in one of these directories, or give the machine less memory"))
}

fn candidates(machine: &Path) -> Vec<PathBuf> {
    let mut all = vec![PathBuf::from("/dev/shm")];
    all.extend(env::var_os("TMPDIR").map(PathBuf::from).filter(|path| path.is_absolute()));
    all.push(PathBuf::from("/tmp"));
    all.push(machine.to_owned());
    all
}

/// Whether `directory` has room for a file of `bytes` that can be mapped executable.
fn suits(directory: &Path, bytes: u64) -> Result<(), String> {
    let room = statvfs(directory).map_err(|error| error.desc().to_owned())?;
    let free = room.blocks_available() * room.fragment_size();
    if free < bytes {
        return Err(format!("{} MiB are free", free / MIB));
    }
    maps_executable(directory).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "files there may not be executed or written".to_owned(),
        _ => error.to_string(),
    })
}

/// Tries what the kernel will do: create a file and map it shared, writable and executable.
pub(super) fn maps_executable(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = directory.join(format!(".rorqual-try-{}", std::process::id()));
    let file = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o700).open(&path)?;
    fs::remove_file(&path)?;
    file.set_len(TRIAL_BYTES.get() as u64)?;
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE | ProtFlags::PROT_EXEC;
    // SAFETY: a new mapping at an address the kernel chooses touches no other memory; nothing is read, written or run
    // through it, and it is unmapped here, with the length it was made with.
    unsafe {
        let at = mmap(None, TRIAL_BYTES, protection, MapFlags::MAP_SHARED, &file, 0)?;
        munmap(at, TRIAL_BYTES.get())?;
    }
    Ok(())
}

/// Memory and swap of this computer, in bytes.
fn memory_of_host() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let total = kib("MemTotal:").ok_or_else(|| io::Error::other("it has no MemTotal"))?;
    Ok((total + kib("SwapTotal:").unwrap_or(0)) * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_memory_than_the_computer_has_is_no_memory() {
        let failure = directory(1 << 20, Path::new("/tmp")).unwrap_err();
        assert_eq!(failure.code, FailureCode::NoMemory);
    }

    #[test]
    fn a_place_without_room_reports_how_much_is_free() {
        let directory = tempfile::tempdir().unwrap();
        assert!(suits(directory.path(), u64::MAX).unwrap_err().contains("MiB are free"));
        assert!(suits(directory.path(), 4096).is_ok());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
