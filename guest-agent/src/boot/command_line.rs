//! What the daemon passes to the agent on the kernel's command line (docs/contracts.md, "Kernel command line").

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The machine's addresses in one version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addresses<A> {
    /// The machine's own address, and the bits of its network's prefix.
    pub(crate) own: (A, u8),
    /// The gateway, which also resolves names.
    pub(crate) gateway: A,
    /// The address that stands for the host.
    pub(crate) host: A,
}

impl<A: FromStr + Into<IpAddr> + Copy> Addresses<A> {
    /// Reads `198.19.64.2/24,198.19.64.1,198.19.64.254`.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(',');
        let (own, prefix) = words.next()?.split_once('/')?;
        let own: A = own.parse().ok()?;
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= if own.into().is_ipv4() { 32 } else { 128 })?;
        let parsed =
            Self { own: (own, prefix), gateway: words.next()?.parse().ok()?, host: words.next()?.parse().ok()? };
        words.next().is_none().then_some(parsed)
    }
}

/// The machine's network, as the monitor describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NetworkSettings {
    /// `rorqual.net`
    pub(crate) v4: Option<Addresses<Ipv4Addr>>,
    /// `rorqual.net6`
    pub(crate) v6: Option<Addresses<Ipv6Addr>>,
    /// `rorqual.search`: domains in which short names are looked up.
    pub(crate) search: Vec<String>,
}

/// The parameters the agent knows. All others belong to the kernel or to other programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandLine {
    /// `rorqual.machine`: name of the machine, which becomes the hostname.
    pub(crate) machine: String,
    /// `rorqual.log`: filter of the agent's own log.
    pub(crate) log: String,
    /// The network; empty for a machine without one.
    pub(crate) network: NetworkSettings,
}

impl Default for CommandLine {
    fn default() -> Self {
        Self { machine: "rorqual".to_owned(), log: "info".to_owned(), network: NetworkSettings::default() }
    }
}

impl CommandLine {
    /// Reads the text of `/proc/cmdline`. The last of a repeated parameter applies, as in the kernel. An empty or
    /// invalid machine name leaves the default, since a guest without its name still works.
    pub(crate) fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        for word in words(text) {
            match word.split_once('=') {
                Some(("rorqual.machine", name)) if is_hostname(name) => name.clone_into(&mut parsed.machine),
                Some(("rorqual.log", filter)) if !filter.is_empty() => filter.clone_into(&mut parsed.log),
                Some(("rorqual.net", text)) => parsed.network.v4 = Addresses::parse(text),
                Some(("rorqual.net6", text)) => parsed.network.v6 = Addresses::parse(text),
                Some(("rorqual.search", text)) => {
                    parsed.network.search = text.split(',').filter(|name| is_domain(name)).map(str::to_owned).collect();
                }
                _ => {}
            }
        }
        parsed
    }
}

/// Splits at white space, except within double quotes, as the kernel's own parser does.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            _ if character.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            _ => word.push(character),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

fn is_domain(name: &str) -> bool {
    (1..=253).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

fn is_hostname(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_and_the_filter_are_read() {
        let parsed = CommandLine::parse("quiet rorqual.machine=default mem=2G rorqual.log=debug\n");
        assert_eq!((parsed.machine.as_str(), parsed.log.as_str()), ("default", "debug"));
    }

    #[test]
    fn addresses_are_read_and_invalid_ones_left_out() {
        let text = "rorqual.net=198.19.64.2/24,198.19.64.1,198.19.64.254 rorqual.net6=fd00::2/64,fd00::1,fd00::fe \
                    rorqual.search=a.example,/,b";
        let network = CommandLine::parse(text).network;
        let v4 = network.v4.unwrap();
        assert_eq!((v4.own.1, v4.gateway, v4.host), (24, [198, 19, 64, 1].into(), [198, 19, 64, 254].into()));
        assert_eq!(network.v6.unwrap().own, ("fd00::2".parse().unwrap(), 64));
        assert_eq!(network.search, ["a.example", "b"]);
        for text in [
            "1.2.3.4/33,1.2.3.1,1.2.3.5",
            "1.2.3.4,1.2.3.1,1.2.3.5",
            "1.2.3.4/24,1.2.3.1",
            "x/24,1.2.3.1,1.2.3.5",
            "1.2.3.4/24,1.2.3.1,1.2.3.5,x",
        ] {
            assert_eq!(CommandLine::parse(&format!("rorqual.net={text}")).network.v4, None, "{text}");
        }
    }

    #[test]
    fn an_empty_line_leaves_the_defaults() {
        assert_eq!(CommandLine::parse("console=ttyS0 rorqual.machine rorqual.log="), CommandLine::default());
    }

    #[test]
    fn the_last_of_a_repeated_parameter_applies() {
        assert_eq!(CommandLine::parse("rorqual.machine=a rorqual.machine=b").machine, "b");
    }

    #[test]
    fn a_quoted_filter_may_hold_spaces() {
        assert_eq!(CommandLine::parse(r#"rorqual.log="info, h2=off" x"#).log, "info, h2=off");
    }

    #[test]
    fn a_name_that_cannot_be_a_hostname_is_left_out() {
        for name in ["a/b", "ü", &"x".repeat(64)] {
            assert_eq!(CommandLine::parse(&format!("rorqual.machine={name}")).machine, "rorqual", "{name}");
        }
    }
}
