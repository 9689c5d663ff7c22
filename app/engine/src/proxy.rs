//! Proxies for the guest: from `config.toml`, else from the daemon's environment.
//!
//! The guest reaches a proxy on this computer's loopback as `host.docker.internal`. Messages and logs never contain a
//! proxy's password: [`ProxyUrl`] formats itself without it.

use std::fmt;

use hyper::Uri;

/// Accepted schemes of a proxy's address.
const SCHEMES: [&str; 4] = ["http", "https", "socks5", "socks5h"];
/// Destinations always reached directly: this computer and the machine itself.
const NEVER: [&str; 5] = ["localhost", "127.0.0.0/8", "::1", "host.docker.internal", "gateway.docker.internal"];
/// The guest's name for this computer's loopback.
const HOST: &str = "host.docker.internal";

/// The address of a proxy: `http://user:password@proxy.example.com:3128`.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    scheme: String,
    /// User and password with the `@`, or empty.
    login: String,
    /// Host name or address, without the brackets of IPv6.
    host: String,
    port: u16,
}

impl ProxyUrl {
    /// Parses an address; without a scheme it is an HTTP proxy, as for curl.
    ///
    /// # Errors
    ///
    /// The expected form. The message leaves the text out, since it may contain a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wanted =
            "must be the address of a proxy such as \"http://proxy.example.com:3128\" or \"socks5://127.0.0.1:1080\"";
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = whole.parse().map_err(|_| wanted.to_owned())?;
        let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
        if !SCHEMES.contains(&scheme.as_str()) {
            return Err(format!("{wanted}: it may begin with {}", SCHEMES.join(", ")));
        }
        let authority = uri.authority().ok_or(wanted)?;
        let login = authority.as_str().rfind('@').map_or("", |end| &authority.as_str()[..=end]).to_owned();
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let named_port = authority.as_str()[login.len()..].rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
        let port = match (named_port, authority.port_u16()) {
            (Some(_), None | Some(0)) => return Err(format!("{wanted}: its port must be 1 to 65535")),
            (_, Some(port)) => port,
            (None, None) if scheme == "https" => 443,
            (None, None) if scheme == "http" => 80,
            (None, None) => 1080,
        };
        if host.is_empty() || uri.path_and_query().is_some_and(|path| !matches!(path.as_str(), "/" | "")) {
            return Err(format!("{wanted}, without a path"));
        }
        Ok(Self { scheme, login, host, port })
    }

    /// Whether the proxy listens on this computer's loopback.
    pub fn is_local(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        self.host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
    }

    /// The address with its password, as the guest and its containers reach it.
    pub fn for_guest(&self) -> String {
        let host = if self.is_local() { HOST } else { &self.host };
        // Programs in the guest leave resolving names to the proxy with `socks5` too.
        let scheme = if self.scheme == "socks5h" { "socks5" } else { &self.scheme };
        self.written(scheme, &self.login, host)
    }

    fn written(&self, scheme: &str, login: &str, host: &str) -> String {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        format!("{scheme}://{login}{host}:{}", self.port)
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = if self.login.is_empty() { "" } else { "(login)@" };
        formatter.write_str(&self.written(&self.scheme, login, &self.host))
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The value of a key in the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Use the environment's proxy.
    #[default]
    Environment,
    /// Use no proxy, even if the environment has one.
    Direct,
    /// Use this proxy.
    Proxy(ProxyUrl),
}

impl Choice {
    /// Parses a key: empty, `direct`, or an address.
    ///
    /// # Errors
    ///
    /// The same as [`ProxyUrl::parse`].
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => Ok(Self::Environment),
            "direct" => Ok(Self::Direct),
            address => ProxyUrl::parse(address).map(Self::Proxy),
        }
    }

    /// The key's text, with its password.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Environment => String::new(),
            Self::Direct => "direct".to_owned(),
            Self::Proxy(url) => url.written(&url.scheme, &url.login, &url.host),
        }
    }
}

/// Section `[proxy]` of the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyConfig {
    /// Proxy for HTTP.
    pub http: Choice,
    /// Proxy for HTTPS.
    pub https: Choice,
    /// Names and networks to reach directly; empty means the environment's.
    pub no_proxy: Option<String>,
    /// Builds and containers get the proxies too.
    pub containers: bool,
}

/// The proxies in effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proxies {
    http: Option<ProxyUrl>,
    https: Option<ProxyUrl>,
    no_proxy: String,
}

impl Proxies {
    /// Combines the settings with the environment, which `variable` reads.
    pub(crate) fn effective(config: &ProxyConfig, variable: impl Fn(&str) -> Option<String>) -> Self {
        let any =
            |name: &str| variable(&name.to_ascii_lowercase()).or_else(|| variable(name)).filter(|v| !v.is_empty());
        let of = |choice: &Choice, name: &str| match choice {
            Choice::Direct => None,
            Choice::Proxy(url) => Some(url.clone()),
            Choice::Environment => {
                let value = any(name).or_else(|| any("ALL_PROXY"))?;
                let url = ProxyUrl::parse(&value);
                url.inspect_err(|wanted| tracing::warn!("ignoring {name} of the environment: it {wanted}")).ok()
            }
        };
        Self {
            http: of(&config.http, "HTTP_PROXY"),
            https: of(&config.https, "HTTPS_PROXY"),
            no_proxy: config.no_proxy.clone().or_else(|| any("NO_PROXY")).unwrap_or_default(),
        }
    }

