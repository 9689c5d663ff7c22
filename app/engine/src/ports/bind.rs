//! Where a published port listens on this computer, and why it cannot listen there.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt::Ipv6V6Only},
};
use tokio::net::{TcpListener, TcpSocket};

use super::{
    error::PortError,
    holders::Holders,
    owner::{self, Holder},
    transport::Transport,
};
use crate::config::BindPolicy;

/// Connections the kernel queues until they are accepted; it caps this at `net.core.somaxconn`.
const BACKLOG: u32 = 4096;
/// Ports below this need a privilege, unless the computer is configured otherwise.
const PRIVILEGED_BELOW: u16 = 1024;

/// A socket that listens.
pub(crate) enum Socket {
    Tcp(TcpListener),
    /// A bound UDP socket, for the gateway.
    Udp(OwnedFd),
}

/// The outcome of a request to listen.
pub(crate) enum Outcome<S> {
    /// It listens.
    Listening(S),
    /// Nothing listens and the container starts all the same; the note gives the reason.
    NotNeeded(String),
    /// The container must not start; the reason is for the user.
    Refused(PortError),
}

impl<S> Outcome<S> {
    fn map<T>(self, wrap: impl FnOnce(S) -> T) -> Outcome<T> {
        match self {
            Self::Listening(socket) => Outcome::Listening(wrap(socket)),
            Self::NotNeeded(note) => Outcome::NotNeeded(note),
            Self::Refused(reason) => Outcome::Refused(reason),
        }
    }
}

/// The address to listen on for the one docker was asked for; an empty one means every IPv4 address.
pub(crate) fn resolve(requested: &str, policy: BindPolicy) -> Result<IpAddr, PortError> {
    let asked = if requested.is_empty() { Ok(Ipv4Addr::UNSPECIFIED.into()) } else { requested.parse::<IpAddr>() };
    let asked = asked.map_err(|_| PortError::Invalid(format!("{requested:?} is not an IP address")))?;
    Ok(match (asked, policy) {
        (IpAddr::V4(address), BindPolicy::Localhost) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        (IpAddr::V6(address), BindPolicy::Localhost) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        (address, _) => address,
    })
}

/// Listens on `address`. `requested` is the address docker was asked for.
pub(crate) async fn listen(
    transport: Transport,
    address: SocketAddr,
    requested: &str,
    holders: &Holders,
) -> Outcome<Socket> {
    match transport {
        Transport::Tcp => listen_tcp(address, requested, holders).await.map(Socket::Tcp),
        Transport::Udp => outcome(open_udp(address), transport, address, requested, holders).await.map(Socket::Udp),
    }
}

/// Listens on `address` by TCP; a lodger gives the port up.
pub(crate) async fn listen_tcp(address: SocketAddr, requested: &str, holders: &Holders) -> Outcome<TcpListener> {
    let mut opened = open_tcp(address);
    if opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
        && holders.evict(address.port()).await
    {
        opened = open_tcp(address);
    }
    outcome(opened, Transport::Tcp, address, requested, holders).await
}

async fn outcome<S>(
    opened: io::Result<S>,
    transport: Transport,
    address: SocketAddr,
    requested: &str,
    holders: &Holders,
) -> Outcome<S> {
    let error = match opened {
        Ok(socket) => return Outcome::Listening(socket),
        Err(error) => error,
    };
    let everywhere = requested.parse::<Ipv6Addr>().is_ok_and(|address| address.is_unspecified());
    match error.raw_os_error().map(Errno::from_raw) {
        // docker adds :: to 0.0.0.0 by itself, so it is not missed on a computer without IPv6.
        Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) if everywhere => Outcome::NotNeeded(
            "IPv6 is turned off on this computer, so the port is reachable over IPv4 only".to_owned(),
        ),
        Some(errno) => Outcome::Refused(reason(errno, transport, address, error, holders).await),
        None => Outcome::Refused(PortError::Listen { address, source: error }),
    }
}

