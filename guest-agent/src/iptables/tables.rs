//! What dockerd has made of the tables, as far as that can be known without asking the kernel.

use std::collections::HashMap;

use super::command::{Action, Command, Family};

const NO_CHAIN: &str = "iptables: No chain/target/match by that name.";
const NO_RULE: &str = "iptables: Bad rule (does a matching rule exist in that chain?).";
const CHAIN_EXISTS: &str = "iptables: Chain already exists.";

/// What is known of a command before it is carried out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    Succeeds,
    Fails(&'static str),
    AskKernel,
    /// The table was changed in a way that was not tracked.
    Unknown,
}

/// The rules of a chain, each in the words that added it.
type Rules = Vec<Vec<String>>;

/// The chains and rules of both families. A rule is kept in dockerd's words, since dockerd checks for it in the same
/// words.
#[derive(Default)]
pub(super) struct Tables {
    chains: HashMap<(Family, String), HashMap<String, Rules>>,
    lost_track: [bool; 2],
}

impl Tables {
    /// Predicts the outcome of a command.
    pub(super) fn foresee(&self, command: &Command) -> Known {
        if self.lost_track[command.family as usize] {
            return Known::Unknown;
        }
        let rules = self.rules(command);
        let has = |rule: &Vec<String>| rules.is_some_and(|rules| rules.contains(rule));
        match &command.action {
            Action::Check(rule) | Action::Delete(rule) if !has(rule) => Known::Fails(NO_RULE),
            Action::Flush | Action::Remove | Action::List if rules.is_none() && !built_in(&command.chain) => {
                Known::Fails(NO_CHAIN)
            }
            Action::Create if rules.is_some() => Known::Fails(CHAIN_EXISTS),
            Action::List => Known::Succeeds,
            _ => Known::AskKernel,
        }
    }

    /// Applies a command that was carried out.
    pub(super) fn apply(&mut self, command: &Command) {
        let chains = self.chains.entry((command.family, command.table.clone())).or_default();
        let chain = command.chain.clone();
        match &command.action {
            Action::Append(rule) | Action::Insert(rule) => chains.entry(chain).or_default().push(rule.clone()),
            Action::Delete(rule) => {
                let rules = chains.entry(chain).or_default();
                if let Some(at) = rules.iter().position(|kept| kept == rule) {
                    rules.remove(at);
                }
            }
            Action::Create => drop(chains.insert(chain, Vec::new())),
            Action::Flush => chains.entry(chain).or_default().clear(),
            Action::Remove => drop(chains.remove(&chain)),
            Action::Check(_) | Action::Policy(_) | Action::List => {}
        }
    }

    /// Notes a command that was not understood. Unless it only asks, the family is no longer tracked.
    pub(super) fn forget(&mut self, family: Family, words: &[&str]) {
        let question =
            |word: &&str| ["-V", "--version", "-L", "--list", "-S", "--list-rules", "-h", "--help"].contains(word);
        if !words.iter().any(question) {
            self.lost_track[family as usize] = true;
        }
    }

    fn rules(&self, command: &Command) -> Option<&Rules> {
        self.chains.get(&(command.family, command.table.clone()))?.get(&command.chain)
    }
}

fn built_in(chain: &str) -> bool {
    ["INPUT", "FORWARD", "OUTPUT", "PREROUTING", "POSTROUTING"].contains(&chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Command {
        Command::of_line(line).unwrap()
    }

    fn carried_out(lines: &[&str]) -> Tables {
        let mut tables = Tables::default();
        for line in lines {
            let command = command(line);
            assert_eq!(tables.foresee(&command), Known::AskKernel, "{line}");
            tables.apply(&command);
        }
        tables
    }

    #[test]
    fn what_was_never_added_is_known_to_be_missing() {
        let tables = Tables::default();
        assert_eq!(tables.foresee(&command("iptables -C FORWARD -j DOCKER")), Known::Fails(NO_RULE));
        assert_eq!(tables.foresee(&command("iptables -t nat -D OUTPUT -j DOCKER")), Known::Fails(NO_RULE));
        assert_eq!(tables.foresee(&command("iptables -nL DOCKER")), Known::Fails(NO_CHAIN));
        assert_eq!(tables.foresee(&command("iptables -F DOCKER")), Known::Fails(NO_CHAIN));
        assert_eq!(tables.foresee(&command("iptables -F FORWARD")), Known::AskKernel);
        assert_eq!(tables.foresee(&command("iptables -P FORWARD DROP")), Known::AskKernel);
    }

    #[test]
    fn what_was_added_is_checked_with_the_kernel_and_forgotten_when_deleted() {
        let mut tables = carried_out(&["iptables -N DOCKER", "iptables -A DOCKER -j RETURN"]);
        assert_eq!(tables.foresee(&command("iptables -N DOCKER")), Known::Fails(CHAIN_EXISTS));
        assert_eq!(tables.foresee(&command("iptables -n -L DOCKER")), Known::Succeeds);
        assert_eq!(tables.foresee(&command("iptables -C DOCKER -j RETURN")), Known::AskKernel);
        tables.apply(&command("iptables -D DOCKER -j RETURN"));
        assert_eq!(tables.foresee(&command("iptables -C DOCKER -j RETURN")), Known::Fails(NO_RULE));
        tables.apply(&command("iptables -X DOCKER"));
        assert_eq!(tables.foresee(&command("iptables -nL DOCKER")), Known::Fails(NO_CHAIN));
    }

    #[test]
    fn families_and_tables_are_kept_apart() {
        let tables = carried_out(&["iptables -t nat -N DOCKER"]);
        assert_eq!(tables.foresee(&command("iptables -nL DOCKER")), Known::Fails(NO_CHAIN));
        assert_eq!(tables.foresee(&command("ip6tables -t nat -nL DOCKER")), Known::Fails(NO_CHAIN));
    }

    #[test]
    fn a_command_that_was_not_understood_ends_tracking_of_its_family() {
        let mut tables = carried_out(&["iptables -N DOCKER"]);
        tables.forget(Family::Ipv4, &["--wait", "-L", "-n"]);
        assert_eq!(tables.foresee(&command("iptables -nL DOCKER")), Known::Succeeds);
        tables.forget(Family::Ipv4, &["-D", "FORWARD", "2"]);
        assert_eq!(tables.foresee(&command("iptables -nL DOCKER")), Known::Unknown);
        assert_eq!(tables.foresee(&command("ip6tables -nL DOCKER")), Known::Fails(NO_CHAIN));
    }
}
