//! Packets and receive buffers in descriptor chains, whatever the layout of those.

use vm_memory::{Bytes, GuestMemoryMmap};

use super::super::queue::{Chain, Direction, Malformed, Slice, pieces};
use super::packet::{HEADER_BYTES, Header, MAX_PAYLOAD_BYTES};

/// Cuts `pieces[first..]` to the `length` bytes after the first `skip`. There must be as many.
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

/// Reads the packet in a chain of the tx queue: its header, and its payload as pieces left in `payload`.
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
    let mut filled = 0;
    for piece in payload.iter() {
        let part = piece.len().min(HEADER_BYTES - filled);
        piece
            .read_slice(&mut bytes[filled..filled + part], 0)
            .map_err(|error| Malformed(format!("packet header: {error}")))?;
        filled += part;
        if filled == HEADER_BYTES {
            break;
        }
    }
    let header = Header::decode(&bytes);
    let length = header.len as usize;
    if length > MAX_PAYLOAD_BYTES || length > total - HEADER_BYTES {
        return Err(Malformed(format!("a header that claims {length} bytes in a packet of {total}")));
    }
    window(payload, 0, HEADER_BYTES, length)?;
    Ok(header)
}

/// Buffers taken from the rx queue and not returned yet.
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
    /// Bytes of payload it takes.
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

    /// Adds a buffer of the rx queue.
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

    /// The payload parts of all buffers, in order.
    pub(super) fn payload(&self) -> &[Slice<'m>] {
        &self.payload
    }

    /// Bytes of payload the buffer at `index` takes.
    pub(super) fn room(&self, index: usize) -> usize {
        self.chains[index].room
    }

    /// Writes `header` into the buffer at `index`, whose payload (`header.len` bytes) is there already.
    pub(super) fn complete(&mut self, index: usize, header: &Header) -> Result<(), Malformed> {
        let bytes = header.encode();
        let start = if index == 0 { 0 } else { self.chains[index - 1].headers_end };
        let mut written = 0;
        for piece in &self.headers[start..self.chains[index].headers_end] {
            piece
                .write_slice(&bytes[written..written + piece.len()], 0)
                .map_err(|error| Malformed(format!("packet header: {error}")))?;
            written += piece.len();
        }
        self.chains[index].used = HEADER_BYTES + header.len as usize;
        Ok(())
    }

    /// Head index and bytes written of the first `count` buffers.
    pub(super) fn used(&self, count: usize) -> impl Iterator<Item = (u16, u32)> + '_ {
        self.chains[..count].iter().map(|buffer| (buffer.head, buffer.used as u32))
    }
}
