//! The addresses of a machine's network, and where a packet of the guest may go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::wire::{Mac, Unreachable};

/// Hardware address of the gateway: locally administered.
pub(crate) const GATEWAY_MAC: Mac = [0x52, 0x72, 0x71, 0, 0, 1];
/// Hardware address of the guest, the same on every machine, as each has a link of its own.
pub const GUEST_MAC: Mac = [0x52, 0x72, 0x71, 0, 0, 2];
/// Hardware addresses of the sender and the receiver of a frame, for each direction.
pub(crate) const TO_GUEST: (Mac, Mac) = (GATEWAY_MAC, GUEST_MAC);
pub(crate) const FROM_GUEST: (Mac, Mac) = (GUEST_MAC, GATEWAY_MAC);
/// Longest IP packet of the link, in bytes. The host cuts packets that leave it; nothing is cut on the way to the
/// guest.
pub const MTU: u16 = 65_520;

/// Metadata services of clouds, which hand out a machine's secrets, at addresses that are not link-local.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254)),
];

/// An IPv4 network: its first address, whose host bits are zero, and its prefix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Subnet4 {
    /// First address.
    pub address: Ipv4Addr,
    /// Length of the prefix, in bits.
    pub prefix: u8,
}

impl Subnet4 {
    /// A network of at least 16 addresses, or None.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        let subnet = Self { address, prefix };
        ((8..=28).contains(&prefix) && address.to_bits() & !subnet.mask() == 0).then_some(subnet)
    }

    /// Parses text such as `198.19.64.0/24`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        Self::new(address.parse().ok()?, prefix.parse().ok()?)
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }

    /// Whether `address` belongs to the network.
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

/// The three special addresses of one IP version, and their network.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Addresses<A> {
    /// The gateway: routes, resolves names, answers pings.
    pub gateway: A,
    /// The guest.
    pub guest: A,
    /// The address that stands for the host's loopback address.
    pub host: A,
    /// Length of the network's prefix, in bits.
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

/// Where a packet of the guest goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Destination {
    /// To the gateway itself.
    Gateway,
    /// To this address, by a socket of the host.
    Socket(IpAddr),
    /// Nowhere; the guest receives the reason.
    Refused(Unreachable),
    /// Nowhere, silently: it goes to many, or has no address that could reply.
    Dropped,
}

impl Network {
    /// The network with these subnets. `prefix6` is 64 bits long.
    pub fn new(subnet: Subnet4, prefix6: Ipv6Addr, host_access: bool, block_link_local: bool) -> Self {
        let nth6 = |number: u128| Ipv6Addr::from_bits(prefix6.to_bits() | number);
        // The last but one of the first 256 addresses, or of a smaller network.
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
        // To its own system, network 0 is the host itself; 240.0.0.0/4 is reserved.
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
        // IPv6 addresses that embed IPv4 ones (mapped, compatible, ::, ::1) would reach the host's loopback.
        let embedded = address.segments()[..5] == [0; 5];
        // The host's link-local addresses mean nothing on this link.
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

    /// Whether the guest may send from `address`: it belongs to its network and not to the gateway.
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

    /// The gateway's address in the same IP version as `other`, to send errors from.
    pub(crate) fn gateway_beside(&self, other: IpAddr) -> IpAddr {
        match other {
            IpAddr::V4(_) => self.v4.gateway.into(),
            IpAddr::V6(_) => self.v6.gateway.into(),
        }
    }

    /// The part of the kernel command line that the guest reads (docs/contracts.md, "Kernel command line").
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
