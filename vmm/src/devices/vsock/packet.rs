//! The header of every vsock packet (virtio 1.3 §5.10.6), as values.

use std::ops::{BitOr, BitOrAssign};

/// Bytes of a packet header; all fields are little endian.
pub(super) const HEADER_BYTES: usize = 44;
/// The well-known CID of the host (virtio 1.3 §5.10.4).
pub(super) const HOST_CID: u64 = 2;
/// `VIRTIO_VSOCK_TYPE_STREAM`, the only socket type served.
pub(super) const TYPE_STREAM: u16 = 1;
/// Largest payload of one packet, in bytes. Linux drivers use the same limit.
pub(super) const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

/// What a packet asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Request,
    Response,
    Reset,
    Shutdown,
    ReadWrite,
    CreditUpdate,
    CreditRequest,
}

impl Operation {
    /// The operation of a header's `op` field, if the specification defines it.
    pub(super) fn from_wire(op: u16) -> Option<Self> {
        Some(match op {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::ReadWrite,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            _ => return None,
        })
    }

    /// The value of a header's `op` field.
    pub(super) fn to_wire(self) -> u16 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Reset => 3,
            Self::Shutdown => 4,
            Self::ReadWrite => 5,
            Self::CreditUpdate => 6,
            Self::CreditRequest => 7,
        }
    }
}

/// The directions a side has closed for good (virtio 1.3 §5.10.6.5). Bits are only ever added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Closed(u32);

impl Closed {
    /// The sender of the flag will not receive any more.
    pub(super) const RECEIVE: Self = Self(1);
    /// The sender of the flag will not send any more.
    pub(super) const SEND: Self = Self(2);
    pub(super) const BOTH: Self = Self(3);

    /// The flags of an `OP_SHUTDOWN` header; unknown bits are ignored.
    pub(super) fn from_wire(flags: u32) -> Self {
        Self(flags & Self::BOTH.0)
    }

    pub(super) fn to_wire(self) -> u32 {
        self.0
    }

    pub(super) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Closed {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Closed {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// A packet header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) src_cid: u64,
    pub(super) dst_cid: u64,
    pub(super) src_port: u32,
    pub(super) dst_port: u32,
    /// Bytes of payload after the header.
    pub(super) len: u32,
    pub(super) kind: u16,
    pub(super) op: u16,
    pub(super) flags: u32,
    /// Size of the sender's receive buffer, in bytes.
    pub(super) buf_alloc: u32,
    /// Bytes the sender has taken out of its receive buffer since the connection began, modulo 2^32.
    pub(super) fwd_cnt: u32,
}

impl Header {
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Self {
        let mut fields = Fields(bytes);
        Self {
            src_cid: u64::from_le_bytes(fields.take()),
            dst_cid: u64::from_le_bytes(fields.take()),
            src_port: u32::from_le_bytes(fields.take()),
            dst_port: u32::from_le_bytes(fields.take()),
            len: u32::from_le_bytes(fields.take()),
            kind: u16::from_le_bytes(fields.take()),
            op: u16::from_le_bytes(fields.take()),
            flags: u32::from_le_bytes(fields.take()),
            buf_alloc: u32::from_le_bytes(fields.take()),
            fwd_cnt: u32::from_le_bytes(fields.take()),
        }
    }

    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&self.src_cid.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.dst_cid.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.src_port.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.dst_port.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.len.to_le_bytes());
        bytes[28..30].copy_from_slice(&self.kind.to_le_bytes());
        bytes[30..32].copy_from_slice(&self.op.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.flags.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.buf_alloc.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.fwd_cnt.to_le_bytes());
        bytes
    }

    /// The reset that answers this packet: the same ports and CIDs, swapped.
    pub(super) fn answer_reset(&self) -> Self {
        Self {
            src_cid: self.dst_cid,
            dst_cid: self.src_cid,
            src_port: self.dst_port,
            dst_port: self.src_port,
            kind: TYPE_STREAM,
            op: Operation::Reset.to_wire(),
            ..Self::default()
        }
    }
}

/// Reads the fields of a header in order.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        let (head, rest) = self.0.split_at(N);
        field.copy_from_slice(head);
        self.0 = rest;
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_wire_and_lies_where_the_specification_says() {
        let header = Header {
            src_cid: 0x0102_0304_0506_0708,
            dst_cid: 2,
            src_port: 0x1122_3344,
            dst_port: 1024,
            len: 77,
            kind: 1,
            op: 5,
            flags: 3,
            buf_alloc: 0xdead_beef,
            fwd_cnt: 9,
        };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), header);
        assert_eq!(bytes[0], 8);
        assert_eq!(bytes[16..20], [0x44, 0x33, 0x22, 0x11]);
        assert_eq!(bytes[24], 77);
        assert_eq!((bytes[28], bytes[30], bytes[32]), (1, 5, 3));
        assert_eq!(bytes[36..40], [0xef, 0xbe, 0xad, 0xde]);
    }

    #[test]
    fn every_operation_maps_to_its_number_and_back() {
        for op in 1..=7 {
            assert_eq!(Operation::from_wire(op).map(Operation::to_wire), Some(op));
        }
        assert_eq!(Operation::from_wire(0), None);
        assert_eq!(Operation::from_wire(8), None);
    }
}
