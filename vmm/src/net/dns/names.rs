//! The names that the gateway answers by itself: those of the host, the gateway and the machine, and the reverse names
//! of their addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message::{A, AAAA, ANY, NAME_ERROR, NO_ERROR, PTR, Question, Record, answer};
use crate::net::network::{Addresses, Network};

/// Zones that only the gateway answers.
const ZONES: [&str; 2] = ["docker.internal", "rorqual.internal"];

/// Local names with their addresses.
#[derive(Debug)]
pub(super) struct Names {
    all: Vec<(String, [IpAddr; 2])>,
    /// Zones of reverse names for addresses of the machine's network.
    reverse_zones: Vec<String>,
}

impl Names {
    /// The names of `machine` in `network`.
    pub(super) fn new(machine: &str, network: &Network) -> Self {
        let pair = |of4: fn(&Addresses<Ipv4Addr>) -> Ipv4Addr, of6: fn(&Addresses<Ipv6Addr>) -> Ipv6Addr| {
            [of4(&network.v4).into(), of6(&network.v6).into()]
        };
        let all = vec![
            ("host.docker.internal".to_owned(), pair(|v4| v4.host, |v6| v6.host)),
            ("gateway.docker.internal".to_owned(), pair(|v4| v4.gateway, |v6| v6.gateway)),
            (format!("{}.rorqual.internal", machine.to_ascii_lowercase()), pair(|v4| v4.guest, |v6| v6.guest)),
        ];
        let gateway = [network.v4.gateway.into(), network.v6.gateway.into()];
        // Skips as many labels as distinguish the addresses of one network: a byte, or half of 128 bits.
        let reverse_zones = gateway
            .map(|address: IpAddr| {
                let name = reverse_name(address);
                let host_labels = if address.is_ipv4() { 1 } else { 16 };
                name.splitn(host_labels + 1, '.').last().unwrap_or_default().to_owned()
            })
            .into();
        Self { all, reverse_zones }
    }

    /// The answer to a question about a local name; None if the name is not local.
    pub(super) fn answer(&self, query: &[u8], question: &Question) -> Option<Vec<u8>> {
        let mut zones = ZONES.iter().copied().chain(self.reverse_zones.iter().map(String::as_str));
        let zone = zones.find(|zone| is_within(&question.name, zone))?;
        let (mut code, mut records) = (NAME_ERROR, Vec::new());
        if question.name == zone {
            code = NO_ERROR;
        }
        for (name, addresses) in &self.all {
            if *name == question.name {
                code = NO_ERROR;
                records.extend(
                    addresses
                        .iter()
                        .filter(|address| asked_for(address, question.kind))
                        .map(|address| Record::Address(*address)),
                );
            } else if name.ends_with(&format!(".{}", question.name)) {
                // A name exists below it (RFC 8020).
                code = NO_ERROR;
            }
            if addresses.iter().any(|address| reverse_name(*address) == question.name) {
                code = NO_ERROR;
                if matches!(question.kind, PTR | ANY) {
                    records.push(Record::Name(name.clone()));
                }
            }
        }
        if !question.internet {
            records.clear();
        }
        Some(answer(query, question.end, code, &records, Some(zone)))
    }
}

fn asked_for(address: &IpAddr, kind: u16) -> bool {
    match kind {
        A => address.is_ipv4(),
        AAAA => address.is_ipv6(),
        kind => kind == ANY,
    }
}

fn is_within(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The reverse name of an address (RFC 1035, section 3.5; RFC 3596, section 2.5).
fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let nibbles = address.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            let labels: Vec<_> = nibbles.map(|nibble| format!("{nibble:x}")).collect();
            format!("{}.ip6.arpa", labels.join("."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::dns::message::{self, Query};
    use crate::net::network::tests::network;
    use crate::net::wire::word;

    /// Code, records, and the last bytes of the answer; None when the name is not local.
    fn ask(name: &str, kind: u16) -> Option<(u8, u16, Vec<u8>)> {
        let query = message::query(1, name, kind);
        let Query::Ask(question) = message::read_query(&query) else { panic!("{name}") };
        let answer = Names::new("default", &network()).answer(&query, &question)?;
        Some((answer[3] & 15, word(&answer, 6).unwrap(), answer))
    }

    #[test]
    fn the_host_the_gateway_and_the_machine_have_both_kinds_of_addresses() {
        for (name, last) in
            [("host.docker.internal", 254), ("Gateway.Docker.Internal", 1), ("default.rorqual.internal", 2)]
        {
            let (code, records, answer) = ask(name, A).unwrap();
            assert_eq!((code, records), (NO_ERROR, 1), "{name}");
            assert!(answer.ends_with(&[198, 19, 64, last]), "{name}");
            let (_, records, answer) = ask(name, AAAA).unwrap();
            assert_eq!((records, answer.last()), (1, Some(&last)), "{name}");
            assert_eq!(ask(name, ANY).unwrap().1, 2);
        }
    }

    #[test]
    fn a_no_is_said_in_the_right_way() {
        // The name is there, without such a record.
        let (code, records, answer) = ask("host.docker.internal", 15).unwrap();
        assert_eq!((code, records, word(&answer, 8)), (NO_ERROR, 0, Some(1)));
        // It is not there.
        let (code, _, answer) = ask("nothing.docker.internal", A).unwrap();
        assert_eq!((code, word(&answer, 8)), (NAME_ERROR, Some(1)));
        assert_eq!(ask("docker.internal", A).unwrap().0, NO_ERROR);
        // Others' names are not answered here.
        for name in ["example.org", "internal", "xdocker.internal", "metadata.google.internal", "8.8.8.8.in-addr.arpa"]
        {
            assert_eq!(ask(name, A), None, "{name}");
        }
    }

    #[test]
    fn addresses_of_the_network_have_names() {
        let (code, records, answer) = ask("254.64.19.198.in-addr.arpa", PTR).unwrap();
        assert_eq!((code, records), (NO_ERROR, 1));
        assert!(answer.ends_with(&message::encode_name("host.docker.internal")));
        assert_eq!(ask("77.64.19.198.in-addr.arpa", PTR).unwrap().0, NAME_ERROR);
        assert_eq!(ask(&reverse_name(network().v6.guest.into()), PTR).unwrap().1, 1);
    }
}
