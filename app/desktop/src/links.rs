//! Addresses from outside or leading outside, each accepted only in the narrowest form that works: deep links
//! (`rorqual://container/<id>`, `rorqual://image/<reference>`) and pages of published ports.

use std::net::IpAddr;

use rorqual_backend::contract::Container;
use tauri::Url;

/// The object a deep link shows. A link only shows: it never starts, stops or changes anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A container, by identifier or name.
    Container(String),
    /// An image, by identifier or reference.
    Image(String),
}

/// Longest accepted name, in bytes; docker's names and references are shorter.
const MOST: usize = 255;

impl Target {
    /// Parses a deep link; returns `None` for anything else.
    pub(crate) fn parse(link: &str) -> Option<Self> {
        let (kind, name) = link.strip_prefix("rorqual://")?.split_once('/')?;
        if name.is_empty() || name.len() > MOST || !name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            return None;
        }
        let only = |more: &str| name.chars().all(|letter| letter.is_ascii_alphanumeric() || more.contains(letter));
        match kind {
            "container" if only("_.-") => Some(Self::Container(name.to_owned())),
            "image" if only("_.-/:@") && !name.contains("//") && !name.contains("..") => {
                Some(Self::Image(name.to_owned()))
            }
            _ => None,
        }
    }
}

/// The address of a published TCP port, for a browser on this computer.
pub(crate) fn port_url(address: &str, port: u16) -> String {
    match address.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() || address.is_loopback() => format!("http://localhost:{port}/"),
        Ok(IpAddr::V6(address)) => format!("http://[{address}]:{port}/"),
        Ok(IpAddr::V4(address)) => format!("http://{address}:{port}/"),
        Err(_) => format!("http://localhost:{port}/"),
    }
}

/// Whether `url` is a page of a port that one of `containers` publishes; only these open outside.
pub(crate) fn is_published(url: &Url, containers: &[Container]) -> bool {
    let Some(port) = url.port_or_known_default() else { return false };
    if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
        return false;
    }
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    containers.iter().flat_map(|container| &container.ports).any(|published| {
        published.host_port == Some(port) && (local || published.host_address.as_deref() == Some(host))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{container, published};

    #[test]
    fn a_deep_link_names_a_container_or_an_image() {
        assert_eq!(Target::parse("rorqual://container/web_1"), Some(Target::Container("web_1".to_owned())));
        let image = "registry.local:5000/team/app:1.2@sha256:00ff";
        assert_eq!(Target::parse(&format!("rorqual://image/{image}")), Some(Target::Image(image.to_owned())));
    }

    #[test]
    fn anything_else_is_no_deep_link() {
        for link in [
            "rorqual://container/",
            "rorqual://container",
            "rorqual:container/web",
            "https://container/web",
            "rorqual://container/../x",
            "rorqual://container/a/b",
            "rorqual://container/web?stop=1",
            "rorqual://container/web#x",
            "rorqual://container/we%62",
            "rorqual://container/-rf",
            "rorqual://container/');alert(1)//",
            "rorqual://container/wéb",
            "rorqual://user@container/web",
            "rorqual://image/a//b",
            "rorqual://image/a/../../b",
            "rorqual://image/\"><script>",
            "rorqual://volume/data",
            "rorqual://Container/web",
        ] {
            assert_eq!(Target::parse(link), None, "{link}");
        }
        assert_eq!(Target::parse(&format!("rorqual://container/{}", "a".repeat(256))), None);
    }

    #[test]
    fn a_port_is_opened_where_a_browser_reaches_it() {
        assert_eq!(port_url("0.0.0.0", 8080), "http://localhost:8080/");
        assert_eq!(port_url("::", 8080), "http://localhost:8080/");
        assert_eq!(port_url("127.0.0.1", 80), "http://localhost:80/");
        assert_eq!(port_url("192.168.7.2", 80), "http://192.168.7.2:80/");
        assert_eq!(port_url("fd00::2", 80), "http://[fd00::2]:80/");
    }

    #[test]
    fn only_published_ports_are_opened_outside() {
        let containers = [container("web", [published("0.0.0.0", 8080, 80), published("192.168.7.2", 9000, 90)])];
        let opens = |url: &str| is_published(&url.parse().unwrap(), &containers);
        for url in
            ["http://localhost:8080/a?b", "https://127.0.0.1:8080/", "http://[::1]:8080", "http://192.168.7.2:9000"]
        {
            assert!(opens(url), "{url}");
        }
        for url in [
            "http://localhost:8081/",
            "http://192.168.7.2:8080/",
            "http://example.org:8080/",
            "http://localhost.example.org:8080/",
            "http://localhost@example.org:8080/",
            "http://me@localhost:8080/",
            "file:///etc/passwd",
            "ftp://localhost:8080/",
            "javascript:alert(1)",
        ] {
            assert!(!opens(url), "{url}");
        }
    }
}
