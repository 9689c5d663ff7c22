//! TCP of the guest, spliced to sockets of the host.
//!
//! Each flow of the guest uses one nonblocking socket of the host. The guest's SYN makes the socket connect; the
//! guest receives SYN-ACK only if that succeeds. From then on bytes go straight between guest memory and the socket,
//! and so does everything else: half-close, reset, a full socket (the guest's window closes), a guest that does not
//! read (the socket is not read). In the other direction, [`Splice::open`] opens a flow *into* the guest for a
//! connection the host accepted.
//!
//! # Where the bytes lie
//!
//! Host to guest: in the receive buffer of the host's socket, until the guest has acknowledged them. They are peeked
//! (`MSG_PEEK` at `SO_PEEK_OFF`) straight into the guest's receive buffers behind the headers, and discarded
//! (`MSG_TRUNC`, which copies nothing) when acknowledged. So the kernel's is the only copy, a retransmission peeks
//! again, and the process holds nothing. A guest that does not read fills that buffer, which closes the window of the
//! sender. Reading and keeping a copy instead would cost a second copy of every byte, and memory in proportion to the
//! guest's window.
//!
//! Guest to host: written from the guest's transmit buffers. What the socket does not take goes to a buffer of the
//! flow, bounded by the window offered to the guest, and by [`Settings::max_buffered`] for all flows together. Bytes
//! beyond that are dropped; the guest, which never got an acknowledgment for them, sends them again.
//!
//! # Integration
//!
//! Everything runs on one thread and nothing blocks or sleeps; time is passed in.
//!
//! 1. Call [`Splice::new`] with a random key and a [`Sockets`] made of the thread's epoll instance. Tokens of its
//!    events with [`FlowId::TOKEN_BIT`] set are flows: pass them to [`Splice::host_event`] with
//!    [`Readiness::from_epoll`]. Raise the soft `RLIMIT_NOFILE`, because each flow has a descriptor; without a free
//!    one, the oldest flow is evicted.
//! 2. Call [`Splice::set_offloads`] after feature negotiation, and [`Splice::reset`] when the driver resets the device.
//! 3. Call [`Splice::receive`] for each TCP packet of the guest, after checking Ethernet header, IP header, fragments
//!    and source. Process the whole batch of transmitted frames before step 4, so that one acknowledgment answers many.
//! 4. While [`Splice::has_output`] and the guest has receive buffers, call [`Splice::transmit`] on them. It writes a
//!    whole IP packet; write the Ethernet header and, from the returned [`Packet`], the virtio-net header. `None`
//!    leaves the room unused. The more room (up to 64 KiB plus headers), the larger the segments.
//! 5. Before sleeping, ask [`Splice::next_deadline`]; when it has passed, call [`Splice::timers`].
//! 6. After steps 3 to 5, drain [`Splice::next_notice`]: what the guest must learn by ICMP.
//!
//! A [`Destinations`] decides whether and where a flow may go, once per SYN. It may also serve a flow with a
//! [`HostSocket`] of its own (DNS over TCP); such a socket reports readiness by a call of [`Splice::host_event`].
//!
//! System calls on this thread: `socket` (`AF_INET`, `AF_INET6`), `connect`, `setsockopt`, `getsockopt`, `getsockname`,
//! `getpeername`, `epoll_ctl`, `recvmsg`, `recvfrom`, `sendmsg`, `shutdown`, `close`, `poll` (before Linux 6.10 only);
//! `getrandom` once, by the hash map of [`Splice::new`]; and those of the allocator.
//!
//! [`Settings`] bounds the flows, those of them that still connect, the window of each and the bytes buffered for hosts
//! that do not take them; resets and notices that wait are bounded too. Beyond a bound, a closed flow, an attempt or
//! the flow that was idle longest is evicted. A flow at rest costs about 92 bytes over IPv4 and 140 over IPv6, any
//! other half a KiB, besides the kernel's socket.
//!
//! # Sleep
//!
//! Most flows of a guest do nothing most of the time. A flow with both directions open and nothing in flight, pending,
//! due or owed is dormant: only its slot in the table remains, with what does not follow from its being at rest. A
//! segment, an event of the host, its keep-alive or its eviction wakes it up. The [`Settings::max_awake`] flows that
//! were used last stay awake all the same, so that flows in use do not change form with each packet. No timer puts a
//! flow to sleep, so an idle process sleeps too.
//!
//! Left to the two ends of a flow: path MTU beyond the gateway, congestion control (which the host's socket does),
//! urgent data (delivered in line, unmarked).

mod connector;
mod dormant;
mod flow;
mod host;
mod identity;
mod receive;
mod report;
mod sequence;
mod settings;
mod socket;
mod splice;
mod table;
#[cfg(test)]
mod tests;
mod transmit;
mod wire;

pub use connector::{Connector, Sockets};
pub use host::{Destination, Destinations, HostSocket, Peeked, Readiness, Unreachable};
pub use identity::{FlowId, Pair};
pub use report::{Notice, OpenError, Statistics};
pub use settings::Settings;
pub use socket::{Socket, TcpSocket};
pub use splice::Splice;
pub use transmit::{Offloads, Packet, PartialChecksum, Segmentation};
pub use wire::{Checksum, Segment};
