//! The loads of `make bench-net`: one end of a network, on the host and in a guest alike.
//!
//! An end is a [`Node`] that performs [`Task`]s: it serves ([`serve`]), or it sends requests to another node ([`ask`],
//! [`stream`]). Tasks for the guest's node are lines of JSON.

mod ask;
mod serve;
mod stream;
mod task;

use std::{net::TcpStream, process::Child};

use anyhow::Result;

pub use task::{CONNECTING, DATAGRAM_BYTES, REQUEST_BYTES, Service, Task};

/// One end of a network. Dropping it ends everything it started.
#[derive(Debug, Default)]
pub struct Node {
    children: Vec<Child>,
    held: Vec<TcpStream>,
}

impl Node {
    /// Performs a task and returns its figures.
    ///
    /// # Errors
    /// Errors of the system, or an end that does not cooperate.
    pub fn perform(&mut self, task: &Task) -> Result<Vec<f64>> {
        match *task {
            Task::Serve { service: Service::Stream, at } => {
                self.children.push(stream::serve(at)?);
                Ok(Vec::new())
            }
            Task::Serve { service, at } => serve::serve(service, at).map(|()| Vec::new()),
            Task::Stream { to, streams, seconds } => Ok(vec![stream::send(to, streams, seconds)?]),
            Task::Requests { to, seconds } => ask::requests(to, seconds),
            Task::Connections { to, seconds } => Ok(vec![ask::connections(to, seconds)?]),
            Task::SendDatagrams { to, seconds } => Ok(vec![ask::send_datagrams(to, seconds)?]),
            Task::FetchDatagrams { to, seconds } => Ok(vec![ask::fetch_datagrams(to, seconds)?]),
            Task::Hold { to, count } => {
                ask::hold(to, count, &mut self.held)?;
                Ok(vec![f64::from(u32::try_from(self.held.len())?)])
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended already.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    /// A server of that kind on a free port.
    fn served(service: Service) -> SocketAddr {
        let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = probe.local_addr().unwrap();
        drop(probe);
        Node::default().perform(&Task::Serve { service, at: to }).unwrap();
        to
    }

    #[test]
    fn requests_are_answered_and_their_percentiles_are_in_order() {
        let to = served(Service::Echo);
        let figures = Node::default().perform(&Task::Requests { to, seconds: 1 }).unwrap();
        assert!(figures[0] > 0.0 && figures[0] <= figures[1] && figures[1] < 1.0, "{figures:?}");
    }

    #[test]
    fn connections_and_datagrams_are_counted() {
        let to = served(Service::Greet);
        assert!(Node::default().perform(&Task::Connections { to, seconds: 1 }).unwrap()[0] > 10.0);
        let to = served(Service::Datagrams);
        assert!(Node::default().perform(&Task::SendDatagrams { to, seconds: 1 }).unwrap()[0] > 100.0);
        assert!(Node::default().perform(&Task::FetchDatagrams { to, seconds: 1 }).unwrap()[0] > 100.0);
    }

    #[test]
    fn held_connections_stay_open_and_add_up() {
        let to = served(Service::Keep);
        let mut node = Node::default();
        assert_eq!(node.perform(&Task::Hold { to, count: 3 }).unwrap(), [3.0]);
        assert_eq!(node.perform(&Task::Hold { to, count: 2 }).unwrap(), [5.0]);
    }

    #[test]
    fn a_server_that_is_not_there_is_an_error() {
        let to: SocketAddr = "127.0.0.1:1".parse().unwrap();
        assert!(Node::default().perform(&Task::Requests { to, seconds: 1 }).is_err());
        assert!(Node::default().perform(&Task::SendDatagrams { to, seconds: 1 }).is_err());
    }
}
