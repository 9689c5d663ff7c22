//! Receive buffers on their way from the queue to a frame.

use std::collections::VecDeque;

use virtio_queue::Queue;
use vm_memory::GuestMemoryMmap;

use super::header::HEADER_BYTES;
use crate::devices::DeviceError;
use crate::devices::queue::{Direction, Malformed, Slice, pieces, pop};

/// Receive buffers taken from the queue and not used yet.
#[derive(Default)]
pub(super) struct Buffers<'m> {
    parts: Vec<Slice<'m>>,
    /// Head, bytes, and number of parts of each.
    chains: VecDeque<(u16, usize, usize)>,
    bytes: usize,
    /// Parts of buffers that were used.
    used_parts: usize,
}

impl<'m> Buffers<'m> {
    pub(super) fn len(&self) -> usize {
        self.chains.len()
    }

    /// Takes buffers from `queue`, whose index is `index`, until they have `room` bytes in all. False when the guest has no more.
    pub(super) fn collect(
        &mut self,
        index: usize,
        queue: &mut Queue,
        memory: &'m GuestMemoryMmap,
        room: usize,
    ) -> Result<bool, DeviceError> {
        self.parts.drain(..self.used_parts);
        self.used_parts = 0;
        while self.bytes < room {
            let Some(chain) = pop(index, queue, memory)? else { return Ok(false) };
            let (head, before) = (chain.head_index(), self.parts.len());
            let bytes = pieces(memory, chain, Direction::ToGuest, &mut self.parts).map_err(|error| error.on(index))?;
            if bytes < HEADER_BYTES {
                return Err(Malformed(format!("a receive buffer of {bytes} bytes, less than a header")).on(index));
            }
            self.bytes += bytes;
            self.chains.push_back((head, bytes, self.parts.len() - before));
        }
        Ok(true)
    }

    /// The memory of the first, or of all that are there.
    pub(super) fn parts(&self, all: bool) -> &[Slice<'m>] {
        let end = match self.chains.front() {
            Some((_, _, parts)) if !all => self.used_parts + parts,
            _ => self.parts.len(),
        };
        &self.parts[self.used_parts..end]
    }

    /// How many of the first hold `total` bytes.
    pub(super) fn count_for(&self, total: usize) -> usize {
        let mut room = 0;
        let full = self.chains.iter().take_while(|(_, bytes, _)| {
            room += bytes;
            room < total
        });
        full.count() + 1
    }

    /// Head and bytes of the first, which is used from now on.
    pub(super) fn take(&mut self) -> Option<(u16, usize)> {
        let (head, bytes, parts) = self.chains.pop_front()?;
        self.bytes -= bytes;
        self.used_parts += parts;
        Some((head, bytes))
    }
}
