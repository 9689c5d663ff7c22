//! The rule by which containers see TCP clients of the host's localhost under the address of their own network's
//! gateway, as on a native engine. Such clients enter the guest from the address that stands for the host.

use super::command::{Action, Command, Family};
use crate::boot::NetworkSettings;

/// The rules that dockerd's first rule of each family brings with it.
pub(super) struct HostRules(Vec<Command>);

impl HostRules {
    /// Those of a machine with this network.
    pub(super) fn new(network: &NetworkSettings) -> Self {
        let v4 = network.v4.map(|v4| rule(Family::Ipv4, &v4.host.to_string()));
        let v6 = network.v6.map(|v6| rule(Family::Ipv6, &v6.host.to_string()));
        Self(v4.into_iter().chain(v6).collect())
    }

    /// The family's rule, once. The kernel has its table from dockerd's first command for it on.
    pub(super) fn take(&mut self, family: Family) -> Option<Command> {
        let place = self.0.iter().position(|rule| rule.family == family)?;
        Some(self.0.swap_remove(place))
    }
}

fn rule(family: Family, host: &str) -> Command {
    // Datagrams keep the address: a container knows it as host.docker.internal.
    let words = ["-s", host, "-p", "tcp", "-j", "MASQUERADE"].map(str::to_owned);
    Command { family, table: "nat".to_owned(), chain: "POSTROUTING".to_owned(), action: Action::Append(words.to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::CommandLine;

    #[test]
    fn each_family_has_its_rule_once() {
        let line = "rorqual.net=10.0.0.2/24,10.0.0.1,10.0.0.254 rorqual.net6=fd00::2/64,fd00::1,fd00::fe";
        let mut rules = HostRules::new(&CommandLine::parse(line).network);
        let line = |rule: Option<Command>| rule.map(|rule| (rule.table.clone(), rule.line()));
        let expected = |host: &str| Some(("nat".to_owned(), format!("-A POSTROUTING -s {host} -p tcp -j MASQUERADE")));
        assert_eq!(line(rules.take(Family::Ipv6)), expected("fd00::fe"));
        assert_eq!(line(rules.take(Family::Ipv4)), expected("10.0.0.254"));
        assert_eq!(rules.take(Family::Ipv4), None);
        assert_eq!(HostRules::new(&NetworkSettings::default()).take(Family::Ipv4), None);
    }
}