    /// Combines the settings with this process's environment.
    pub(crate) fn of_user(config: &ProxyConfig) -> Self {
        Self::effective(config, |name| std::env::var(name).ok())
    }

    /// The proxy for HTTP as the guest reaches it; empty means none.
    pub(crate) fn guest_http(&self) -> String {
        self.http.as_ref().map(ProxyUrl::for_guest).unwrap_or_default()
    }

    /// The proxy for HTTPS as the guest reaches it; empty means none.
    pub(crate) fn guest_https(&self) -> String {
        self.https.as_ref().map(ProxyUrl::for_guest).unwrap_or_default()
    }

    /// Destinations the guest reaches directly; empty without a proxy.
    pub(crate) fn guest_no_proxy(&self) -> String {
        if self.http.is_none() && self.https.is_none() {
            return String::new();
        }
        let own = self.no_proxy.split(',').map(str::trim).filter(|name| !name.is_empty());
        own.chain(NEVER).collect::<Vec<_>>().join(",")
    }

    /// Environment variables for the guest's dockerd; empty without a proxy.
    pub(crate) fn for_guest(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("HTTP_PROXY", self.guest_http()),
            ("HTTPS_PROXY", self.guest_https()),
            ("NO_PROXY", self.guest_no_proxy()),
        ];
        all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(config: &ProxyConfig, environment: &[(&str, &str)]) -> Vec<(&'static str, String)> {
        let variable =
            |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Proxies::effective(config, variable).for_guest()
    }

    #[test]
    fn an_address_is_read_strictly_and_never_shows_its_password() {
        for (text, shown) in [
            ("http://proxy:3128", "http://proxy:3128"),
            ("proxy:3128/", "http://proxy:3128"),
            ("https://proxy", "https://proxy:443"),
            ("socks5h://me:s3cret@10.0.0.1", "socks5h://(login)@10.0.0.1:1080"),
            ("http://me:s3cret@[fd00::1]:8080", "http://(login)@[fd00::1]:8080"),
        ] {
            let url = ProxyUrl::parse(text).unwrap();
            assert_eq!((url.to_string(), format!("{url:?}")), (shown.to_owned(), shown.to_owned()));
        }
        for bad in [
            "",
            "ftp://s3cret@proxy",
            "http://s3cret@proxy:0",
            "http://proxy:99999",
            "http://proxy/s3cret",
            "http://a b",
        ] {
            let wanted = ProxyUrl::parse(bad).unwrap_err();
            assert!(wanted.contains("must be the address of a proxy") && !wanted.contains("s3cret"), "{bad}: {wanted}");
        }
    }

    #[test]
    fn a_proxy_on_this_computer_is_reached_by_the_guest() {
        for local in ["127.0.0.1", "localhost", "[::1]", "127.1.2.3"] {
            let url = ProxyUrl::parse(&format!("http://me:pw@{local}:3128")).unwrap();
            assert_eq!(url.for_guest(), "http://me:pw@host.docker.internal:3128");
        }
        assert_eq!(ProxyUrl::parse("socks5h://127.0.0.1").unwrap().for_guest(), "socks5://host.docker.internal:1080");
        assert_eq!(ProxyUrl::parse("http://10.1.2.3:80").unwrap().for_guest(), "http://10.1.2.3:80");
    }

    #[test]
    fn settings_go_before_the_environment() {
        assert_eq!(guest(&ProxyConfig::default(), &[("NO_PROXY", ".corp")]), []);
        let environment = [
            ("https_proxy", "http://small:1"),
            ("HTTPS_PROXY", "http://large:2"),
            ("ALL_PROXY", "socks5://all:3"),
            ("no_proxy", ".corp"),
        ];
        let variables = guest(&ProxyConfig::default(), &environment);
        assert_eq!(
            variables[..2],
            [("HTTP_PROXY", "socks5://all:3".to_owned()), ("HTTPS_PROXY", "http://small:1".to_owned())]
        );
        assert_eq!(variables[2].0, "NO_PROXY");
        assert!(variables[2].1.starts_with(".corp,localhost,"), "{}", variables[2].1);
        let config = ProxyConfig {
            http: Choice::Direct,
            https: Choice::parse("http://mine:4").unwrap(),
            no_proxy: Some("a, b".to_owned()),
            containers: false,
        };
        let variables = guest(&config, &environment);
        assert_eq!(variables[0], ("HTTPS_PROXY", "http://mine:4".to_owned()));
        assert!(variables[1].1.starts_with("a,b,localhost"), "{}", variables[1].1);
        assert_eq!(guest(&ProxyConfig::default(), &[("HTTP_PROXY", "ftp://x")]), []);
    }
}
