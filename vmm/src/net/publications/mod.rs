//! What the machine publishes: connections and datagrams of the host's clients, on their way into the guest from the clients' own addresses.
//!
//! The host's daemon listens; it hands accepted connections and bound UDP sockets over by the control socket ([`Publisher`]), whose threads
//! leave them to the gateway's. There [`datagrams`] carries UDP with the [`sessions`] of its clients, [`connections`] knows which flows of
//! TCP belong to which port.
//!
//! The guest is the router to the address that is published: it need not be its own. So the gateway takes from it, besides what is its own,
//! exactly what answers a client.

pub(super) mod connections;
pub(super) mod datagrams;
mod packet_info;
pub(super) mod sessions;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::eventfd::EventFd;
use rorqual_vmm_protocol::{Failure, FailureCode};
use thiserror::Error;

use super::network::Network;

/// Requests that wait for the gateway's thread; each may hold a descriptor.
const MAX_REQUESTS: usize = 1024;
/// How long the end of a port is waited for.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// A published port: the number its publisher gave it, and the publisher's own.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Publication {
    publisher: u64,
    port: u64,
}

impl Publication {
    /// Whether this publisher has it.
    pub(super) fn is_of(&self, publisher: u64) -> bool {
        self.publisher == publisher
    }
}

/// What is asked of the gateway.
#[derive(Debug)]
pub(super) enum Request {
    /// Carry the datagrams of this bound socket to the guest's `to`, and what answers them back.
    Datagrams { publication: Publication, socket: OwnedFd, to: SocketAddr },
    /// Carry this accepted connection to the guest's `to`.
    Connection { publication: Publication, socket: OwnedFd, to: SocketAddr },
    /// Close what belongs to the port, then tell.
    End(Publication, SyncSender<()>),
    /// Close what belongs to any port of the publisher.
    EndAll(u64),
}

/// Why a request was not taken.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PublishError {
    /// The gateway has not caught up.
    #[error("{MAX_REQUESTS} requests to publish wait for the machine's network")]
    Busy,
    /// The gateway's thread does not run at the moment, as when the machine is paused.
    #[error("the machine's network does not answer at the moment; the port ends once it does")]
    Still,
    /// Port 0, or an address nobody has alone.
    #[error("{0} is no address and port of one container")]
    Target(SocketAddr),
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        match &error {
            PublishError::Target(_) => Self::new(FailureCode::ConfigInvalid, error.to_string()),
            PublishError::Busy => Self::new(FailureCode::NotPossible, error.to_string()).with_fix("try again"),
            PublishError::Still => Self::new(FailureCode::NotPossible, error.to_string()),
        }
    }
}

/// The gateway's end and the publishers' of the queue between them.
#[derive(Debug)]
pub(super) struct Requests {
    waiting: Mutex<VecDeque<Request>>,
    wake: Arc<EventFd>,
    publishers: AtomicU64,
}

impl Requests {
    pub(super) fn new(wake: Arc<EventFd>) -> Self {
        Self { waiting: Mutex::default(), wake, publishers: AtomicU64::new(0) }
    }

    pub(super) fn next(&self) -> Option<Request> {
        self.lock().pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Request>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, request: Request) {
        self.lock().push_back(request);
        // Fails only if the counter is full, and then the gateway is called anyway.
        let _ = self.wake.write(1);
    }
}

/// Makes publishers, for any thread.
#[derive(Clone, Debug)]
pub struct Publishers(Arc<Requests>);

impl Publishers {
    pub(super) fn new(requests: Arc<Requests>) -> Self {
        Self(requests)
    }

    /// One with ports of its own.
    pub fn publisher(&self) -> Publisher {
        Publisher { number: self.0.publishers.fetch_add(1, Ordering::Relaxed), requests: Arc::clone(&self.0) }
    }
}

/// Publishes ports of the guest. Dropping it ends all of them.
#[derive(Debug)]
pub struct Publisher {
    number: u64,
    requests: Arc<Requests>,
}

impl Publisher {
    /// Carries datagrams of `socket`, which is bound, to the guest's `to` until [`end`](Self::end).
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn datagrams(&self, port: u64, socket: OwnedFd, to: SocketAddr) -> Result<(), PublishError> {
        self.ask(to, Request::Datagrams { publication: self.publication(port), socket, to })
    }

