//! Packets in chains of the transmit queue, and the buffers of the receive queue. How the driver divides a chain into
//! descriptors does not matter.

use vm_memory::GuestMemoryMmap;

use super::packet::{HEADER_BYTES, Header, MAX_PAYLOAD_BYTES};
use crate::devices::chain::{Chain, Direction, Malformed, pieces};
use crate::devices::span::{Slice, Span};

/// Narrows `pieces[first..]` to the `length` bytes after the first `skip`. Fails if there are fewer.
fn window(pieces: &mut Vec<Slice<'_>>, first: usize, skip: usize, length: usize) -> Result<(), Malformed> {
    let (mut skip, mut left, mut kept) = (skip, length, first);
    for index in first..pieces.len() {
        let piece = &pieces[index];
        let skipped = skip.min(piece.len());
        skip -= skipped;
        let taken = left.min(piece.len() - skipped);
        if taken == 0 {
            continue;
        }
        left -= taken;
        let part = piece.subslice(skipped, taken).map_err(|error| Malformed(error.to_string()))?;
        pieces[kept] = part;
        kept += 1;
    }
    pieces.truncate(kept);
    if left == 0 { Ok(()) } else { Err(Malformed(format!("a chain that is {left} bytes short"))) }
}

/// Reads the packet in a chain of the transmit queue. Returns its header and leaves its payload in `payload`.
pub(super) fn read_packet<'m>(
    memory: &'m GuestMemoryMmap,
    chain: Chain<'m>,
    payload: &mut Vec<Slice<'m>>,
) -> Result<Header, Malformed> {
    payload.clear();
    let total = pieces(memory, chain, Direction::FromGuest, payload)?;
    if total < HEADER_BYTES {
        return Err(Malformed(format!("a packet of {total} bytes, less than a header")));
    }
    let mut bytes = [0; HEADER_BYTES];
    Span::new(payload).copy_to(&mut bytes);
    let header = Header::decode(&bytes);
    let length = header.len as usize;
    if length > MAX_PAYLOAD_BYTES || length > total - HEADER_BYTES {
        return Err(Malformed(format!("a header that claims {length} bytes in a packet of {total}")));
    }
    window(payload, 0, HEADER_BYTES, length)?;
    Ok(header)
}

/// Buffers taken from the receive queue and not returned yet.
#[derive(Default)]
pub(super) struct Buffers<'m> {
    headers: Vec<Slice<'m>>,
    payload: Vec<Slice<'m>>,
    chains: Vec<Buffer>,
}

struct Buffer {
    head: u16,
    /// End of this buffer's pieces in `headers`.
    headers_end: usize,
    /// Bytes of payload it holds.
    room: usize,
    /// Bytes written, header included.
    used: usize,
}

impl<'m> Buffers<'m> {
    pub(super) fn clear(&mut self) {
        self.headers.clear();
        self.payload.clear();
        self.chains.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.chains.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// Adds a buffer of the receive queue.
    pub(super) fn push(&mut self, memory: &'m GuestMemoryMmap, chain: Chain<'m>) -> Result<(), Malformed> {
        let head = chain.head_index();
        let first = self.payload.len();
        let total = pieces(memory, chain, Direction::ToGuest, &mut self.payload)?;
        if total < HEADER_BYTES {
            return Err(Malformed(format!("a receive buffer of {total} bytes, less than a header")));
        }
        let first_header = self.headers.len();
        self.headers.extend(self.payload[first..].iter().copied());
        window(&mut self.headers, first_header, 0, HEADER_BYTES)?;
        let room = (total - HEADER_BYTES).min(MAX_PAYLOAD_BYTES);
        window(&mut self.payload, first, HEADER_BYTES, room)?;
        self.chains.push(Buffer { head, headers_end: self.headers.len(), room, used: 0 });
        Ok(())
    }

    /// The memory for payload in all buffers, in order.
    pub(super) fn payload(&self) -> &[Slice<'m>] {
        &self.payload
    }

    /// Bytes of payload the buffer at `index` holds.
    pub(super) fn room(&self, index: usize) -> usize {
        self.chains[index].room
    }

    /// Writes `header` to the buffer at `index`, which already holds the payload of `header.len` bytes.
    pub(super) fn complete(&mut self, index: usize, header: &Header) {
        let start = if index == 0 { 0 } else { self.chains[index - 1].headers_end };
        let buffer = &mut self.chains[index];
        Span::new(&self.headers[start..buffer.headers_end]).copy_from(&header.encode());
        buffer.used = HEADER_BYTES + header.len as usize;
    }

    /// Head and bytes written of each of the first `count` buffers.
    pub(super) fn used(&self, count: usize) -> impl Iterator<Item = (u16, u32)> + '_ {
        self.chains[..count].iter().map(|buffer| (buffer.head, buffer.used as u32))
    }
}
