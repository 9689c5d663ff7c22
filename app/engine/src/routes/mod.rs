//! Names for containers: `http://<container>.rorqual.localhost` reaches port 80 of a running container (or the port its
//! label `dev.rorqual.http-port` names), `<service>.<project>.rorqual.localhost` a service of compose, and
//! `rorqual.localhost` itself lists all of them. HTTPS has a local authority ([`authority`]).
//!
//! ```text
//! doors ─ accepts on loopback ─► serve ─ guard, names ─► directory (one task: the engine's list, kept by its events)
//!   └ tls (by name)                └ upstream ─ vsock ─► the guest's forwarded streams ─► container
//! ```
//!
//! The engine is queried only from the first request on; from then its events invalidate the list.

pub mod authority;
mod directory;
mod doors;
mod error;
mod guard;
mod headers;
mod names;
mod pages;
mod serve;
mod table;
mod tls;
mod upstream;

pub(crate) use doors::Routes;
#[cfg(test)]
pub(crate) use error::RouteError;
pub use names::DOMAIN;

/// The scheme of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// The word in an address.
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The default port, which an address need not name (RFC 9110 §4.2).
    fn standard_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// The address of `host` on `port`.
fn url(scheme: Scheme, host: &str, port: u16) -> String {
    if port == scheme.standard_port() {
        format!("{}://{host}/", scheme.as_str())
    } else {
        format!("{}://{host}:{port}/", scheme.as_str())
    }
}
