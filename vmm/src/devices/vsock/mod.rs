//! The vsock device (virtio 1.3 §5.10): stream sockets, with their host side on Unix sockets.
//!
//! A program on the host connects to the socket file, writes `CONNECT <port>\n`, reads `OK <its port>\n`, and has a
//! stream to that port of the guest. A stream the guest opens to port P of CID 2 arrives at the socket `<file>_P`; if
//! nobody listens there, it is refused.
//!
//! - [`packet`] is the header on the wire, [`credit`] the arithmetic of flow control: values only.
//! - [`buffers`] turns descriptor chains into packets and receive buffers, [`socket`] moves bytes between guest memory
//!   and sockets.
//! - [`connection`] is one stream, [`muxer`] the table of all, [`host`] the listening socket, handshakes and epoll.
//! - [`device`] is the device: queues, notifications, configuration space.
//!
//! Nothing blocks, and the usual path copies nothing: the host's bytes are read into the guest's receive buffers, and
//! the guest's bytes are written from its memory. Only what a socket does not take is kept, within the credit given to
//! the guest.

mod buffers;
mod connection;
mod credit;
mod device;
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod muxer;
mod packet;
mod socket;
mod stats;
#[cfg(test)]
mod tests;

pub use self::device::{VsockDevice, VsockError};
pub use self::stats::VsockStatistics;
