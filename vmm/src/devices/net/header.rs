//! The header before every frame in a queue (virtio 1.3 §5.1.6, `struct virtio_net_hdr`, 12 bytes).

use super::backend::{Checksum, Offload, Segmentation};
use crate::devices::span::Span;

/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 12;
const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP: u8 = 5;
/// The segment has ECN set, which does not change how the frame is cut.
const GSO_ECN: u8 = 0x80;

/// Reads the header of a frame of `length` bytes. None if it asks for what was not offered or is impossible.
pub(super) fn decode(header: &[u8; HEADER_BYTES], length: usize) -> Option<Offload> {
    let word = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let checksum = if header[0] & NEEDS_CHECKSUM == 0 {
        None
    } else {
        let checksum = Checksum { start: word(6), offset: word(8) };
        let end = usize::from(checksum.start) + usize::from(checksum.offset) + 2;
        if end > length {
            return None;
        }
        Some(checksum)
    };
    let segmentation = match header[1] & !GSO_ECN {
        GSO_NONE => Segmentation::None,
        GSO_TCP4 => Segmentation::Tcp4,
        GSO_TCP6 => Segmentation::Tcp6,
        GSO_UDP => Segmentation::Udp,
        // 3, UDP cut into IP fragments, is not offered.
        _ => return None,
    };
    let segment_bytes = word(4);
    if segmentation != Segmentation::None && segment_bytes == 0 {
        return None;
    }
    Some(Offload { checksum, segmentation, segment_bytes })
}

/// The header of a frame for the guest that fills `buffers` buffers and has `headers` bytes of headers.
pub(super) fn encode(offload: &Offload, headers: u16, buffers: u16) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[1] = match offload.segmentation {
        Segmentation::None => GSO_NONE,
        Segmentation::Tcp4 => GSO_TCP4,
        Segmentation::Tcp6 => GSO_TCP6,
        Segmentation::Udp => GSO_UDP,
    };
    if offload.segmentation != Segmentation::None {
        header[2..4].copy_from_slice(&headers.to_le_bytes());
        header[4..6].copy_from_slice(&offload.segment_bytes.to_le_bytes());
    }
    if let Some(checksum) = offload.checksum {
        header[0] = NEEDS_CHECKSUM;
        header[6..8].copy_from_slice(&checksum.start.to_le_bytes());
        header[8..10].copy_from_slice(&checksum.offset.to_le_bytes());
    }
    header[10..].copy_from_slice(&buffers.to_le_bytes());
    header
}

/// Bytes of all headers of a frame with several segments (virtio 1.3 §5.1.6, `hdr_len`); 0 for any other frame.
pub(super) fn headers_length(frame: Span<'_, '_>, offload: &Offload) -> u16 {
    let Some(checksum) = offload.checksum else { return 0 };
    let start = usize::from(checksum.start);
    let transport = match offload.segmentation {
        Segmentation::None => return 0,
        Segmentation::Udp => 8,
        Segmentation::Tcp4 | Segmentation::Tcp6 => {
            let mut offset = [0];
            frame.after(start + 12).copy_to(&mut offset);
            usize::from(offset[0] >> 4) * 4
        }
    };
    (start + transport) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let offload = Offload {
            checksum: Some(Checksum { start: 34, offset: 16 }),
            segmentation: Segmentation::Tcp4,
            segment_bytes: 1460,
        };
        let header = encode(&offload, 54, 3);
        assert_eq!(decode(&header, 4000), Some(offload));
        assert_eq!((header[2], header[10]), (54, 3));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let checksum = Offload { checksum: Some(Checksum { start: 34, offset: 16 }), ..Offload::default() };
        assert_eq!(decode(&encode(&checksum, 0, 1), 51), None, "the checksum lies behind the frame");
        for kind in [3, 2, 6, 0x7f] {
            let mut header = [0; HEADER_BYTES];
            (header[1], header[4]) = (kind, 100);
            assert_eq!(decode(&header, 100), None, "{kind}");
        }
        let mut header = [0; HEADER_BYTES];
        header[1] = GSO_TCP6;
        assert_eq!(decode(&header, 100), None, "segments of no bytes");
        assert!(decode(&[0xff; HEADER_BYTES], 70_000).is_none());
    }
}
