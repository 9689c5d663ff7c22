//! One end of a relayed connection: a connected stream socket of any family, non-blocking.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{MsgFlags, recv, send, setsockopt, shutdown, sockopt};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::readiness;

/// Bytes moved at once. A buffer is only held while it has contents, so thousands of idle connections hold none.
const BUFFER_BYTES: usize = 128 << 10;
/// Buffers kept for the next transfer.
const MAX_SPARE_BUFFERS: usize = 8;

static SPARE: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// Bytes on their way from one endpoint to another.
pub(super) struct InTransit {
    buffer: Box<[u8]>,
    length: usize,
}

impl InTransit {
    fn take() -> Self {
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self { buffer: spare.unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice()), length: 0 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for InTransit {
    fn drop(&mut self) {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MAX_SPARE_BUFFERS {
            spare.push(std::mem::take(&mut self.buffer));
        }
    }
}

/// One end of a relayed connection.
pub(crate) struct Endpoint(AsyncFd<OwnedFd>);

impl Endpoint {
    /// Takes over a connected stream socket.
    pub(crate) fn new(socket: impl Into<OwnedFd>) -> io::Result<Self> {
        let socket = socket.into();
        let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL)?);
        if !flags.contains(OFlag::O_NONBLOCK) {
            fcntl(&socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        }
        readiness::watch(socket).map(Self)
    }

    /// Waits for bytes and returns them; `None` is the end of the peer's data.
    pub(super) async fn receive(&self) -> io::Result<Option<InTransit>> {
        let received = self
            .0
            .async_io(Interest::READABLE, |socket| {
                let mut bytes = InTransit::take();
                bytes.length = retried(|| recv(socket.as_raw_fd(), &mut bytes.buffer, MsgFlags::empty()))?;
                Ok(bytes)
            })
            .await?;
        Ok((received.length > 0).then_some(received))
    }

    /// Waits for bytes and reads as many as fit in `buffer`; 0 is the end of the peer's data.
    pub(crate) async fn receive_into(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0
            .async_io(Interest::READABLE, |socket| retried(|| recv(socket.as_raw_fd(), buffer, MsgFlags::empty())))
            .await
    }

    /// Sends all of `bytes`.
    pub(crate) async fn send_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = self
                .0
                .async_io(Interest::WRITABLE, |socket| {
                    retried(|| send(socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL))
                })
                .await?;
            bytes = &bytes[sent..];
        }
        Ok(())
    }

    /// Ends one or both directions.
    pub(crate) fn shutdown(&self, how: Shutdown) {
        let how = match how {
            Shutdown::Read => nix::sys::socket::Shutdown::Read,
            Shutdown::Write => nix::sys::socket::Shutdown::Write,
            Shutdown::Both => nix::sys::socket::Shutdown::Both,
        };
        // Fails only if the peer was faster.
        let _ = shutdown(self.0.as_raw_fd(), how);
    }

    /// Makes the close of a TCP connection a reset, so that the peer does not take its data for complete. Other
    /// families have no reset; for them a close has to do.
    pub(super) fn reset_on_close(&self) {
        let _ = setsockopt(&self.0.as_fd(), sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Repeats a call while a signal interrupts it.
fn retried(mut call: impl FnMut() -> Result<usize, Errno>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}
