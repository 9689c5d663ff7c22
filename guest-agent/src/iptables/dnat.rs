//! The rules by which dockerd leads a port to a container.

use crate::ports::Transport;

/// The word after `option` in a rule.
pub(super) fn value<'a>(rule: &'a [String], option: &str) -> Option<&'a str> {
    let at = rule.iter().position(|word| word == option)?;
    rule.get(at + 1).map(String::as_str)
}

/// The port that a rule leads elsewhere, if it does.
pub(super) fn port_of(rule: &[String]) -> Option<(Transport, u16)> {
    let transport = match value(rule, "-p")? {
        "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        _ => return None,
    };
    (value(rule, "-j")? == "DNAT").then_some(())?;
    Some((transport, value(rule, "--dport")?.parse().ok()?))
}
