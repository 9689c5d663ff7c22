//! Sectors on their way between the disk and guest memory, in as many steps as the host takes.

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;

use super::disk::Disk;

/// Most buffers the host takes at once (`IOV_MAX` of Linux).
const MAX_VECTORS: usize = 1024;

/// Which way sectors go, as the guest sees it.
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

/// A transfer, and how far it has come.
pub(super) struct Transfer {
    pub(super) direction: Direction,
    /// Bytes in all.
    pub(super) length: u64,
    /// Where in the file it goes on.
    offset: u64,
    vectors: Vec<libc::iovec>,
    /// How many of the vectors are done.
    done: usize,
}

// SAFETY: the vectors point into guest memory, which any thread may touch; whoever holds the transfer keeps the memory mapped.
unsafe impl Send for Transfer {}

impl Transfer {
    /// A transfer of `length` bytes, which is what `vectors` hold together, at `offset` of the file. Every vector must lie in guest memory
    /// that is kept mapped for as long as the transfer is.
    pub(super) fn new(direction: Direction, vectors: Vec<libc::iovec>, offset: u64, length: u64) -> Self {
        let mut transfer = Self { direction, length, offset, vectors, done: 0 };
        transfer.skip(0);
        transfer
    }

    /// Where in the file, and the vectors, of the next step; at most as many as the host takes. None when all is done.
    pub(super) fn next(&self) -> Option<(u64, &[libc::iovec])> {
        let rest = &self.vectors[self.done..];
        (!rest.is_empty()).then(|| (self.offset, &rest[..rest.len().min(MAX_VECTORS)]))
    }

    /// A step has moved so many bytes. None is an error: the file has no more.
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

    /// Moves everything, on this thread.
    pub(super) fn perform(&mut self, disk: &Disk) -> io::Result<()> {
        while let Some((offset, vectors)) = self.next() {
            let (file, at) = (disk.as_fd().as_raw_fd(), vectors.as_ptr());
            // `next` gives at most MAX_VECTORS.
            let count = libc::c_int::try_from(vectors.len()).unwrap_or(libc::c_int::MAX);
            // SAFETY: every vector lies in a mapping of guest memory that the caller keeps alive (see `new`); the guest may
            // change that memory at any time and the kernel copes with that.
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
