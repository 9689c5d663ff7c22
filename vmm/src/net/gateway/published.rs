//! Requests to publish ports, which arrive from other threads.

use std::sync::Arc;
use std::time::Instant;

use super::datagrams::Datagrams;
use super::tcp::Tcp;
use crate::net::publications::Publishers;
use crate::net::publications::connections::PublishedConnections;
use crate::net::publications::requests::{Publication, Request, Requests};
use crate::net::sockets::Sockets;

/// The queue of requests, and the TCP flows of published ports.
pub(super) struct Published {
    requests: Arc<Requests>,
    connections: PublishedConnections,
}

impl Published {
    /// Nothing yet; a request wakes `sockets`.
    pub(super) fn new(sockets: &Sockets) -> Self {
        Self { requests: Arc::new(Requests::new(sockets.waker())), connections: PublishedConnections::default() }
    }

    /// The other end of the queue.
    pub(super) fn publishers(&self) -> Publishers {
        Publishers::new(Arc::clone(&self.requests))
    }

    /// Handles all requests that wait.
    pub(super) fn take_requests(
        &mut self,
        datagrams: &mut Datagrams,
        tcp: &mut Tcp,
        sockets: &mut Sockets,
        now: Instant,
    ) {
        while let Some(request) = self.requests.next() {
            match request {
                Request::Datagrams { publication, socket, to } => {
                    if let Err(error) = datagrams.published.publish(publication, socket, to, sockets) {
                        tracing::warn!(%to, %error, "datagrams are not carried to a published port");
                    }
                }
                Request::Connection { publication, socket, to } => match tcp.open(socket, to, sockets, now) {
                    Ok(flow) => self.connections.add(publication, flow, |flow| tcp.splice.lives(flow)),
                    Err(error) => {
                        tracing::debug!(%to, %error, "a connection is not carried to a published port");
                    }
                },
                Request::End(ended, done) => {
                    self.end(|publication| *publication == ended, datagrams, tcp);
                    // Fails if the publisher no longer waits; the port has ended all the same.
                    let _ = done.send(());
                }
                Request::EndAll(publisher) => {
                    self.end(|publication| publication.is_of(publisher), datagrams, tcp);
                }
            }
        }
    }

    fn end(&mut self, ended: impl Fn(&Publication) -> bool, datagrams: &mut Datagrams, tcp: &mut Tcp) {
        datagrams.published.end(&ended);
        for flow in self.connections.end(&ended) {
            tcp.splice.abort(flow);
        }
    }

    /// Forgets the flows, which the guest's reset has ended.
    pub(super) fn reset(&mut self) {
        self.connections.clear();
    }
}
