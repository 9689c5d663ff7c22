//! Giving pages of guest memory back to the host.

use std::io;
use std::sync::LazyLock;

use nix::errno::Errno;
use nix::unistd::{SysconfVar, sysconf};
use tracing::{debug, warn};

use crate::devices::queue::Slice;

static HOST_PAGE_BYTES: LazyLock<usize> = LazyLock::new(|| {
    sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(4096)
});

/// How pages are dropped, which depends on what guest memory is a mapping of.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Way {
    /// Shared memory (a memfd): a hole is punched into the file, and the pages read as zeroes afterwards.
    #[default]
    Remove,
    /// A private mapping: its own copy of the pages is dropped. After the restore of a snapshot, pages then read again what the snapshot's file
    /// has: an older content of the same guest's memory, which no driver relies on that was not offered page poisoning. The
    /// file itself is not touched: the system refuses to punch holes through a private mapping.
    Forget,
}

/// Drops pages, by the way that turned out to work.
#[derive(Debug, Default)]
pub(super) struct Release {
    way: Way,
    /// The log says once that the host refuses.
    refused: bool,
}

impl Release {
    /// Drops what the slice covers of the host's pages. Pages the host does not take stay as they are: the guest loses nothing by it.
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

/// The pages that lie whole within `length` bytes from `start`: where they begin, and their bytes.
fn whole_pages(start: usize, length: usize, page: usize) -> Option<(usize, usize)> {
    let from = start.checked_next_multiple_of(page)?;
    let end = start.checked_add(length)? / page * page;
    (from < end).then(|| (from, end - from))
}

fn advise(at: *mut u8, length: usize, advice: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the range lies within guest memory, which is mapped for as long as the caller's slice lives. Its content changes, as it may at any
    // time by the guest; nothing in this process holds a reference into it.
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
