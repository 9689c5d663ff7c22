//! What identifies a flow: its number ([`FlowId`]) and its two ends. [`Pair`] is their usual form; the table of flows
//! keeps [`Ends`], which takes 16 bytes over IPv4.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Identifies a flow, also as the token of its socket's epoll events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId(u64);

impl FlowId {
    /// Set in the token of every flow.
    pub const TOKEN_BIT: u64 = 1 << 63;

    pub(super) fn new(index: u32, generation: u32) -> Self {
        Self(Self::TOKEN_BIT | u64::from(generation >> 1) << 32 | u64::from(index))
    }

    pub(super) fn index(self) -> u32 {
        self.0 as u32
    }

    /// The token of its epoll events.
    pub fn token(self) -> u64 {
        self.0
    }

    /// The flow of a token; None when the token is not a flow's.
    pub fn from_token(token: u64) -> Option<Self> {
        (token & Self::TOKEN_BIT != 0).then_some(Self(token))
    }
}

/// The two ends of a flow, as the guest sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    /// The guest's address and port.
    pub guest: SocketAddr,
    /// The remote address and port.
    pub remote: SocketAddr,
}

/// A [`Pair`] without the scope and flow label of IPv6 addresses, which no segment has.
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
    /// The ends of no flow.
    pub(super) const NONE: Self =
        Self::V4 { guest: Ipv4Addr::UNSPECIFIED, remote: Ipv4Addr::UNSPECIFIED, ports: (0, 0) };

    /// The ends of a pair. A pair of two IP versions, which no segment has, is never found again.
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

/// The key by which a table finds a pair. The hasher must be keyed: a guest that could predict the hash could make all
/// its flows collide.
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
