//! TCP of the guest, spliced to sockets of the host.
//!
//! Each flow of the guest stands on one nonblocking socket of the host. The guest's SYN makes the socket connect; only its
//! success is answered with SYN-ACK. From then on bytes go straight between guest memory and the socket, and everything
//! that is not bytes is carried through: half-close, reset, a full socket (the guest's window closes), a guest that
//! does not read (the socket is not read). In the other direction, [`Splice::open`] opens a flow *into* the guest for a
//! connection the host accepted.
//!
//! # Where the bytes lie
//!
//! Host to guest: in the receive buffer of the host's socket until the guest has acknowledged them. They are peeked
//! (`MSG_PEEK` at `SO_PEEK_OFF`) straight into the guest's receive buffers behind the headers, and discarded (`MSG_TRUNC`,
//! which copies nothing) when acknowledged. So there is one copy, the kernel's; a retransmission peeks again; our own
//! memory holds nothing; and a guest that does not read fills that buffer, which closes the window of whoever sends.
//! Reading and keeping a copy instead would cost a second copy of every byte, and memory in proportion to the guest's window.
//!
//! Guest to host: written from the guest's transmit buffers. What the socket does not take goes to a buffer of the flow,
//! bounded by the window offered to the guest, all flows together by [`Settings::max_buffered`]; beyond it bytes are
//! dropped, and the guest, which was never told they arrived, sends them again.
//!
//! # For the integrator
//!
//! Everything runs on one thread and nothing blocks or sleeps; time is passed in.
//!
//! 1. [`Splice::new`] with a random key and a [`Sockets`] made of the thread's epoll instance. Tokens of its events with
//!    [`FlowId::TOKEN_BIT`] set are flows: give them to [`Splice::host_event`] with [`Readiness::from_epoll`]. Raise the soft
//!    `RLIMIT_NOFILE`: each flow has one descriptor. Without one to spare the oldest flow goes.
//! 2. After feature negotiation, [`Splice::set_offloads`]; when the driver resets the device, [`Splice::reset`].
//! 3. For each TCP packet of the guest (Ethernet, IP header, fragments and spoofing checked by you), [`Splice::receive`].
//!    Process the whole batch of transmitted frames before step 4, so that one acknowledgment answers many.
//! 4. While [`Splice::has_output`] and there are receive buffers, [`Splice::transmit`] into them: it writes a whole IP packet; you
//!    write the Ethernet header and, from the returned [`Packet`], the virtio-net header. `None` used nothing of the room.
//!    The more room (up to 64 KiB plus headers), the larger the segments.
//! 5. Before sleeping, ask [`Splice::next_deadline`]; when it has come, [`Splice::timers`].
//! 6. After 3 to 5, drain [`Splice::next_notice`]: what the guest must hear by ICMP.
//!
//! Whether and where a flow may go is decided by your [`Destinations`], asked once per SYN. It may also serve a flow itself
//! with a [`HostSocket`] of its own (DNS over TCP); such a socket reports readiness by a call of [`Splice::host_event`].
//!
//! System calls made on this thread: `socket` (`AF_INET`, `AF_INET6`), `connect`, `setsockopt`, `getsockopt`, `getsockname`, `getpeername`,
//! `epoll_ctl`, `recvmsg`, `recvfrom`, `sendmsg`, `shutdown`, `close`, `poll` (before Linux 6.10 only);
//! `getrandom` once, by the hash map of [`Splice::new`]; and those of the allocator.
//!
//! Limits ([`Settings`]): flows 16,384, of these 2,048 that still connect; 512 KiB of window each; 64 MiB buffered for hosts that do
//! not take it; 1,024 resets and 256 notices not yet fetched. Beyond them the closed flow, the attempt or the flow that was idle longest
//! goes. A flow at rest costs about 92 bytes here over IPv4 and 140 over IPv6, all others half a KiB, and the kernel its socket.
//!
//! # Sleep
//!
//! Most flows of a guest do nothing most of the time. One with nothing in flight, pending, due or owed and both directions open is dormant: it is
//! its slot in the table, and what does not follow from its being at rest. A segment, news of the host, its keep-alive or its eviction make it
//! a whole flow again. The 16 that were used last stay awake all the same, so that those in use do not change form at each packet; no timer
//! puts a flow to sleep, so an idle process sleeps too.
//!
//! Left to the flow's two ends: path MTU beyond the gateway, congestion control (the host's socket has it), urgent data
//! (delivered in line, unmarked).

mod dormant;
mod ends;
mod flow;
mod host;
mod receive;
mod sequence;
mod socket;
mod span;
mod splice;
mod table;
#[cfg(test)]
mod tests;
mod transmit;
mod wire;

pub use flow::{FlowId, Pair};
pub use host::{Connector, Destination, Destinations, HostSocket, Peeked, Readiness, Socket, Unreachable};
pub use socket::{Sockets, TcpSocket};
pub use span::{Slice, Span};
pub use splice::{Notice, OpenError, Settings, Splice, Statistics};
pub use transmit::{Offloads, Packet, PartialChecksum, Segmentation};
pub use wire::{Checksum, Segment};
