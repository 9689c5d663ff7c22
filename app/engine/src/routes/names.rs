//! The meaning of a host name.

/// The domain of all names. Browsers and the system's resolver lead it and everything below it to loopback (RFC 6761
/// §6.3).
pub const DOMAIN: &str = "rorqual.localhost";
/// Longest host name (RFC 1035 §2.3.4).
const LONGEST: usize = 253;

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The list of all containers.
    List,
    /// The container or service of this name, in lower case.
    Container(String),
}

/// Reads a host name without its port; `None` is a name that is not served here.
pub(super) fn wanted(host: &str) -> Option<Wanted> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if host == DOMAIN {
        return Some(Wanted::List);
    }
    let name = host.strip_suffix(DOMAIN)?.strip_suffix('.')?;
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    let whole = host.len() <= LONGEST && name.bytes().all(fits) && name.split('.').all(|label| !label.is_empty());
    whole.then(|| Wanted::Container(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_below_the_domain_are_containers() {
        assert_eq!(wanted("rorqual.localhost"), Some(Wanted::List));
        assert_eq!(wanted("Rorqual.LocalHost."), Some(Wanted::List));
        assert_eq!(wanted("Web_1.rorqual.localhost"), Some(Wanted::Container("web_1".to_owned())));
        assert_eq!(wanted("db.shop.rorqual.localhost"), Some(Wanted::Container("db.shop".to_owned())));
    }

    #[test]
    fn every_other_name_is_foreign() {
        for host in [
            "",
            "localhost",
            "127.0.0.1",
            "[::1]",
            "example.com",
            "rorqual.localhost.example.com",
            "xrorqual.localhost",
            ".rorqual.localhost",
            "a..rorqual.localhost",
            "a b.rorqual.localhost",
            "é.rorqual.localhost",
            &format!("{}.rorqual.localhost", "a".repeat(250)),
        ] {
            assert_eq!(wanted(host), None, "{host:?}");
        }
    }
}
