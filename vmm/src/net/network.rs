//! The addresses of a machine's network, and where a packet of the guest may go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::wire::{Mac, Unreachable};

/// Hardware address of the gateway: locally administered.
pub(crate) const GATEWAY_MAC: Mac = [0x52, 0x72, 0x71, 0, 0, 1];
/// Hardware address of the guest. Each machine has a link of its own, so all are alike.
pub const GUEST_MAC: Mac = [0x52, 0x72, 0x71, 0, 0, 2];
/// Longest packet of the link. What leaves the host is cut by the host; on the way here nothing is.
pub const MTU: u16 = 65_520;

/// Addresses at which clouds tell a machine its secrets and that are not link-local.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254)),
];

/// A network of IPv4: an address whose host bits are zero, and the number of the others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Subnet4 {
    /// First address.
    pub address: Ipv4Addr,
    /// Bits all its addresses share.
    pub prefix: u8,
}

impl Subnet4 {
    /// A network of at least 16 addresses, as its guest needs.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        let subnet = Self { address, prefix };
        ((8..=28).contains(&prefix) && address.to_bits() & !subnet.mask() == 0).then_some(subnet)
    }

    /// Reads `198.19.64.0/24`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        Self::new(address.parse().ok()?, prefix.parse().ok()?)
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }

    /// Whether `address` is one of its own.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (address.to_bits() ^ self.address.to_bits()) & self.mask() == 0
    }

    fn nth(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | number)
    }

    fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !self.mask())
    }
}

/// The three addresses of one version that mean something, and their network.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Addresses<A> {
    /// The gateway: routes, resolves names, answers pings.
    pub gateway: A,
    /// The guest.
    pub guest: A,
    /// Stands for the loopback address of the host.
    pub host: A,
    /// Bits of the network.
    pub prefix: u8,
}

/// A machine's network.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    subnet: Subnet4,
    prefix6: Ipv6Addr,
    /// IPv4.
    pub v4: Addresses<Ipv4Addr>,
    /// IPv6.
    pub v6: Addresses<Ipv6Addr>,
    host_access: bool,
    block_link_local: bool,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Destination {
    /// To the gateway itself.
    Gateway,
    /// Out by a socket of the host to this address.
    Socket(IpAddr),
    /// Nowhere; the guest is told why.
    Refused(Unreachable),
    /// Nowhere, without a word: to many, or not an address to answer from.
    Dropped,
}

impl Network {
    /// The network with these subnets. `prefix6` has 64 bits.
    pub fn new(subnet: Subnet4, prefix6: Ipv6Addr, host_access: bool, block_link_local: bool) -> Self {
        let nth6 = |number: u128| Ipv6Addr::from_bits(prefix6.to_bits() | number);
        // The last but one of the first 256, or of a smaller network.
        let host = (subnet.broadcast().to_bits() - subnet.address.to_bits()).min(255) - 1;
        Self {
            subnet,
            prefix6,
            v4: Addresses {
                gateway: subnet.nth(1),
                guest: subnet.nth(2),
                host: subnet.nth(host),
                prefix: subnet.prefix,
            },
            v6: Addresses { gateway: nth6(1), guest: nth6(2), host: nth6(0xfe), prefix: 64 },
            host_access,
            block_link_local,
        }
    }

    /// Where a packet to `address` goes.
    pub(crate) fn destination(&self, address: IpAddr) -> Destination {
        match address {
            IpAddr::V4(address) => self.destination4(address),
            IpAddr::V6(address) => self.destination6(address),
        }
    }

    fn destination4(&self, address: Ipv4Addr) -> Destination {
        if address == self.v4.gateway {
            return Destination::Gateway;
        }
        if address == self.v4.host {
            return self.loopback(Ipv4Addr::LOCALHOST.into());
        }
        if address.is_multicast() || address.is_broadcast() || address == self.subnet.broadcast() {
            return Destination::Dropped;
        }
        if self.subnet.contains(address) {
            return Destination::Refused(Unreachable::Host);
        }
        // 0.0.0.0 is the host itself to its system, and so is the network 0; 240.0.0.0/4 is nowhere.
        let nowhere = address.octets()[0] == 0 || address.is_loopback() || address.octets()[0] >= 240;
        if nowhere || (self.block_link_local && (address.is_link_local() || METADATA.contains(&address.into()))) {
            return Destination::Refused(Unreachable::Prohibited);
        }
        Destination::Socket(address.into())
    }

    fn destination6(&self, address: Ipv6Addr) -> Destination {
        if address == self.v6.gateway {
            return Destination::Gateway;
        }
        if address == self.v6.host {
            return self.loopback(Ipv6Addr::LOCALHOST.into());
        }
        if address.is_multicast() {
            return Destination::Dropped;
        }
        if self.in_prefix6(address) {
            return Destination::Refused(Unreachable::Host);
        }
        // Addresses of IPv4 in those of IPv6 (mapped, compatible, ::, ::1) would reach the host's loopback.
        let embedded = address.segments()[..5] == [0; 5];
        // Link-local addresses of the host's links have no meaning on this one.
        if embedded || address.is_unicast_link_local() || (self.block_link_local && METADATA.contains(&address.into()))
        {
            return Destination::Refused(Unreachable::Prohibited);
        }
        Destination::Socket(address.into())
    }

    fn loopback(&self, address: IpAddr) -> Destination {
        if self.host_access { Destination::Socket(address) } else { Destination::Refused(Unreachable::Prohibited) }
    }

    fn in_prefix6(&self, address: Ipv6Addr) -> bool {
        address.segments()[..4] == self.prefix6.segments()[..4]
    }

