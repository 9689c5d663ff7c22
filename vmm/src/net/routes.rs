//! Chooses a network that clashes with none of the host's routes.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::network::Subnet4;

/// Networks for benchmarks (RFC 2544), which nobody routes and neither Docker nor VPNs use, and after them some that
/// are seldom used.
const CANDIDATES: [(Ipv4Addr, u8); 6] = [
    (Ipv4Addr::new(198, 19, 64, 0), 24),
    (Ipv4Addr::new(198, 19, 65, 0), 24),
    (Ipv4Addr::new(198, 18, 164, 0), 24),
    (Ipv4Addr::new(100, 127, 64, 0), 24),
    (Ipv4Addr::new(10, 213, 77, 0), 24),
    (Ipv4Addr::new(10, 66, 177, 0), 24),
];
/// A unique local network (RFC 4193). Its fourth group is the number of the candidate.
const CANDIDATE6: Ipv6Addr = Ipv6Addr::new(0xfd72, 0x6f72, 0x7175, 0x40, 0, 0, 0, 0);
/// Routes with shorter prefixes are default routes, perhaps cut in two.
const DEFAULT_ROUTE_BITS: u8 = 4;

/// The host's routes, without default routes.
#[derive(Debug, Default)]
pub struct Routes {
    v4: Vec<(Ipv4Addr, u8)>,
    v6: Vec<(Ipv6Addr, u8)>,
}

impl Routes {
    /// The host's present routes. A table that cannot be read counts as empty.
    pub fn of_host() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/proc/net/route"), &read("/proc/net/ipv6_route"))
    }

    fn parse(v4: &str, v6: &str) -> Self {
        let v4 = v4.lines().skip(1).filter_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            // The kernel prints its memory: network byte order, read in the processor's order.
            let number = |at: usize| u32::from_str_radix(words.get(at)?, 16).ok();
            let mask = number(7)?.swap_bytes();
            Some((Ipv4Addr::from_bits(number(1)?.swap_bytes()), mask.leading_ones() as u8))
        });
        let v6 = v6.lines().filter_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let address = u128::from_str_radix(words.first()?, 16).ok()?;
            Some((Ipv6Addr::from_bits(address), u8::from_str_radix(words.get(1)?, 16).ok()?))
        });
        Self {
            v4: v4.filter(|(_, bits)| *bits > DEFAULT_ROUTE_BITS).collect(),
            // Multicast routes belong to no network.
            v6: v6.filter(|(to, bits)| *bits > DEFAULT_ROUTE_BITS && !to.is_multicast()).collect(),
        }
    }

    /// A route that has an address in common with `subnet`.
    pub fn clash(&self, subnet: Subnet4) -> Option<(Ipv4Addr, u8)> {
        let overlaps = |&&(to, bits): &&(Ipv4Addr, u8)| {
            let shared = u32::MAX.checked_shl(32 - u32::from(bits.min(subnet.prefix))).unwrap_or(0);
            (to.to_bits() ^ subnet.address.to_bits()) & shared == 0
        };
        self.v4.iter().find(overlaps).copied()
    }

    /// The first candidate that does not clash, otherwise the first of all.
    pub fn choose(&self) -> Subnet4 {
        let candidates = CANDIDATES.map(|(address, prefix)| Subnet4 { address, prefix });
        candidates.into_iter().find(|subnet| self.clash(*subnet).is_none()).unwrap_or(candidates[0])
    }

    /// The first 64-bit network that does not clash.
    pub fn choose6(&self) -> Ipv6Addr {
        let clashes = |candidate: Ipv6Addr| {
            self.v6.iter().any(|&(to, bits)| {
                let shared = u128::MAX.checked_shl(128 - u32::from(bits.min(64))).unwrap_or(0);
                (to.to_bits() ^ candidate.to_bits()) & shared == 0
            })
        };
        let candidate = |number: u128| Ipv6Addr::from_bits(CANDIDATE6.to_bits() + (number << 64));
        (0..64).map(candidate).find(|address| !clashes(*address)).unwrap_or(CANDIDATE6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    fn route4(to: &str, mask: &str) -> String {
        let [to, mask] = [to, mask].map(|text| text.parse::<Ipv4Addr>().unwrap().to_bits().swap_bytes());
        format!("eth0\t{to:08X}\t00000000\t0001\t0\t0\t0\t{mask:08X}\t0\t0\t0\n")
    }

    #[test]
    fn a_route_of_the_host_moves_the_network() {
        let default = route4("0.0.0.0", "0.0.0.0");
        let none = Routes::parse(&format!("{HEAD}{default}"), "");
        assert_eq!(none.choose(), Subnet4::parse("198.19.64.0/24").unwrap());
        for (to, mask) in [("198.19.0.0", "255.255.192.0"), ("198.19.64.128", "255.255.255.255")] {
            let routes = Routes::parse(&format!("{HEAD}{default}{}", route4(to, mask)), "");
            assert_eq!(routes.choose() == none.choose(), to == "198.19.0.0", "{to}");
        }
        let benchmarks = route4("198.18.0.0", "255.254.0.0");
        let routes = Routes::parse(&format!("{HEAD}{benchmarks}"), "");
        assert_eq!(routes.choose(), Subnet4::parse("100.127.64.0/24").unwrap());
        assert_eq!(routes.clash(Subnet4::parse("198.19.1.0/24").unwrap()), Some((Ipv4Addr::new(198, 18, 0, 0), 15)));
    }

    #[test]
    fn a_default_route_in_two_halves_is_a_default_route() {
        let halves = route4("0.0.0.0", "128.0.0.0") + &route4("128.0.0.0", "128.0.0.0");
        assert_eq!(Routes::parse(&format!("{HEAD}{halves}"), "").choose(), Routes::default().choose());
    }

    #[test]
    fn a_route_of_the_host_moves_the_network_of_ipv6() {
        let line =
            |to: &str, bits: u8| format!("{to} {bits:02x} {} 00 {} 0 0 0 0 eth0\n", "0".repeat(32), "0".repeat(32));
        let default = line(&"0".repeat(32), 0);
        assert_eq!(Routes::parse("", &default).choose6(), CANDIDATE6);
        let taken = line("fd726f72717500400000000000000000", 64);
        assert_eq!(
            Routes::parse("", &(default + &taken)).choose6(),
            "fd72:6f72:7175:41::".parse::<Ipv6Addr>().unwrap()
        );
    }

    #[test]
    fn what_is_not_a_table_of_routes_holds_none() {
        let routes = Routes::parse("x\ny z\n\neth0 ZZ 0 0 0 0 0 FF\n", "1 2 3\n\nfd 4\n");
        assert_eq!(routes.choose(), Routes::default().choose());
        assert_eq!(Routes::of_host().v4.iter().filter(|(_, bits)| *bits == 0).count(), 0);
    }
}
