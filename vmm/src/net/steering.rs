//! Which of the driver's pairs of queues serves a flow: the one on which the guest sends, so that each of its
//! processors works on its own flows.

use std::hash::{Hash, Hasher};
use std::net::SocketAddr;

use siphasher::sip::SipHasher13;

/// Places in the table. Flows that share a place share and change its pair, which costs only a little order.
const PLACES: usize = 256;

/// The pair of each flow.
#[derive(Debug)]
pub(super) struct Steering {
    /// The pair on which the guest is sending.
    current: u8,
    /// Whether the guest has ever used several pairs. Until then nothing is looked up.
    several: bool,
    places: Box<[u8; PLACES]>,
}

impl Default for Steering {
    fn default() -> Self {
        Self { current: 0, several: false, places: Box::new([0; PLACES]) }
    }
}

impl Steering {
    /// The guest's next frames come from the pair of this number.
    pub(super) fn set_current(&mut self, pair: usize) {
        self.current = pair as u8;
        self.several |= pair > 0;
    }

    /// The pair on which the guest is sending.
    pub(super) fn current(&self) -> usize {
        self.current.into()
    }

    /// The guest has sent a frame from one of the two ends to the other.
    pub(super) fn sent(&mut self, guest: SocketAddr, remote: SocketAddr) {
        if self.several {
            self.places[place(guest, remote)] = self.current;
        }
    }

    /// The pair for a frame from `remote` to `guest`.
    pub(super) fn pair(&self, guest: SocketAddr, remote: SocketAddr) -> usize {
        if self.several { self.places[place(guest, remote)].into() } else { 0 }
    }
}

/// The place of a flow. A guest that makes flows collide slows down only itself, so the hash needs no key.
fn place(guest: SocketAddr, remote: SocketAddr) -> usize {
    let mut hasher = SipHasher13::new();
    (guest.ip(), guest.port(), remote.ip(), remote.port()).hash(&mut hasher);
    hasher.finish() as usize % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(port: u16) -> (SocketAddr, SocketAddr) {
        (SocketAddr::from(([198, 19, 64, 2], port)), SocketAddr::from(([9, 9, 9, 9], 443)))
    }

    #[test]
    fn a_flow_is_answered_where_the_guest_sent_it_last() {
        let mut steering = Steering::default();
        let (guest, remote) = ends(40_000);
        steering.sent(guest, remote);
        assert_eq!(steering.pair(guest, remote), 0);
        steering.set_current(1);
        steering.sent(guest, remote);
        assert_eq!(steering.pair(guest, remote), 1);
        steering.set_current(0);
        assert_eq!(steering.pair(guest, remote), 1, "another pair was used, but not for this flow");
        steering.sent(guest, remote);
        assert_eq!(steering.pair(guest, remote), 0);
    }

    #[test]
    fn flows_spread_over_the_places() {
        let places: std::collections::HashSet<_> = (0..1000).map(|port| place(ends(port).0, ends(port).1)).collect();
        assert!(places.len() > PLACES / 2, "{} places for 1,000 flows", places.len());
    }
}
