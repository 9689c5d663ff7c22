//! Gives pages of guest memory back to the host.

use std::io;
use std::sync::LazyLock;

use nix::errno::Errno;
use nix::unistd::{SysconfVar, sysconf};
use tracing::{debug, warn};

use crate::devices::span::Slice;

static HOST_PAGE_BYTES: LazyLock<usize> = LazyLock::new(|| {
    sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(4096)
});

/// How pages are dropped. It depends on what guest memory maps.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Way {
    /// Shared memory (a memfd): punches a hole into the file. The pages read as zeroes afterwards.
    #[default]
    Remove,
    /// A private mapping: drops its own copy of the pages. After the restore of a snapshot they read as the snapshot's
    /// file again, an older content of the same guest's memory; no driver relies on the content, because page poisoning
    /// is not offered. The file stays as it is: the system refuses to punch holes through a private mapping.
    Forget,
}

/// Drops pages in the way that turned out to work.
#[derive(Debug, Default)]
pub(super) struct Release {
    way: Way,
    /// The host has refused before. Only the first refusal is logged.
    refused: bool,
}

impl Release {
    /// Drops the host's pages that lie within the slice. If the host refuses, they stay as they are, and the guest
    /// loses nothing.
    pub(super) fn slice(&mut self, slice: &Slice<'_>) {
        let guard = slice.ptr_guard_mut();
        let start = guard.as_ptr() as usize;
        let Some((from, length)) = whole_pages(start, slice.len(), *HOST_PAGE_BYTES) else { return };
        let at = guard.as_ptr().wrapping_add(from - start);
        let answer = match self.way {
            Way::Remove => match advise(at, length, libc::MADV_REMOVE) {
                // Not shared (EACCES), or no file at all (EINVAL).
                Err(Errno::EACCES | Errno::EINVAL) => {
                    debug!("guest memory is a private mapping: free pages are dropped from it");
                    self.way = Way::Forget;
                    advise(at, length, libc::MADV_DONTNEED)
                }
                answer => answer,
            },
            Way::Forget => advise(at, length, libc::MADV_DONTNEED),
        };
        if let Err(errno) = answer
            && !std::mem::replace(&mut self.refused, true)
        {
            warn!("the host does not take free pages of the guest back: {}", io::Error::from(errno));
        }
    }
}

/// The whole pages within `length` bytes from `start`: the address of the first, and their length in bytes.
fn whole_pages(start: usize, length: usize, page: usize) -> Option<(usize, usize)> {
    let from = start.checked_next_multiple_of(page)?;
    let end = start.checked_add(length)? / page * page;
    (from < end).then(|| (from, end - from))
}

fn advise(at: *mut u8, length: usize, advice: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the range lies within guest memory, which is mapped for as long as the caller's slice lives. Its content
    // changes, as the guest may change it at any time; nothing in this process holds a reference into it.
    Errno::result(unsafe { libc::madvise(at.cast(), length, advice) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_within_the_range_are_dropped() {
        assert_eq!(whole_pages(0x1000, 0x2000, 0x1000), Some((0x1000, 0x2000)));
        assert_eq!(whole_pages(0x1001, 0x2000, 0x1000), Some((0x2000, 0x1000)));
        assert_eq!(whole_pages(0x1000, 0xfff, 0x1000), None);
        assert_eq!(whole_pages(0x1000, 0x4000, 0x1_0000), None);
        assert_eq!(whole_pages(usize::MAX - 10, 0x2000, 0x1000), None);
    }
}
