//! What is compared, and the link each product gives the guest.

use std::net::Ipv4Addr;

/// A compared product. Rorqual first: the others are compared with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Product {
    Rorqual,
    Passt,
    Gvproxy,
    /// The host by itself: both ends on its loopback address.
    Loopback,
}

/// A link as the guest configures it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) name: &'static str,
    pub(crate) mtu: u32,
    pub(crate) address: &'static str,
    pub(crate) gateway: &'static str,
    /// The address by which the guest reaches the host's loopback.
    pub(crate) host: Ipv4Addr,
}

impl Product {
    pub(crate) const ALL: [Self; 4] = [Self::Rorqual, Self::Passt, Self::Gvproxy, Self::Loopback];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rorqual => "rorqual",
            Self::Passt => "passt",
            Self::Gvproxy => "gvproxy",
            Self::Loopback => "loopback",
        }
    }

    /// Each product with its usual addresses and its largest packets.
    pub(crate) fn link(self) -> Link {
        match self {
            Self::Rorqual | Self::Loopback => Link {
                name: "eth0",
                mtu: 65_520,
                address: "198.19.64.2/24",
                gateway: "198.19.64.1",
                host: Ipv4Addr::new(198, 19, 64, 254),
            },
            Self::Passt => Link {
                name: "eth0",
                mtu: 65_520,
                address: "198.19.65.2/24",
                gateway: "198.19.65.1",
                host: Ipv4Addr::new(198, 19, 65, 1),
            },
            Self::Gvproxy => Link {
                name: "vec0",
                mtu: GVPROXY_MTU,
                address: "192.168.127.2/24",
                gateway: "192.168.127.1",
                host: Ipv4Addr::new(192, 168, 127, 254),
            },
        }
    }
}

/// Its default.
pub(crate) const GVPROXY_MTU: u32 = 1500;
