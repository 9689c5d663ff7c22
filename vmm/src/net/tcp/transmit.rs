//! What a flow sends to the guest, one IP packet at a time.

use std::net::IpAddr;

use super::flow::{Budget, End, Flow, State};
use super::host::Peeked;
use super::sequence::Sequence;
use super::wire::{ACK, CHECKSUM_OFFSET, FIN, Headers, MAX_HEADER_BYTES, PSH, SYN};
use crate::devices::span::Span;

/// Least room for a packet, in bytes: the largest headers.
pub(super) const MIN_ROOM: usize = MAX_HEADER_BYTES;
/// Largest IP packet, in bytes: its length field has 16 bits, and jumbograms are not used.
const MAX_PACKET_BYTES: usize = 65535;

/// What the guest's driver accepts in packets it receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// `VIRTIO_NET_F_GUEST_CSUM`: partial checksums.
    pub checksum: bool,
    /// `VIRTIO_NET_F_GUEST_TSO4`: segments larger than the link's, over IPv4. Implies `checksum`.
    pub tso4: bool,
    /// `VIRTIO_NET_F_GUEST_TSO6`: the same over IPv6. Implies `checksum`.
    pub tso6: bool,
}

/// A checksum that the guest is to complete or to trust (`VIRTIO_NET_HDR_F_NEEDS_CSUM`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialChecksum {
    /// First byte it covers, in bytes from the start of the IP header: add the Ethernet header for `csum_start`.
    pub start: u16,
    /// Its place, in bytes from `start`: `csum_offset`.
    pub offset: u16,
}

/// How a packet that stands for several segments is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segmentation {
    /// `VIRTIO_NET_HDR_GSO_TCPV4`, with this `gso_size`.
    V4(u16),
    /// `VIRTIO_NET_HDR_GSO_TCPV6`, with this `gso_size`.
    V6(u16),
}

/// A packet for the guest: what its Ethernet and virtio-net headers (virtio 1.3 §5.1.6) need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The guest's address.
    pub destination: IpAddr,
    /// Length of the packet, in bytes from the start of the IP header.
    pub length: usize,
    /// Length of IP and TCP header, in bytes: add the Ethernet header for `hdr_len`.
    pub header_length: u16,
    /// None if the checksum is complete.
    pub checksum: Option<PartialChecksum>,
    /// None if it is one segment.
    pub segmentation: Option<Segmentation>,
}

impl Headers {
    /// Writes the headers of a payload of `payload` bytes, which already lies behind them in `room`.
    pub(super) fn write(&self, room: Span<'_, '_>, payload: usize, mss: usize, offloads: Offloads) -> Packet {
        let header_length = self.bytes();
        let bytes = self.build(room.after(header_length).first(payload), offloads.checksum);
        room.copy_from(&bytes[..header_length]);
        let size = mss as u16;
        let segmentation = (payload > mss).then_some(if self.pair.guest.is_ipv4() {
            Segmentation::V4(size)
        } else {
            Segmentation::V6(size)
        });
        let start = Self::ip_bytes(&self.pair) as u16;
        Packet {
            destination: self.pair.guest.ip(),
            length: header_length + payload,
            header_length: header_length as u16,
            checksum: offloads.checksum.then_some(PartialChecksum { start, offset: CHECKSUM_OFFSET }),
            segmentation,
        }
    }
}

impl Flow {
    /// Writes the next packet to `room`, which has at least [`MIN_ROOM`] bytes; None if there is no packet.
    pub(super) fn output(
        &mut self,
        room: Span<'_, '_>,
        budget: &Budget,
        offloads: Offloads,
    ) -> Result<Option<Packet>, End> {
        if self.syn_due {
            return Ok(Some(self.send_syn(room, budget, offloads)));
        }
        if self.wants_to_send()
            && let Some(packet) = self.send_bytes(room, budget, offloads)?
        {
            return Ok(Some(packet));
        }
        if self.ack_due || self.repeats_due > 0 {
            if !self.ack_due {
                self.repeats_due -= 1;
            }
            let sequence = self.outbound.highest;
            return Ok(Some(self.send(0, sequence, 0, room, budget, offloads)));
        }
        if self.probe_due {
            // A sequence number that the guest has already received makes it answer with its position.
            let sequence = self.outbound.unacknowledged - 1;
            return Ok(Some(self.send(0, sequence, 0, room, budget, offloads)));
        }
        Ok(None)
    }

