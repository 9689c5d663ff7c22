//! A frame made by the gateway: one packet, or several datagrams of one sender that the guest takes apart.

use std::net::SocketAddr;

use crate::devices::net::backend::{Checksum, Offload, Segmentation};
use crate::net::network::{MTU, TO_GUEST};
use crate::net::wire::{ETHERNET_BYTES, checksum, write_udp_header};

/// Most datagrams in one frame: what Linux accepts (`UDP_MAX_SEGMENTS`).
pub(super) const MAX_TRAIN: usize = 64;
const UDP_HEADER_BYTES: usize = 8;

/// A frame for the guest.
#[derive(Debug, Default)]
pub(super) struct Frame {
    pub(super) bytes: Vec<u8>,
    /// The place of a checksum that is left to the guest.
    pub(super) checksum: Option<Checksum>,
    /// The frame holds datagrams, and may take more of them.
    train: Option<Train>,
    /// The driver's pair of queues for the frame.
    pub(super) pair: usize,
}

/// Datagrams of one sender for one receiver.
#[derive(Clone, Copy, Debug)]
struct Train {
    ends: (SocketAddr, SocketAddr),
    /// Payload bytes of the first datagram. All have as many, except that the last may have fewer.
    size: usize,
    count: usize,
}

impl Frame {
    /// The packet in `bytes`, which is complete.
    pub(super) fn of_packet(pair: usize, bytes: Vec<u8>) -> Self {
        Self { bytes, pair, ..Self::default() }
    }

    /// One datagram, from the first of `ends` to the second.
    pub(super) fn of_datagram(pair: usize, ends: (SocketAddr, SocketAddr), payload: &[u8]) -> Self {
        let mut frame = Self { pair, ..Self::default() };
        frame.checksum = Some(write_udp_header(&mut frame.bytes, TO_GUEST, ends.0, ends.1, payload.len()));
        frame.bytes.extend(payload);
        frame.train = Some(Train { ends, size: payload.len(), count: 1 });
        frame
    }

    /// Whether the frame holds datagrams.
    pub(super) fn is_train(&self) -> bool {
        self.train.is_some()
    }

    /// Appends a datagram to those in the frame; false if it does not fit there.
    pub(super) fn couple(&mut self, ends: (SocketAddr, SocketAddr), payload: &[u8]) -> bool {
        let (Some(train), Some(place)) = (&mut self.train, self.checksum) else { return false };
        let begin = usize::from(place.start) + UDP_HEADER_BYTES;
        let before = self.bytes.len() - begin;
        let fits = train.ends == ends
            && train.count < MAX_TRAIN
            && (1..=train.size).contains(&payload.len())
            && before == train.size * train.count
            && self.bytes.len() + payload.len() <= ETHERNET_BYTES + usize::from(MTU);
        if !fits {
            return false;
        }
        train.count += 1;
        self.bytes.extend(payload);
        true
    }

    /// Completes the headers, after which no datagram is appended any more.
    pub(super) fn finish(&mut self) -> Offload {
        let plain = Offload { checksum: self.checksum, ..Offload::default() };
        let (Some(train), Some(place)) = (&self.train, self.checksum) else { return plain };
        if train.count == 1 {
            return plain;
        }
        let begin = usize::from(place.start) + UDP_HEADER_BYTES;
        let mut header = Vec::with_capacity(begin);
        write_udp_header(&mut header, TO_GUEST, train.ends.0, train.ends.1, self.bytes.len() - begin);
        self.bytes[..begin].copy_from_slice(&header);
        Offload { segmentation: Segmentation::Udp, segment_bytes: train.size as u16, ..plain }
    }

    /// Writes the checksum that was left out.
    pub(super) fn complete_checksum(&mut self) {
        let Some(place) = self.checksum.take() else { return };
        let (start, offset) = (usize::from(place.start), usize::from(place.offset));
        let Some(covered) = self.bytes.get(start..) else { return };
        // The sum of the pseudo header stands in the checksum's place and is covered too. In UDP a checksum of zero
        // means that there is none; its complement is the same number.
        let sum = match checksum(covered, 0) {
            0 => u16::MAX,
            sum => sum,
        };
        if let Some(bytes) = self.bytes.get_mut(start + offset..start + offset + 2) {
            bytes.copy_from_slice(&sum.to_be_bytes());
        }
    }
}
