//! The two ends of a flow as the table keeps them: 16 bytes over IPv4, which is nearly all there is.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::flow::Pair;

/// A [`Pair`] without what no segment has: the scope and the flow label of addresses of IPv6.
#[derive(Debug)]
pub(super) enum Ends {
    V4 { guest: Ipv4Addr, remote: Ipv4Addr, ports: (u16, u16) },
    V6(Box<EndsV6>),
}

#[derive(Debug)]
pub(super) struct EndsV6 {
    guest: Ipv6Addr,
    remote: Ipv6Addr,
    ports: (u16, u16),
}

impl Ends {
    /// Of no flow.
    pub(super) const NONE: Self =
        Self::V4 { guest: Ipv4Addr::UNSPECIFIED, remote: Ipv4Addr::UNSPECIFIED, ports: (0, 0) };

    /// Of a pair of one family. One of two, which no segment can have, is found again by nobody.
    pub(super) fn of(pair: &Pair) -> Self {
        let ports = (pair.guest.port(), pair.remote.port());
        match (pair.guest.ip(), pair.remote.ip()) {
            (IpAddr::V4(guest), IpAddr::V4(remote)) => Self::V4 { guest, remote, ports },
            (guest, remote) => Self::V6(Box::new(EndsV6 { guest: mapped(guest), remote: mapped(remote), ports })),
        }
    }

    pub(super) fn pair(&self) -> Pair {
        let (guest, remote, ports): (IpAddr, IpAddr, _) = match self {
            Self::V4 { guest, remote, ports } => ((*guest).into(), (*remote).into(), *ports),
            Self::V6(ends) => (ends.guest.into(), ends.remote.into(), ends.ports),
        };
        Pair { guest: SocketAddr::new(guest, ports.0), remote: SocketAddr::new(remote, ports.1) }
    }

    pub(super) fn are_of(&self, pair: &Pair) -> bool {
        bare(&self.pair()) == bare(pair)
    }
}

/// What a table finds a pair by. A guest that could guess its hash could make all its flows collide: the hasher is keyed.
pub(super) fn hash_pair(pair: &Pair, mut hasher: impl Hasher) -> u64 {
    bare(pair).hash(&mut hasher);
    hasher.finish()
}

fn bare(pair: &Pair) -> (IpAddr, u16, IpAddr, u16) {
    (pair.guest.ip(), pair.guest.port(), pair.remote.ip(), pair.remote.port())
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}
