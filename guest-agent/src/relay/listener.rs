//! Listening vsock sockets.

use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, VsockAddr, bind, listen, socket};
use tokio_vsock::{VMADDR_CID_ANY, VsockListener};
use tracing::warn;

use super::Endpoint;

/// Connections that may wait to be accepted. The kernel resets further ones, and a client may open a thousand.
const MAX_WAITING_CONNECTIONS: i32 = 4096;
/// Pause after a failed accept. Missing descriptors or memory become free when a connection ends.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens on `port`.
pub(crate) fn vsock_listener(port: u32) -> io::Result<VsockListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Vsock, SockType::Stream, flags, None)?;
    bind(socket.as_raw_fd(), &VsockAddr::new(VMADDR_CID_ANY, port))?;
    listen(&socket, Backlog::new(MAX_WAITING_CONNECTIONS)?)?;
    Ok(VsockListener::from(socket))
}

/// Passes every connection to `serve` in a task of its own, forever.
pub(super) async fn accept_each<Served>(listener: VsockListener, serve: impl Fn(Endpoint) -> Served)
where
    Served: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = std::future::poll_fn(|context| listener.poll_accept_std(context)).await;
        match accepted.and_then(|(stream, _)| Endpoint::new(stream)) {
            Ok(stream) => drop(tokio::spawn(serve(stream))),
            Err(error) => {
                warn!("cannot accept a connection from the host: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
