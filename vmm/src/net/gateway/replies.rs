//! Frames made by the gateway, which wait until the guest has receive buffers.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use super::frame::Frame;
use crate::devices::net::backend::{Accepts, Checksum, Transmit};
use crate::devices::span::Span;
use crate::net::network::{Network, TO_GUEST};
use crate::net::stats::{GatewayStatistics, count};
use crate::net::steering::Steering;
use crate::net::wire::{ETHERNET_BYTES, Ip, Unreachable, unreachable};

/// Most replies that wait. Further ones are dropped, and the guest asks again.
pub(super) const MAX_REPLIES: usize = 256;

/// The frames, in the order in which they go.
pub(super) struct Replies {
    frames: VecDeque<Frame>,
    network: Network,
    /// What the guest's driver accepts.
    pub(super) accepts: Accepts,
    /// The pair of queues of each flow.
    pub(super) steering: Steering,
    statistics: Arc<GatewayStatistics>,
}

impl Replies {
    pub(super) fn new(network: Network, statistics: Arc<GatewayStatistics>) -> Self {
        let (accepts, steering) = (Accepts::default(), Steering::default());
        Self { frames: VecDeque::new(), network, accepts, steering, statistics }
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Drops everything, as the driver does.
    pub(super) fn reset(&mut self) {
        self.frames.clear();
        self.accepts = Accepts::default();
        self.steering = Steering::default();
    }

    /// Queues the frame that `write` writes, to go by the pair of queues on which the guest is sending. `write` returns
    /// the place of a checksum it leaves to the guest.
    pub(super) fn reply(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Option<Checksum>) {
        if self.frames.len() >= MAX_REPLIES {
            return count(&self.statistics.replies_dropped);
        }
        let mut frame = Frame::of_packet(self.steering.current(), Vec::new());
        frame.checksum = write(&mut frame.bytes);
        self.frames.push_back(frame);
    }

    /// Reports to the guest that `packet` cannot be delivered.
    pub(super) fn refuse(&mut self, packet: &Ip<'_>, reason: Unreachable) {
        count(&self.statistics.refused);
        let gateway = self.network.gateway_beside(packet.source);
        self.reply(|frame| {
            unreachable(frame, TO_GUEST, gateway, packet, reason);
            None
        });
    }

    /// The same for a packet rebuilt by [`quotes`](super::quotes).
    pub(super) fn refuse_quoted(&mut self, quoted: &[u8], reason: Unreachable) {
        let packet = quoted.get(ETHERNET_BYTES..).unwrap_or_default();
        let read = if packet.first().is_some_and(|first| first >> 4 == 4) { Ip::read_v4 } else { Ip::read_v6 };
        if let Some(packet) = read(packet) {
            self.refuse(&packet, reason);
        }
    }

    /// Queues a frame, however many wait already.
    pub(super) fn push(&mut self, frame: Frame) {
        self.frames.push_back(frame);
    }

    /// Appends a datagram to the last frame, if the driver accepts several in one; false if it needs a frame of its
    /// own.
    pub(super) fn couple(&mut self, ends: (SocketAddr, SocketAddr), payload: &[u8]) -> bool {
        self.accepts.udp && self.frames.back_mut().is_some_and(|frame| frame.couple(ends, payload))
    }

    /// Whether the first frame is the only one and more datagrams may be appended to it.
    pub(super) fn takes_datagrams(&self) -> bool {
        self.accepts.udp && self.frames.len() == 1 && self.frames.front().is_some_and(Frame::is_train)
    }

    /// The pair of queues for the first frame.
    pub(super) fn next_pair(&self) -> usize {
        self.frames.front().map_or(0, |frame| frame.pair)
    }

    /// Writes the first frame to `room`.
    pub(super) fn transmit(&mut self, room: Span<'_, '_>) -> Transmit {
        let Some(frame) = self.frames.front_mut() else { return Transmit::Nothing };
        if frame.bytes.len() > room.len() {
            return Transmit::NeedsRoom;
        }
        if !self.accepts.checksum {
            frame.complete_checksum();
        }
        let offload = frame.finish();
        let length = room.copy_from(&frame.bytes);
        self.frames.pop_front();
        Transmit::Frame(length, offload)
    }
}