/// Listens on exactly `address`.
pub(crate) fn open_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if address.is_ipv6() {
        // docker asks for IPv4 separately.
        nix::sys::socket::setsockopt(&socket, Ipv6V6Only, &true)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A bound UDP socket, without `SO_REUSEADDR`: that would let two sockets share an address.
fn open_udp(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if address.is_ipv6() {
        setsockopt(&socket, Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

async fn reason(
    errno: Errno,
    transport: Transport,
    address: SocketAddr,
    source: io::Error,
    holders: &Holders,
) -> PortError {
    let port = address.port();
    match errno {
        Errno::EADDRINUSE => in_use(transport, address, holders).await,
        Errno::EACCES | Errno::EPERM if port < PRIVILEGED_BELOW => PortError::Privileged { port, transport },
        Errno::EADDRNOTAVAIL => PortError::NoAddress(address.ip()),
        Errno::EAFNOSUPPORT => PortError::NoIpv6(address),
        Errno::EMFILE | Errno::ENFILE => PortError::DescriptorLimit(address),
        _ => PortError::Listen { address, source },
    }
}

async fn in_use(transport: Transport, address: SocketAddr, holders: &Holders) -> PortError {
    let named = |holder, fix: &str| PortError::InUse { holder, fix: fix.to_owned() };
    if let Some(ours) = holders.describe(transport, address) {
        return named(ours, "stop what holds it, or publish another port");
    }
    let holder = tokio::task::spawn_blocking(move || owner::find(transport, address)).await.ok().flatten();
    match holder {
        None => named(
            format!("{address} is in use, but its owner could not be identified"),
            "try again, or publish another port",
        ),
        Some(Holder { address: held, listens, process }) => {
            let does = match (listens, transport) {
                (false, _) => "has a connection from",
                (true, Transport::Tcp) => "listens on",
                (true, Transport::Udp) => "holds UDP port",
            };
            match process {
                Some(process) => named(
                    format!("{} (process {}) {does} {held}", process.name, process.id),
                    "stop that process, or publish another port",
                ),
                None => named(
                    format!("a process of another user {does} {held}"),
                    &format!(
                        "find that process with `sudo ss -ln{}p 'sport = :{}'` and stop it, or publish another port",
                        if transport == Transport::Tcp { "t" } else { "u" },
                        held.port()
                    ),
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Coded;

    #[test]
    fn every_address_means_localhost_unless_the_settings_say_otherwise() {
        let resolve = |text, policy| resolve(text, policy).unwrap().to_string();
        assert_eq!(resolve("0.0.0.0", BindPolicy::Localhost), "127.0.0.1");
        assert_eq!(resolve("", BindPolicy::Localhost), "127.0.0.1");
        assert_eq!(resolve("::", BindPolicy::Localhost), "::1");
        assert_eq!(resolve("0.0.0.0", BindPolicy::All), "0.0.0.0");
        assert_eq!(resolve("::", BindPolicy::All), "::");
        assert_eq!(resolve("192.168.1.5", BindPolicy::Localhost), "192.168.1.5");
        assert!(super::resolve("localhost", BindPolicy::All).is_err());
    }

    async fn refusal(address: &str) -> String {
        match listen(Transport::Tcp, address.parse().unwrap(), "", &Holders::default()).await {
            Outcome::Refused(error) => error.to_string(),
            _ => panic!("{address} listens"),
        }
    }

    #[tokio::test]
    async fn a_port_in_use_names_its_owner() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let reason = refusal(&address.to_string()).await;
        let process = std::process::id();
        assert!(reason.starts_with("address already in use: "), "{reason}");
        assert!(reason.ends_with(&format!("(process {process}) listens on {address}")), "{reason}");
    }

    #[tokio::test]
    async fn a_port_a_container_of_ours_has_names_the_container() {
        let holders = Holders::default();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        holders.insert(Transport::Tcp, address, "container 172.17.0.2:80 of machine default".to_owned());
        let Outcome::Refused(reason) = listen(Transport::Tcp, address, "0.0.0.0", &holders).await else {
            panic!("it listens")
        };
        assert!(reason.to_string().contains("container 172.17.0.2:80 of machine default"), "{reason}");
    }

    #[tokio::test]
    async fn a_lodger_gives_its_port_up_and_is_notified_when_it_is_free() {
        let holders = Holders::default();
        let listener = open_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let lodge = || {
            Ok::<_, io::Error>(vec![tokio::spawn(async move {
                let _listener = listener;
                std::future::pending::<()>().await;
            })])
        };
        holders.lodge(address.port(), lodge).unwrap();
        let Outcome::Listening(container) = listen(Transport::Tcp, address, "", &holders).await else {
            panic!("the lodger kept its port")
        };
        assert!(!holders.has_lodger(address.port()));
        holders.insert(Transport::Tcp, address, "a container".to_owned());
        drop(container);
        holders.remove(Transport::Tcp, address);
        holders.freed().await;
        holders.lodge(address.port(), || open_tcp(address).map(|_| Vec::new())).unwrap();
    }

    #[tokio::test]
    async fn an_address_of_another_computer_is_refused() {
        assert!(refusal("192.0.2.77:8080").await.contains("no address 192.0.2.77"));
    }

    #[tokio::test]
    async fn a_privileged_port_explains_how_to_allow_it() {
        for (transport, another) in [(Transport::Tcp, "-p 8080:…,"), (Transport::Udp, "-p 8080:…/udp,")] {
            let address = "127.0.0.1:80".parse().unwrap();
            let holders = Holders::default();
            let refused = reason(Errno::EACCES, transport, address, Errno::EACCES.into(), &holders).await;
            let reason = refused.fix().unwrap();
            assert!(reason.contains("net.ipv4.ip_unprivileged_port_start=80") && reason.contains(another), "{reason}");
        }
    }

    #[tokio::test]
    async fn both_families_listen_on_one_port() {
        for transport in [Transport::Tcp, Transport::Udp] {
            let holders = Holders::default();
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let four = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
            let Outcome::Listening(first) = listen(transport, four, "", &holders).await else { panic!("no IPv4") };
            let six = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
            match listen(transport, six, "::", &holders).await {
                Outcome::Listening(_) | Outcome::NotNeeded(_) => drop(first),
                Outcome::Refused(reason) => panic!("{reason}"),
            }
        }
    }

    #[tokio::test]
    async fn a_udp_port_in_use_names_its_owner() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let Outcome::Refused(reason) = listen(Transport::Udp, address, "", &Holders::default()).await else {
            panic!("it listens")
        };
        let (process, reason) = (std::process::id(), reason.to_string());
        assert!(reason.ends_with(&format!("(process {process}) holds UDP port {address}")), "{reason}");
    }
}
