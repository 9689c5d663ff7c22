//! The forms of an iptables command that dockerd uses.

/// Which of the two programs a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    /// The restoring program of the family.
    pub(super) fn restore(self) -> &'static str {
        match self {
            Self::Ipv4 => "/usr/sbin/iptables-legacy-restore",
            Self::Ipv6 => "/usr/sbin/ip6tables-legacy-restore",
        }
    }

    /// The program that makes one change.
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Ipv4 => "/usr/sbin/iptables-legacy",
            Self::Ipv6 => "/usr/sbin/ip6tables-legacy",
        }
    }

    /// The family by firewalld's name for it.
    pub(super) fn of_firewalld(name: &str) -> Option<Self> {
        match name {
            "ipv4" => Some(Self::Ipv4),
            "ipv6" => Some(Self::Ipv6),
            _ => None,
        }
    }
}

/// What a command does with a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// `-A`, or `-I` at the head.
    Append(Vec<String>),
    Insert(Vec<String>),
    Delete(Vec<String>),
    Check(Vec<String>),
    /// `-N`.
    Create,
    /// `-F`.
    Flush,
    /// `-X`.
    Remove,
    /// `-P`: what happens to packets that match no rule.
    Policy(String),
    /// `-L`, of which dockerd only reads the exit status.
    List,
}

/// One command on one chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) family: Family,
    pub(super) table: String,
    pub(super) chain: String,
    pub(super) action: Action,
}

impl Command {
    /// Reads the arguments of a command. `None` if the form is not known here.
    pub(super) fn parse(family: Family, words: &[&str]) -> Option<Self> {
        let mut table = "filter";
        let mut words = words.iter().copied();
        let mut numeric = false;
        loop {
            let letter = match words.next()? {
                "--wait" | "-w" => continue,
                "-n" | "--numeric" => {
                    numeric = true;
                    continue;
                }
                "-t" => {
                    table = words.next()?;
                    continue;
                }
                "-A" => 'A',
                "-I" => 'I',
                "-D" => 'D',
                "-C" => 'C',
                "-N" => 'N',
                "-F" => 'F',
                "-X" => 'X',
                "-P" => 'P',
                "-L" | "-nL" => 'L',
                _ => return None,
            };
            let chain = words.next()?;
            let rule: Vec<String> = words.map(str::to_owned).collect();
            // Restore lines are split at blanks, and only words that dockerd does not write need quotes.
            let plain =
                |word: &str| !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || "\"'\\#*".contains(c));
            if !plain(table) || !plain(chain) || chain.starts_with('-') || !rule.iter().all(|word| plain(word)) {
                return None;
            }
            // `-I CHAIN 3 …` and `-D CHAIN 3` name a rule by number, which is not tracked here.
            let by_rule = rule.first().is_some_and(|word| word.starts_with('-') || word == "!");
            let action = match letter {
                'A' if by_rule => Action::Append(rule),
                'I' if by_rule => Action::Insert(rule),
                // dockerd also deletes the rule that has no conditions and no target.
                'D' if by_rule || rule.is_empty() => Action::Delete(rule),
                'C' if by_rule => Action::Check(rule),
                'N' if rule.is_empty() => Action::Create,
                'F' if rule.is_empty() => Action::Flush,
                'X' if rule.is_empty() => Action::Remove,
                'P' if matches!(rule.as_slice(), [policy] if !policy.starts_with('-')) => Action::Policy(rule.concat()),
                'L' if rule.is_empty() || rule == ["-n"] => Action::List,
                _ => return None,
            };
            if numeric && action != Action::List {
                return None;
            }
            return Some(Self { family, table: table.to_owned(), chain: chain.to_owned(), action });
        }
    }

    /// Reads a command line, the program's name first.
    #[cfg(test)]
    pub(super) fn of_line(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let family = match words.first()?.rsplit('/').next()? {
            "iptables" => Family::Ipv4,
            "ip6tables" => Family::Ipv6,
            _ => return None,
        };
        Self::parse(family, words.get(1..)?)
    }

    /// The line that has `iptables-restore` carry it out.
    pub(super) fn line(&self) -> String {
        let (option, rule): (&str, &[String]) = match &self.action {
            Action::Append(rule) => ("-A", rule),
            Action::Insert(rule) => ("-I", rule),
            Action::Delete(rule) => ("-D", rule),
            Action::Check(rule) => ("-C", rule),
            Action::Policy(policy) => ("-P", std::slice::from_ref(policy)),
            Action::Create => ("-N", &[]),
            Action::Flush => ("-F", &[]),
            Action::Remove => ("-X", &[]),
            Action::List => ("-L", &[]),
        };
        let mut line = format!("{option} {}", self.chain);
        for word in rule {
            line.push(' ');
            line.push_str(word);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Command> {
        Command::of_line(line)
    }

    #[test]
    fn a_rule_becomes_a_line_with_its_table_and_without_waiting() {
        let command =
            parse("/run/bin/iptables --wait -t nat -I POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE")
                .unwrap();
        assert_eq!((command.family, command.table.as_str()), (Family::Ipv4, "nat"));
        assert_eq!(command.line(), "-I POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE");
        assert_eq!(parse("ip6tables --wait -A FORWARD -j ACCEPT").unwrap().table, "filter");
    }

    #[test]
    fn the_empty_rule_can_be_deleted() {
        assert_eq!(parse("iptables --wait -t nat -D PREROUTING").unwrap().action, Action::Delete(Vec::new()));
    }

    #[test]
    fn a_policy_is_a_line_too() {
        let command = parse("ip6tables --wait -t filter -P FORWARD DROP").unwrap();
        assert_eq!(command.line(), "-P FORWARD DROP");
    }

    #[test]
    fn every_form_of_listing_a_chain_is_known() {
        for line in ["iptables --wait -t filter -n -L DOCKER", "iptables -t nat -nL DOCKER", "iptables -L DOCKER -n"] {
            assert_eq!(parse(line).unwrap().action, Action::List, "{line}");
        }
    }

    #[test]
    fn what_dockerd_does_not_write_is_left_to_the_real_program() {
        for line in [
            "iptables --version",
            "iptables -L",
            "iptables -S",
            "iptables -I FORWARD 2 -j DROP",
            "iptables -D FORWARD 2",
            "iptables -P FORWARD",
            "iptables -P FORWARD -j DROP",
            "iptables -A FORWARD",
            "iptables -A FORWARD -m comment --comment a\"b -j DROP",
            "nft -A FORWARD -j DROP",
            "iptables",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
        assert_eq!(Command::parse(Family::Ipv4, &["-A", "FORWARD", "-m", "comment", "--comment", "two words"]), None);
        assert_eq!(Command::parse(Family::Ipv4, &["-A", "FORWARD\nCOMMIT", "-j", "DROP"]), None);
    }
}