    /// Whether the guest may send from `address`: one of its own network that is not the gateway's.
    pub(crate) fn may_send_from(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => {
                let ours = [self.v4.gateway, self.v4.host, self.subnet.address, self.subnet.broadcast()];
                self.subnet.contains(address) && !ours.contains(&address)
            }
            IpAddr::V6(address) => self.in_prefix6(address) && ![self.v6.gateway, self.v6.host].contains(&address),
        }
    }

    /// Whether `address` belongs to the machine's own link.
    pub(crate) fn in_subnet(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.subnet.contains(address),
            IpAddr::V6(address) => self.in_prefix6(address),
        }
    }

    /// The gateway's address of the version of `other`, to send errors from.
    pub(crate) fn gateway_beside(&self, other: IpAddr) -> IpAddr {
        match other {
            IpAddr::V4(_) => self.v4.gateway.into(),
            IpAddr::V6(_) => self.v6.gateway.into(),
        }
    }

    /// What the guest finds on its command line (docs/architecture.md, "Kernel command line").
    pub fn command_line(&self) -> String {
        let Self { v4, v6, .. } = self;
        format!(
            "rorqual.net={}/{},{},{} rorqual.net6={}/{},{},{}",
            v4.guest, v4.prefix, v4.gateway, v4.host, v6.guest, v6.prefix, v6.gateway, v6.host
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The network of tests.
    pub(crate) fn network() -> Network {
        let subnet = Subnet4::parse("198.19.64.0/24").unwrap();
        Network::new(subnet, "fd72:6f72:7175:40::".parse().unwrap(), true, true)
    }

    fn to(network: &Network, address: &str) -> Destination {
        network.destination(address.parse().unwrap())
    }

    #[test]
    fn the_hosts_loopback_is_reached_by_one_address_only_and_by_that_when_allowed() {
        let open = network();
        assert_eq!(to(&open, "198.19.64.254"), Destination::Socket(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(to(&open, "fd72:6f72:7175:40::fe"), Destination::Socket(Ipv6Addr::LOCALHOST.into()));
        let closed = Network { host_access: false, ..open };
        for address in ["198.19.64.254", "fd72:6f72:7175:40::fe"] {
            assert_eq!(to(&closed, address), Destination::Refused(Unreachable::Prohibited));
        }
        for network in [open, closed] {
            for address in
                ["127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "::1", "::", "::ffff:127.0.0.1", "::127.0.0.1"]
            {
                assert_eq!(to(&network, address), Destination::Refused(Unreachable::Prohibited), "{address}");
            }
        }
    }

    #[test]
    fn addresses_that_tell_a_machines_secrets_are_closed_by_default() {
        let closed = network();
        let open = Network { block_link_local: false, ..closed };
        for address in ["169.254.169.254", "169.254.0.1", "fd00:ec2::254"] {
            assert_eq!(to(&closed, address), Destination::Refused(Unreachable::Prohibited), "{address}");
            assert_eq!(to(&open, address), Destination::Socket(address.parse().unwrap()));
        }
        assert_eq!(to(&open, "fe80::7"), Destination::Refused(Unreachable::Prohibited));
    }

    #[test]
    fn the_rest_of_its_own_network_is_empty_and_many_are_not_reached() {
        let network = network();
        assert_eq!(to(&network, "198.19.64.9"), Destination::Refused(Unreachable::Host));
        assert_eq!(to(&network, "fd72:6f72:7175:40::9"), Destination::Refused(Unreachable::Host));
        for address in ["224.0.0.251", "255.255.255.255", "198.19.64.255", "ff02::fb"] {
            assert_eq!(to(&network, address), Destination::Dropped, "{address}");
        }
        assert_eq!(to(&network, "198.19.64.1"), Destination::Gateway);
        assert_eq!(to(&network, "9.9.9.9"), Destination::Socket("9.9.9.9".parse().unwrap()));
        assert_eq!(to(&network, "2001:db8::1"), Destination::Socket("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn a_guest_sends_from_its_own_network_only() {
        let network = network();
        for (address, may) in [
            ("198.19.64.2", true),
            ("198.19.64.77", true),
            ("198.19.64.1", false),
            ("198.19.64.254", false),
            ("198.19.65.2", false),
            ("8.8.8.8", false),
            ("fd72:6f72:7175:40::2", true),
            ("fd72:6f72:7175:40::1", false),
            ("2001:db8::1", false),
            ("fe80::2", false),
        ] {
            assert_eq!(network.may_send_from(address.parse().unwrap()), may, "{address}");
        }
    }

    #[test]
    fn a_subnet_has_room_and_no_host_bits() {
        assert!(Subnet4::parse("198.19.64.0/24").is_some());
        for text in ["198.19.64.1/24", "10.0.0.0/30", "10.0.0.0/0", "10.0.0.0/33", "10.0.0.0", "x/24", "fd00::/64"] {
            assert!(Subnet4::parse(text).is_none(), "{text}");
        }
        let small = Network::new(Subnet4::parse("10.1.2.16/28").unwrap(), Ipv6Addr::UNSPECIFIED, true, true);
        assert_eq!(small.v4.host, Ipv4Addr::new(10, 1, 2, 30));
        let large = Network::new(Subnet4::parse("10.0.0.0/8").unwrap(), Ipv6Addr::UNSPECIFIED, true, true);
        assert_eq!(large.v4.host, Ipv4Addr::new(10, 0, 0, 254));
    }

    #[test]
    fn the_guest_is_told_its_addresses() {
        assert_eq!(
            network().command_line(),
            "rorqual.net=198.19.64.2/24,198.19.64.1,198.19.64.254 \
             rorqual.net6=fd72:6f72:7175:40::2/64,fd72:6f72:7175:40::1,fd72:6f72:7175:40::fe"
        );
    }
}
