//! The host's resolvers, as its `resolv.conf` presently names them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The C library uses no more (resolv.conf(5)).
const MAX_RESOLVERS: usize = 3;
const PORT: u16 = 53;

/// Identifies one state of the file.
type Version = (u64, u64, i64, i64, u64);

/// The resolvers of the host.
#[derive(Debug)]
pub(crate) struct Resolvers {
    file: PathBuf,
    version: Option<Version>,
    addresses: Vec<SocketAddr>,
}

impl Resolvers {
    /// The resolvers that `file` names.
    pub(crate) fn of(file: &Path) -> Self {
        Self { file: file.to_owned(), version: None, addresses: vec![local()] }
    }

    /// Uses these from now on, until the file changes.
    #[cfg(test)]
    pub(super) fn fix(&mut self, addresses: Vec<SocketAddr>) {
        self.now();
        self.addresses = addresses;
    }

    /// Their addresses, read again if the file has changed.
    pub(crate) fn now(&mut self) -> &[SocketAddr] {
        let version = fs::metadata(&self.file)
            .map(|file| (file.dev(), file.ino(), file.mtime(), file.mtime_nsec(), file.size()))
            .ok();
        if version != self.version || version.is_none() {
            self.version = version;
            self.addresses = parse(&fs::read_to_string(&self.file).unwrap_or_default());
            tracing::debug!(resolvers = ?self.addresses, "the host's resolvers");
        }
        &self.addresses
    }
}

/// The resolver of a host that names none.
fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, PORT).into()
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let named = words_of(text, "nameserver").into_iter().filter_map(|words| address(words.first()?));
    let mut addresses: Vec<_> = named.take(MAX_RESOLVERS).collect();
    if addresses.is_empty() {
        addresses.push(local());
    }
    addresses
}

/// The domains in which the guest is to look for short names: those of the host, as `resolv_conf` lists them.
pub fn search_domains(resolv_conf: &Path) -> Vec<String> {
    search_domains_of(&fs::read_to_string(resolv_conf).unwrap_or_default())
}

/// The domains in which the host looks for short names (resolv.conf(5): the last `search` or `domain` line applies).
fn search_domains_of(text: &str) -> Vec<String> {
    let mut lines = text
        .lines()
        .filter(|line| line.split_whitespace().next().is_some_and(|word| word == "search" || word == "domain"));
    let last = lines.next_back().map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>()).unwrap_or_default();
    let fits = |name: &&str| {
        !name.is_empty()
            && name.len() <= 253
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
    };
    last.into_iter().map(|name| name.trim_end_matches('.')).filter(fits).take(6).map(str::to_owned).collect()
}

/// The words of each line that begins with `key`, without the key.
fn words_of<'t>(text: &'t str, key: &str) -> Vec<Vec<&'t str>> {
    let line_words = |line: &'t str| line.split_whitespace().collect::<Vec<_>>();
    text.lines().map(line_words).filter(|words| words.first() == Some(&key)).map(|words| words[1..].to_vec()).collect()
}

/// Parses an address; one of IPv6 may name its link: `fe80::1%eth0`.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, link) = text.split_once('%').unwrap_or((text, ""));
    match address.parse().ok()? {
        IpAddr::V4(address) => Some((address, PORT).into()),
        IpAddr::V6(address) => Some(SocketAddrV6::new(address, PORT, 0, scope(address, link)).into()),
    }
}

fn scope(address: Ipv6Addr, link: &str) -> u32 {
    if link.is_empty() || !address.is_unicast_link_local() {
        return 0;
    }
    link.parse().unwrap_or_else(|_| nix::net::if_::if_nametoindex(link).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_three_resolvers_are_taken() {
        let text = "# a comment\nnameserver 9.9.9.9\nsearch a.example\nnameserver fe80::1%1 # home\nnameserver x\n\
                    nameserver ::1\nnameserver 8.8.8.8\n";
        let addresses = parse(text);
        assert_eq!(addresses[0], "9.9.9.9:53".parse().unwrap());
        assert_eq!(addresses[1], SocketAddrV6::new("fe80::1".parse().unwrap(), 53, 0, 1).into());
        assert_eq!(addresses[2..], ["[::1]:53".parse().unwrap()]);
        assert_eq!(parse("options edns0\n"), ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn a_change_of_the_file_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("resolv.conf");
        let mut resolvers = Resolvers::of(&file);
        assert_eq!(resolvers.now(), ["127.0.0.1:53".parse().unwrap()]);
        fs::write(&file, "nameserver 127.0.0.53\n").unwrap();
        assert_eq!(resolvers.now(), ["127.0.0.53:53".parse().unwrap()]);
        // As programs do that manage it: another file takes its place.
        let other = directory.path().join("other");
        fs::write(&other, "nameserver 10.0.0.53\n").unwrap();
        fs::rename(&other, &file).unwrap();
        assert_eq!(resolvers.now(), ["10.0.0.53:53".parse().unwrap()]);
    }

    #[test]
    fn search_domains_are_those_of_the_last_line() {
        assert_eq!(search_domains_of("domain a.example\nsearch b.example. c bad/name\n"), ["b.example", "c"]);
        assert!(search_domains_of("nameserver 1.1.1.1\n").is_empty());
    }
}
