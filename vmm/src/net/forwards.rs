//! Ways into the guest: listening sockets that whoever drives the monitor has bound, each for a port of the guest.
//!
//! [`Forwards`] is for any thread; what it changes the gateway's thread takes over when the event wakes it ([`Listeners`]). A connection becomes
//! a flow of its own ([`Splice::open`]): the guest sees the client's address and port, or the host's address where the client's own means
//! something else to the guest (loopback, its own network).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::network::{Destination, Network};
use super::sockets::{SocketId, Sockets};
use super::tcp::{Splice, TcpSocket};

/// Connections taken in one call, so that they do not keep the flows there are from their turn.
const BUDGET: usize = 64;

#[derive(Debug)]
enum Change {
    Add(u64, TcpListener, u16),
    Remove(u64),
}

#[derive(Debug)]
struct Shared {
    changes: Mutex<Vec<Change>>,
    event: EventFd,
    next: AtomicU64,
}

impl Shared {
    fn change(&self, change: Change) {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push(change);
        // Fails only if the counter is full, and then the gateway wakes anyway.
        let _ = self.event.write(1);
    }
}

/// The ways into one guest, for any thread.
#[derive(Clone, Debug)]
pub struct Forwards(Arc<Shared>);

/// One way into the guest, until it is dropped. Connections that stand go on.
#[derive(Debug)]
pub struct Forward {
    id: u64,
    shared: Arc<Shared>,
}

impl Forwards {
    fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self(Arc::new(Shared { changes: Mutex::default(), event, next: AtomicU64::new(0) })))
    }

    /// From now on what connects to `listener` is connected with `port` of the guest. The socket becomes nonblocking, for whoever else has it
    /// too. One that does not listen is given up with a line in the log.
    pub fn add(&self, listener: TcpListener, port: u16) -> Forward {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.change(Change::Add(id, listener, port));
        Forward { id, shared: self.0.clone() }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.shared.change(Change::Remove(self.id));
    }
}

#[derive(Debug)]
struct Listener {
    id: u64,
    socket: TcpListener,
    port: u16,
    /// Connections may wait.
    ready: bool,
}

/// The gateway's side.
#[derive(Debug)]
pub(super) struct Listeners {
    forwards: Forwards,
    event: SocketId,
    listening: HashMap<SocketId, Listener>,
}

impl Listeners {
    pub(super) fn new(sockets: &mut Sockets) -> io::Result<Self> {
        let forwards = Forwards::new()?;
        let event = sockets.watch(&forwards.0.event)?;
        Ok(Self { forwards, event, listening: HashMap::new() })
    }

    pub(super) fn forwards(&self) -> Forwards {
        self.forwards.clone()
    }

    /// Takes note of an event, if it is one of its own.
    pub(super) fn readable(&mut self, id: SocketId, sockets: &mut Sockets) -> bool {
        if id == self.event {
            // Empty when another wakeup has emptied it.
            let _ = self.forwards.0.event.read();
            self.take_changes(sockets);
            return true;
        }
        let listener = self.listening.get_mut(&id);
        listener.map(|listener| listener.ready = true).is_some()
    }

    fn take_changes(&mut self, sockets: &mut Sockets) {
        let changes = std::mem::take(&mut *self.forwards.0.changes.lock().unwrap_or_else(PoisonError::into_inner));
        for change in changes {
            match change {
                Change::Remove(id) => self.listening.retain(|_, listener| listener.id != id),
                Change::Add(id, socket, port) => {
                    match socket.set_nonblocking(true).and_then(|()| sockets.watch(&socket)) {
                        Ok(event) => drop(self.listening.insert(event, Listener { id, socket, port, ready: true })),
                        Err(error) => tracing::warn!(port, "the guest's port is not reached from outside: {error}"),
                    }
                }
            }
        }
    }

    /// Opens a flow for each connection that waits.
    pub(super) fn accept(&mut self, network: &Network, splice: &mut Splice, sockets: &Sockets, now: Instant) {
        let mut budget = BUDGET;
        self.listening.retain(|_, listener| {
            while listener.ready && budget > 0 {
                budget -= 1;
                match listener.socket.accept() {
                    Ok((socket, from)) => open(listener.port, socket.into(), from, network, splice, sockets, now),
                    Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
                        Errno::EAGAIN => listener.ready = false,
                        // This one is gone; the next may not be.
                        Errno::ECONNABORTED | Errno::EINTR | Errno::EPERM => {}
                        Errno::EMFILE | Errno::ENFILE => listener.ready = splice.spare_descriptor(),
                        _ => {
                            tracing::warn!(port = listener.port, "the guest's port is no longer reached: {error}");
                            return false;
                        }
                    },
                }
            }
            true
        });
        if budget == 0 {
            sockets.call_again();
        }
    }
}

fn open(
    port: u16,
    socket: OwnedFd,
    from: SocketAddr,
    network: &Network,
    splice: &mut Splice,
    sockets: &Sockets,
    now: Instant,
) {
    let from = seen_by_guest(from, network);
    let guest = if from.is_ipv4() { network.v4.guest.into() } else { network.v6.guest.into() };
    let epoll = sockets.epoll();
    let opened = splice.open(now, from, SocketAddr::new(guest, port), |flow| TcpSocket::adopt(socket, &epoll, flow));
    if let Err(error) = opened {
        tracing::debug!(%from, port, "a connection to the guest is closed again: {error}");
    }
}

/// The client's address, where the guest would reach it by that; else the host's.
fn seen_by_guest(from: SocketAddr, network: &Network) -> SocketAddr {
    let address = from.ip().to_canonical();
    let seen = match (network.destination(address), address) {
        (Destination::Socket(same), _) if same == address => address,
        (_, IpAddr::V4(_)) => network.v4.host.into(),
        (_, IpAddr::V6(_)) => network.v6.host.into(),
    };
    SocketAddr::new(seen, from.port())
}

#[cfg(test)]
mod tests {
    use super::super::network::tests::network;
    use super::*;

    #[test]
    fn the_guest_sees_the_client_or_the_host_where_it_could_not_answer_the_client() {
        let seen = |from: &str| seen_by_guest(from.parse().unwrap(), &network()).to_string();
        assert_eq!(seen("192.0.2.7:4000"), "192.0.2.7:4000");
        assert_eq!(seen("[::ffff:192.0.2.7]:4000"), "192.0.2.7:4000");
        assert_eq!(seen("[2001:db8::7]:4000"), "[2001:db8::7]:4000");
        for loopback in ["127.0.0.1:4000", "[::ffff:127.0.0.1]:4000", "198.19.64.2:4000", "169.254.1.1:4000"] {
            assert_eq!(seen(loopback), "198.19.64.254:4000", "{loopback}");
        }
        for loopback in ["[::1]:4000", "[fe80::1]:4000", "[fd72:6f72:7175:40::2]:4000"] {
            assert_eq!(seen(loopback), "[fd72:6f72:7175:40::fe]:4000", "{loopback}");
        }
    }
}
