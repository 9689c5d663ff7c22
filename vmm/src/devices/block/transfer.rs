//! A transfer of sectors between the disk and guest memory, in as many steps as the host needs.

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;

use super::disk::Disk;

/// Most vectors the host takes at once (`IOV_MAX` of Linux).
const MAX_VECTORS: usize = 1024;

/// The direction of a transfer, as the guest sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Direction {
    Read,
    Write,
}

impl Direction {
    /// The name in log lines.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// A transfer and its progress.
pub(super) struct Transfer {
    pub(super) direction: Direction,
    /// Length of the whole transfer, in bytes.
    pub(super) length: u64,
    /// Offset in the file of the next step.
    offset: u64,
    vectors: Vec<libc::iovec>,
    /// Number of vectors that are done.
    done: usize,
}

// SAFETY: the vectors point into guest memory, which any thread may touch; whoever holds the transfer keeps the memory
// mapped.
unsafe impl Send for Transfer {}

impl Transfer {
    /// A transfer at `offset` of the file, of `length` bytes, which must be the total length of `vectors`. Every vector
    /// must lie in guest memory that stays mapped as long as the transfer exists.
    pub(super) fn new(direction: Direction, vectors: Vec<libc::iovec>, offset: u64, length: u64) -> Self {
        let mut transfer = Self { direction, length, offset, vectors, done: 0 };
        transfer.skip(0);
        transfer
    }

    /// Offset in the file and vectors of the next step, at most as many as the host takes. None if the transfer is
    /// done.
    pub(super) fn next(&self) -> Option<(u64, &[libc::iovec])> {
        let rest = &self.vectors[self.done..];
        (!rest.is_empty()).then(|| (self.offset, &rest[..rest.len().min(MAX_VECTORS)]))
    }

    /// Records that a step has moved `bytes`. Zero bytes are an error: the file has ended.
    pub(super) fn moved(&mut self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the disk image is shorter than it was"));
        }
        self.offset += bytes as u64;
        self.skip(bytes);
        Ok(())
    }

    fn skip(&mut self, mut bytes: usize) {
        while let Some(first) = self.vectors.get_mut(self.done) {
            if bytes < first.iov_len {
                first.iov_base = first.iov_base.wrapping_byte_add(bytes);
                first.iov_len -= bytes;
                return;
            }
            bytes -= first.iov_len;
            self.done += 1;
        }
    }

    /// Does the whole transfer, on this thread.
    pub(super) fn perform(&mut self, disk: &Disk) -> io::Result<()> {
        while let Some((offset, vectors)) = self.next() {
            let (file, at) = (disk.as_fd().as_raw_fd(), vectors.as_ptr());
            // `next` returns at most MAX_VECTORS.
            let count = libc::c_int::try_from(vectors.len()).unwrap_or(libc::c_int::MAX);
            // SAFETY: every vector lies in a mapping of guest memory that the caller keeps alive (see `new`); the guest
            // may change that memory at any time and the kernel copes with that.
            let moved = unsafe {
                match self.direction {
                    Direction::Read => libc::preadv(file, at, count, offset.cast_signed()),
                    Direction::Write => libc::pwritev(file, at, count, offset.cast_signed()),
                }
            };
            match Errno::result(moved) {
                Ok(bytes) => self.moved(bytes.cast_unsigned())?,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}
