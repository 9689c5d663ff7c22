//! Bytes of guest memory that need not lie in one piece, as a descriptor chain names them.

use vm_memory::{Bytes, VolatileSlice};

/// A piece of guest memory.
pub type Slice<'m> = VolatileSlice<'m, ()>;

/// A run of bytes within pieces of guest memory; never longer than the pieces. The guest may change the bytes at any
/// time.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a, 'm> {
    slices: &'a [Slice<'m>],
    skip: usize,
    length: usize,
}

impl<'a, 'm> Span<'a, 'm> {
    /// All bytes of `slices`.
    pub fn new(slices: &'a [Slice<'m>]) -> Self {
        Self { slices, skip: 0, length: slices.iter().map(Slice::len).sum() }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the length is zero.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// What follows the first `bytes`; empty if there are fewer.
    #[must_use]
    pub fn after(mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.length);
        self.skip += bytes;
        self.length -= bytes;
        self
    }

    /// The first `bytes`, or all if there are fewer.
    #[must_use]
    pub fn first(mut self, bytes: usize) -> Self {
        self.length = self.length.min(bytes);
        self
    }

    /// The pieces of memory, none of them empty.
    pub fn pieces(self) -> impl Iterator<Item = Slice<'m>> {
        let (mut skip, mut left) = (self.skip, self.length);
        self.slices.iter().filter_map(move |slice| {
            let start = skip.min(slice.len());
            skip -= start;
            let length = left.min(slice.len() - start);
            left -= length;
            if length == 0 { None } else { slice.subslice(start, length).ok() }
        })
    }

    /// Copies the beginning of the span to `bytes`; returns how many bytes it copied.
    pub fn copy_to(self, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        for piece in self.first(bytes.len()).pieces() {
            done += piece.copy_to(&mut bytes[done..]);
        }
        done
    }

    /// Copies `bytes` to the beginning of the span; returns how many bytes it copied.
    pub fn copy_from(self, bytes: &[u8]) -> usize {
        let mut done = 0;
        for piece in self.first(bytes.len()).pieces() {
            let Ok(written) = piece.write(&bytes[done..], 0) else { break };
            done += written;
        }
        done
    }
}
