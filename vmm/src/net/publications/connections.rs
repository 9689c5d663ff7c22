//! Which TCP flows belong to which published port, so that they end with the port.

use std::collections::HashMap;

use super::requests::Publication;
use crate::net::tcp::FlowId;

/// Flows of a port from which on ended flows are removed.
const SWEEP_FROM: usize = 64;

#[derive(Debug, Default)]
struct Port {
    flows: Vec<FlowId>,
    sweep_at: usize,
}

/// The flows of each published port.
#[derive(Debug, Default)]
pub(crate) struct PublishedConnections(HashMap<Publication, Port>);

impl PublishedConnections {
    /// Records a new flow of a port. `lives` reports whether a flow still exists; it is called now and then.
    pub(crate) fn add(&mut self, publication: Publication, flow: FlowId, lives: impl Fn(FlowId) -> bool) {
        let port = self.0.entry(publication).or_default();
        port.flows.push(flow);
        if port.flows.len() > port.sweep_at.max(SWEEP_FROM) {
            port.flows.retain(|flow| lives(*flow));
            port.sweep_at = port.flows.len() * 2;
        }
    }

    /// Removes the ports that `ended` selects and returns their flows, some of which may have ended.
    pub(crate) fn end(&mut self, ended: impl Fn(&Publication) -> bool) -> Vec<FlowId> {
        let gone = self.0.extract_if(|publication, _| ended(publication));
        gone.flat_map(|(_, port)| port.flows).collect()
    }

    /// Removes all.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(number: u64) -> FlowId {
        FlowId::from_token(FlowId::TOKEN_BIT | number).unwrap()
    }

    #[test]
    fn flows_end_with_their_port() {
        let mut connections = PublishedConnections::default();
        let port = |port| Publication { publisher: 0, port };
        connections.add(port(1), flow(1), |_| true);
        connections.add(port(2), flow(2), |_| true);
        connections.add(port(1), flow(3), |_| true);
        assert_eq!(connections.end(|ended| *ended == port(1)), [flow(1), flow(3)]);
        assert_eq!(connections.end(|ended| *ended == port(1)), []);
        assert_eq!(connections.end(|ended| ended.publisher == 0), [flow(2)]);
    }

    #[test]
    fn many_short_connections_leave_nothing_behind() {
        let mut connections = PublishedConnections::default();
        let port = Publication { publisher: 0, port: 1 };
        for number in 0..10_000 {
            connections.add(port, flow(number), |flow| flow == self::flow(5));
        }
        let flows = connections.end(|_| true);
        assert!(flows.len() <= SWEEP_FROM && flows.contains(&flow(5)), "{}", flows.len());
    }
}
