//! The network behind a device, and what accompanies a frame between the two.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use crate::devices::span::Span;

/// How a frame longer than the link's packets is to be cut, if necessary (virtio 1.3 §5.1.6, `gso_type`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Segmentation {
    /// The frame is one packet.
    #[default]
    None,
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// Several UDP datagrams of one size.
    Udp,
}

/// What was left undone in a frame because the other side does not need it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Offload {
    /// Where the transport checksum is missing: the sum of the pseudo header is in its place.
    pub checksum: Option<Checksum>,
    /// The frame holds several segments.
    pub segmentation: Segmentation,
    /// Payload bytes of each segment; meaningless with [`Segmentation::None`].
    pub segment_bytes: u16,
}

/// The place of a checksum that was left out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Checksum {
    /// First byte it covers, in bytes from the start of the frame. It covers all bytes from there on.
    pub start: u16,
    /// Position of its two bytes, in bytes from `start`.
    pub offset: u16,
}

/// What the guest's driver accepts besides plain packets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Accepts {
    /// Packets without a transport checksum.
    pub checksum: bool,
    /// Segments of TCP over IPv4 that are longer than the MTU.
    pub tcp4: bool,
    /// Segments of TCP over IPv6 that are longer than the MTU.
    pub tcp6: bool,
    /// Several UDP datagrams of one size in a frame, over either version of IP. Implies `checksum`.
    pub udp: bool,
}

/// The result of [`Backend::transmit`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transmit {
    /// The room holds a frame of this length, in bytes.
    Frame(usize, Offload),
    /// There was no frame after all.
    Nothing,
    /// The next frame is longer than the room.
    NeedsRoom,
}

/// The network behind a device. All calls come from the device's thread.
///
/// Frames begin with the Ethernet header and lie in the guest's memory, where they may change at any time. The device
/// takes frames only when the guest has room for them; what the guest cannot take stays in sockets of the host.
pub trait Backend: Send {
    /// A descriptor that is readable whenever [`host_events`](Self::host_events) has work.
    fn event_fd(&self) -> BorrowedFd<'_>;
    /// Handles what the descriptor reports.
    fn host_events(&mut self, now: Instant) -> io::Result<()>;
    /// Handles a frame from the guest.
    fn receive(&mut self, frame: Span<'_, '_>, offload: &Offload, now: Instant);
    /// The frames that follow come from the driver's pair of queues with this number.
    fn set_pair(&mut self, _number: usize) {}
    /// The pair of queues for the next frame: the one on which the guest last sent on its flow (virtio 1.3 §5.1.6.5,
    /// "Automatic receive steering in multiqueue mode"). Called only if [`has_frames`](Self::has_frames), and if the
    /// driver uses several pairs.
    fn next_pair(&mut self, _now: Instant) -> usize {
        0
    }
    /// Whether [`transmit`](Self::transmit) is worth a call.
    fn has_frames(&self) -> bool;
    /// Writes the next frame for the guest to the beginning of `room`.
    fn transmit(&mut self, room: Span<'_, '_>, now: Instant) -> Transmit;
    /// The device has done all its calls for now: sets timers. The device must also be called at `deadline`.
    fn settle(&mut self, now: Instant, deadline: Option<Instant>);
    /// Makes the descriptor readable, so that the device is called again soon.
    fn call_again(&mut self);
    /// The driver has negotiated what it accepts.
    fn accepts(&mut self, accepts: Accepts);
    /// The driver has reset the device: every flow is gone.
    fn reset(&mut self);
}