    /// Carries the connection `socket`, which was accepted for `port`, to the guest's `to`. When the guest refuses it is reset.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn connection(&self, port: u64, socket: OwnedFd, to: SocketAddr) -> Result<(), PublishError> {
        self.ask(to, Request::Connection { publication: self.publication(port), socket, to })
    }

    /// Ends a port with its connections, and waits until its address is free. One that is not there: nothing.
    ///
    /// # Errors
    /// [`PublishError::Still`] when the gateway does not come to it in time; it will.
    pub fn end(&self, port: u64) -> Result<(), PublishError> {
        let (done, ended) = sync_channel(1);
        self.requests.push(Request::End(self.publication(port), done));
        ended.recv_timeout(END_PATIENCE).map_err(|_| PublishError::Still)
    }

    fn publication(&self, port: u64) -> Publication {
        Publication { publisher: self.number, port }
    }

    fn ask(&self, to: SocketAddr, request: Request) -> Result<(), PublishError> {
        if to.port() == 0 || to.ip().is_unspecified() || to.ip().is_multicast() || to.ip().is_loopback() {
            return Err(PublishError::Target(to));
        }
        if self.requests.lock().len() >= MAX_REQUESTS {
            return Err(PublishError::Busy);
        }
        self.requests.push(request);
        Ok(())
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.requests.push(Request::EndAll(self.number));
    }
}

/// The address a client has in the guest, to which `to` belongs: its own, where that leads back to the gateway; else the one that stands for the host.
pub(super) fn seen(client: SocketAddr, to: SocketAddr, network: &Network) -> SocketAddr {
    let leads_back = match (client.ip(), to.ip()) {
        (IpAddr::V4(client), IpAddr::V4(_)) => {
            !client.is_loopback() && client.octets()[0] != 0 && !network.in_subnet(client.into())
        }
        (IpAddr::V6(client), IpAddr::V6(_)) => {
            let embedded = client.segments()[..5] == [0; 5];
            !embedded && !client.is_unicast_link_local() && !network.in_subnet(client.into())
        }
        _ => false,
    };
    if leads_back { SocketAddr::new(client.ip(), client.port()) } else { host_beside(to, client.port(), network) }
}

/// The address that stands for the host, of the version of `to`.
fn host_beside(to: SocketAddr, port: u16, network: &Network) -> SocketAddr {
    let host = if to.is_ipv4() { IpAddr::V4(network.v4.host) } else { IpAddr::V6(network.v6.host) };
    SocketAddr::new(host, port)
}

/// Names for a client that cannot have its own there: the host's address and the next ports.
pub(super) fn others(first: SocketAddr, to: SocketAddr, network: &Network) -> impl Iterator<Item = SocketAddr> {
    const TRIES: u16 = 256;
    let host = host_beside(to, first.port(), network);
    (0..TRIES).map(move |step| SocketAddr::new(host.ip(), first.port().wrapping_add(step).max(1024)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::network::tests::network;

    #[test]
    fn a_client_is_seen_as_itself_unless_its_address_means_something_else_in_the_guest() {
        let seen =
            |client: &str, to: &str| super::seen(client.parse().unwrap(), to.parse().unwrap(), &network()).to_string();
        assert_eq!(seen("192.168.1.7:5000", "172.17.0.2:53"), "192.168.1.7:5000");
        assert_eq!(seen("127.0.0.1:5000", "172.17.0.2:53"), "198.19.64.254:5000");
        assert_eq!(seen("198.19.64.9:5000", "172.17.0.2:53"), "198.19.64.254:5000");
        assert_eq!(seen("[::1]:5000", "172.17.0.2:53"), "198.19.64.254:5000");
        assert_eq!(seen("[2001:db8::7]:5000", "172.17.0.2:53"), "198.19.64.254:5000");
        assert_eq!(seen("[2001:db8::7]:5000", "[fd00::2]:53"), "[2001:db8::7]:5000");
        for client in ["[::1]:5000", "[fe80::7]:5000", "[fd72:6f72:7175:40::9]:5000", "192.168.1.7:5000"] {
            assert_eq!(seen(client, "[fd00::2]:53"), "[fd72:6f72:7175:40::fe]:5000");
        }
    }

    #[test]
    fn what_cannot_be_published_is_refused_and_a_flood_of_requests_too() {
        let wake = Arc::new(EventFd::new().unwrap());
        let requests = Arc::new(Requests::new(wake));
        let publisher = Publishers::new(Arc::clone(&requests)).publisher();
        let socket = || OwnedFd::from(std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        for target in ["172.17.0.2:0", "0.0.0.0:53", "224.0.0.1:53", "127.0.0.1:53", "[::1]:53"] {
            let target: SocketAddr = target.parse().unwrap();
            assert_eq!(publisher.datagrams(1, socket(), target), Err(PublishError::Target(target)));
        }
        let target = "172.17.0.2:53".parse().unwrap();
        let taken = (0..MAX_REQUESTS * 2).take_while(|_| publisher.datagrams(1, socket(), target).is_ok()).count();
        assert_eq!(taken, MAX_REQUESTS);
        // An end is always taken.
        drop(publisher);
        let last = std::iter::from_fn(|| requests.next()).last();
        assert!(matches!(last, Some(Request::EndAll(0))), "{last:?}");
    }
}
