//! Receive buffers between the queue and a frame.

use std::collections::VecDeque;

use super::backend::Offload;
use super::header::{HEADER_BYTES, encode, headers_length};
use crate::devices::DeviceError;
use crate::devices::chain::{Direction, Malformed, pieces};
use crate::devices::queue::ServedQueue;
use crate::devices::span::{Slice, Span};

/// Receive buffers taken from the queue and not used yet.
#[derive(Default)]
pub(super) struct Buffers<'m> {
    parts: Vec<Slice<'m>>,
    /// Head, length in bytes, and number of parts of each buffer.
    chains: VecDeque<(u16, usize, usize)>,
    /// Length of all buffers, in bytes.
    bytes: usize,
    /// Parts at the beginning that belong to used buffers.
    used_parts: usize,
}

impl<'m> Buffers<'m> {
    pub(super) fn len(&self) -> usize {
        self.chains.len()
    }

    /// Takes buffers from `queue` until they have `room` bytes in all. False if the driver has no more.
    pub(super) fn collect(&mut self, queue: &mut ServedQueue<'_, 'm>, room: usize) -> Result<bool, DeviceError> {
        self.parts.drain(..self.used_parts);
        self.used_parts = 0;
        while self.bytes < room {
            let Some(chain) = queue.pop()? else { return Ok(false) };
            let (head, before) = (chain.head_index(), self.parts.len());
            let bytes = pieces(queue.memory(), chain, Direction::ToGuest, &mut self.parts)
                .map_err(|error| error.on(queue.index()))?;
            if bytes < HEADER_BYTES {
                return Err(
                    Malformed(format!("a receive buffer of {bytes} bytes, less than a header")).on(queue.index())
                );
            }
            self.bytes += bytes;
            self.chains.push_back((head, bytes, self.parts.len() - before));
        }
        Ok(true)
    }

    /// The memory of the first buffer, or of `all`.
    pub(super) fn parts(&self, all: bool) -> &[Slice<'m>] {
        let end = match self.chains.front() {
            Some((_, _, parts)) if !all => self.used_parts + parts,
            _ => self.parts.len(),
        };
        &self.parts[self.used_parts..end]
    }

    /// How many buffers, from the first on, hold `total` bytes.
    fn count_for(&self, total: usize) -> usize {
        let mut room = 0;
        let full = self.chains.iter().take_while(|(_, bytes, _)| {
            room += bytes;
            room < total
        });
        full.count() + 1
    }

    /// Returns to the driver a frame of `length` bytes, which the buffers contain behind the space for its header.
    /// Returns how many buffers it took.
    pub(super) fn complete(
        &mut self,
        queue: &mut ServedQueue<'_, '_>,
        length: usize,
        offload: &Offload,
    ) -> Result<usize, DeviceError> {
        let mut left = HEADER_BYTES + length;
        let count = self.count_for(left);
        let span = Span::new(self.parts(true));
        let headers = headers_length(span.after(HEADER_BYTES), offload);
        span.copy_from(&encode(offload, headers, count as u16));
        for _ in 0..count {
            let Some((head, room)) = self.take() else { break };
            let used = left.min(room);
            left -= used;
            queue.add_used(head, used as u32)?;
        }
        Ok(count)
    }

    /// Returns the first buffer to the driver with nothing in it.
    pub(super) fn discard(&mut self, queue: &mut ServedQueue<'_, '_>) -> Result<(), DeviceError> {
        match self.take() {
            Some((head, _)) => queue.add_used(head, 0),
            None => Ok(()),
        }
    }

    /// Uses the first buffer: its head and length in bytes.
    fn take(&mut self) -> Option<(u16, usize)> {
        let (head, bytes, parts) = self.chains.pop_front()?;
        self.bytes -= bytes;
        self.used_parts += parts;
        Some((head, bytes))
    }
}