    fn send_syn(&mut self, room: Span<'_, '_>, budget: &Budget, offloads: Offloads) -> Packet {
        let answers = self.state == State::SynReceived;
        let window = budget.capacity().min(usize::from(u16::MAX));
        if answers {
            self.inbound.edge = self.inbound.edge.max(self.inbound.next + window);
        }
        let headers = Headers {
            pair: self.pair,
            sequence: self.outbound.initial,
            acknowledged: answers.then_some(self.inbound.next),
            flags: SYN,
            window: window as u16,
            mss: Some(budget.mss_for(&self.pair)),
            scale: if answers { self.inbound.scale } else { Some(budget.scale) },
        };
        self.outbound.next = self.outbound.initial + 1;
        self.outbound.highest = self.outbound.next;
        self.syn_due = false;
        headers.write(room, 0, self.outbound.mss, offloads)
    }

    /// Sends the bytes that the guest's window allows, or the FIN.
    fn send_bytes(&mut self, room: Span<'_, '_>, budget: &Budget, offloads: Offloads) -> Result<Option<Packet>, End> {
        let sendable = self.sendable();
        let next = self.outbound.next;
        if sendable == 0 {
            return Ok(None);
        }
        if self.outbound.end == Some(next) {
            return Ok(Some(self.send_fin(room, budget, offloads)));
        }
        let v4 = self.pair.guest.is_ipv4();
        let header_bytes = Headers::ip_bytes(&self.pair) + 20;
        let whole = if v4 { offloads.tso4 } else { offloads.tso6 };
        // The length field of IPv6 does not cover the IP header; the smaller limit fits both versions.
        let max_packet = MAX_PACKET_BYTES - header_bytes;
        let max_segment = if whole && offloads.checksum { max_packet } else { max_packet.min(self.outbound.mss) };
        let until_end = self.outbound.end.map_or(usize::MAX, |end| end.since(next));
        let payload = room.after(header_bytes).first(sendable.min(max_segment).min(until_end));
        let offset = self.peek_offset();
        let Some(socket) = &mut self.socket else { return Ok(None) };
        match socket.peek(offset, payload) {
            Ok(Peeked::Bytes(bytes)) => {
                let bytes = bytes.min(payload.len());
                self.readable = bytes == payload.len() || self.host_ended;
                self.outbound.next = next + bytes;
                self.outbound.highest = self.outbound.highest.max(self.outbound.next);
                Ok(Some(self.send(PSH, next, bytes, room, budget, offloads)))
            }
            Ok(Peeked::Empty) => {
                self.readable = false;
                Ok(None)
            }
            // A stream cannot end before bytes that it had.
            Ok(Peeked::End) if self.host_failed || next != self.outbound.highest => Err(End::Broken),
            Ok(Peeked::End) => {
                self.readable = false;
                self.outbound.end = Some(next);
                Ok(Some(self.send_fin(room, budget, offloads)))
            }
            Err(_) => Err(End::Broken),
        }
    }

    fn send_fin(&mut self, room: Span<'_, '_>, budget: &Budget, offloads: Offloads) -> Packet {
        let outbound = &mut self.outbound;
        let sequence = outbound.next;
        if outbound.highest == sequence {
            outbound.ended_first = !self.inbound.ended;
        }
        outbound.next = sequence + 1;
        outbound.highest = outbound.highest.max(outbound.next);
        self.send(FIN, sequence, 0, room, budget, offloads)
    }

    /// Sends a segment of an open connection. Every such segment acknowledges.
    fn send(
        &mut self,
        flags: u8,
        sequence: Sequence,
        payload: usize,
        room: Span<'_, '_>,
        budget: &Budget,
        offloads: Offloads,
    ) -> Packet {
        self.ack_due = false;
        self.ack_owed = None;
        self.probe_due = false;
        if payload > 0 {
            self.conversing |= self.asked;
            self.asked = false;
        }
        let headers = Headers {
            pair: self.pair,
            sequence,
            acknowledged: Some(self.inbound.next),
            flags: flags | ACK,
            window: self.offer_window(budget),
            mss: None,
            scale: None,
        };
        headers.write(room, payload, self.outbound.mss, offloads)
    }

    /// The window to offer now. It never shrinks, and grows in steps of at least a segment (RFC 9293 §3.8.6.2.2).
    fn offer_window(&mut self, budget: &Budget) -> u16 {
        let capacity = budget.capacity();
        let free = capacity.saturating_sub(self.inbound.pending.len());
        let offered = self.inbound.edge.since(self.inbound.next);
        let step = self.outbound.mss.min(capacity / 2);
        let window = if free >= offered + step { free } else { offered };
        let scale = self.inbound.scale.unwrap_or(0);
        let field = (window >> scale).min(usize::from(u16::MAX));
        self.inbound.edge = self.inbound.edge.max(self.inbound.next + (field << scale));
        field as u16
    }
}
