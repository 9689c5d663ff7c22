//! What a network device talks to, and how a frame looks between the two.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use crate::net::tcp::Span;

/// How a frame longer than the link's packets is to be cut, should it have to be (virtio 1.3 §5.1.6, `gso_type`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Segmentation {
    /// It is one packet.
    #[default]
    None,
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// Many UDP datagrams of one size.
    Udp,
}

/// What was left undone in a frame because the other side does not need it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Offload {
    /// The transport checksum covers the bytes from `start` on and belongs at `start + offset`, where the sum of the pseudo
    /// header is now.
    pub checksum: Option<Checksum>,
    /// The frame holds several segments.
    pub segmentation: Segmentation,
    /// Payload bytes of each segment; of no meaning with [`Segmentation::None`].
    pub segment_bytes: u16,
}

/// Where a checksum that was left out belongs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Checksum {
    /// First byte it covers, from the begin of the frame.
    pub start: u16,
    /// Its place, from `start`.
    pub offset: u16,
}

/// What the guest's driver takes besides plain packets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Accepts {
    /// Transport checksums that are left out.
    pub checksum: bool,
    /// Segments of TCP over IPv4 that are longer than the MTU.
    pub tcp4: bool,
    /// Segments of TCP over IPv6 that are longer than the MTU.
    pub tcp6: bool,
    /// Many UDP datagrams of one size in a frame, over either version of IP. Implies `checksum`.
    pub udp: bool,
}

/// What became of a call for a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transmit {
    /// A frame of so many bytes is in the room.
    Frame(usize, Offload),
    /// There is none after all.
    Nothing,
    /// There is one, longer than the room.
    NeedsRoom,
}

/// The network behind a device. All calls come from the device's thread.
///
/// Frames begin with the Ethernet header and lie in the guest's memory, where they may change at any time. They are taken from the
/// backend only when the guest has room for them, so what it cannot take stays where it is: in sockets of the host.
pub trait Backend: Send {
    /// A descriptor that is readable whenever [`host_events`](Self::host_events) has work.
    fn event_fd(&self) -> BorrowedFd<'_>;
    /// Looks at what the descriptor reports.
    fn host_events(&mut self, now: Instant) -> io::Result<()>;
    /// Takes a frame of the guest.
    fn receive(&mut self, frame: Span<'_, '_>, offload: &Offload, now: Instant);
    /// The frames that follow come by the driver's pair of queues of this number. Never called while it uses only the first.
    fn set_pair(&mut self, _number: usize) {}
    /// The pair by which the next frame is to go: the one by which its flow was last sent (virtio 1.3 §5.1.6.5, "Automatic
    /// receive steering in multiqueue mode").
    /// Only asked when [`has_frames`](Self::has_frames), and when the driver uses several.
    fn next_pair(&mut self, _now: Instant) -> usize {
        0
    }
    /// Whether [`transmit`](Self::transmit) is worth a call.
    fn has_frames(&self) -> bool;
    /// Puts the next frame for the guest at the beginning of `room`.
    fn transmit(&mut self, room: Span<'_, '_>, now: Instant) -> Transmit;
    /// All calls for now are done: the time to set timers. The device wants to be called at `deadline` too.
    fn settle(&mut self, now: Instant, deadline: Option<Instant>);
    /// Makes the descriptor readable, so that the device is called again soon.
    fn call_again(&mut self);
    /// The driver has told what it takes.
    fn accepts(&mut self, accepts: Accepts);
    /// The guest has forgotten everything.
    fn reset(&mut self);
}
