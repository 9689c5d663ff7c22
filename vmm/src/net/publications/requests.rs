//! Requests to publish ports: from the control socket's threads to the gateway's.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::eventfd::EventFd;
use rorqual_vmm_protocol::{Failure, FailureCode};
use thiserror::Error;

/// Most requests that wait for the gateway's thread; each may hold a descriptor.
const MAX_REQUESTS: usize = 1024;
/// Longest wait for the end of a port.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// A published port: the publisher's number and the number the publisher gave the port.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Publication {
    pub(super) publisher: u64,
    pub(super) port: u64,
}

impl Publication {
    /// Whether it belongs to this publisher.
    pub(crate) fn is_of(&self, publisher: u64) -> bool {
        self.publisher == publisher
    }
}

/// A request to the gateway.
#[derive(Debug)]
pub(crate) enum Request {
    /// Carry datagrams between this bound socket and the guest's `to`.
    Datagrams { publication: Publication, socket: OwnedFd, to: SocketAddr },
    /// Carry this accepted connection to the guest's `to`.
    Connection { publication: Publication, socket: OwnedFd, to: SocketAddr },
    /// Close everything of the port, then report that by the channel.
    End(Publication, SyncSender<()>),
    /// Close everything of all ports of this publisher.
    EndAll(u64),
}

/// Why a port could not be published or ended.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PublishError {
    /// [`MAX_REQUESTS`] requests are waiting.
    #[error("{MAX_REQUESTS} requests to publish wait for the machine's network")]
    Busy,
    /// The gateway's thread is not running, for example because the machine is paused.
    #[error("the machine's network does not answer at the moment; the port ends once it does")]
    Still,
    /// Port 0, or an address that does not belong to one container.
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

/// The queue between publishers and the gateway.
#[derive(Debug)]
pub(crate) struct Requests {
    waiting: Mutex<VecDeque<Request>>,
    wake: Arc<EventFd>,
    publishers: AtomicU64,
}

impl Requests {
    pub(crate) fn new(wake: Arc<EventFd>) -> Self {
        Self { waiting: Mutex::default(), wake, publishers: AtomicU64::new(0) }
    }

    pub(crate) fn next(&self) -> Option<Request> {
        self.lock().pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Request>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, request: Request) {
        self.lock().push_back(request);
        // Fails only if the counter is full; the gateway will be called then.
        let _ = self.wake.write(1);
    }
}

/// Creates publishers, on any thread.
#[derive(Clone, Debug)]
pub struct Publishers(Arc<Requests>);

impl Publishers {
    pub(crate) fn new(requests: Arc<Requests>) -> Self {
        Self(requests)
    }

    /// A publisher with ports of its own.
    pub fn publisher(&self) -> Publisher {
        Publisher { number: self.0.publishers.fetch_add(1, Ordering::Relaxed), requests: Arc::clone(&self.0) }
    }
}

/// Publishes ports of the guest. Dropping it ends all its ports.
#[derive(Debug)]
pub struct Publisher {
    number: u64,
    requests: Arc<Requests>,
}

impl Publisher {
    /// Carries datagrams between `socket`, which is bound, and the guest's `to`, until [`end`](Self::end).
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn datagrams(&self, port: u64, socket: OwnedFd, to: SocketAddr) -> Result<(), PublishError> {
        self.ask(to, Request::Datagrams { publication: self.publication(port), socket, to })
    }

    /// Carries the connection `socket`, which was accepted for `port`, to the guest's `to`. If the guest refuses, the
    /// connection is reset.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn connection(&self, port: u64, socket: OwnedFd, to: SocketAddr) -> Result<(), PublishError> {
        self.ask(to, Request::Connection { publication: self.publication(port), socket, to })
    }

    /// Ends a port and its connections, and waits until its address is free. An unknown port is ignored.
    ///
    /// # Errors
    /// [`PublishError::Still`] if the gateway does not do it in time; it will do it later.
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

#[cfg(test)]
mod tests {
    use super::*;

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
        // An end is always accepted.
        drop(publisher);
        let last = std::iter::from_fn(|| requests.next()).last();
        assert!(matches!(last, Some(Request::EndAll(0))), "{last:?}");
    }
}
