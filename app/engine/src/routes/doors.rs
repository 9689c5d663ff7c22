//! The ports the names are served on. Two are fixed (`http_port`, `https_port` of the settings). 80 and 443 are added
//! where the system allows it, and released to a container while it publishes them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use nix::errno::Errno;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::sleep,
};

use super::{
    DOMAIN, Scheme,
    serve::{Arrival, Server},
    tls::Tls,
    url,
};
use crate::{
    api,
    config::RoutesConfig,
    docker::Docker,
    home::{Home, MachineName},
    ports::{self, Holders, Outcome, PortError, Transport},
};

/// Maximum number of concurrent connections. Further ones wait to be accepted.
const CONNECTIONS: usize = 1024;
/// Pause before accepting again when the system is out of descriptors. The connection stays queued.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Both loopback addresses, since a name may lead to either.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// The names of the default machine's containers, served. Dropping it closes the ports.
pub(crate) struct Routes {
    shared: Arc<Shared>,
    /// The listeners on the ports of the settings, and the task that takes 80 and 443 back.
    tasks: Vec<JoinHandle<()>>,
    /// Fixed ports that cannot be listened on, and why.
    closed: Vec<(Scheme, u16, PortError)>,
    fixed: Vec<(Scheme, u16)>,
}

struct Shared {
    server: Arc<Server>,
    tls: Arc<Tls>,
    holders: Holders,
    places: Arc<Semaphore>,
}

impl Routes {
    /// Listens on the ports of `config`. [`Routes::describe`] names those that failed.
    pub(crate) async fn open(home: &Home, config: &RoutesConfig, holders: Holders) -> Self {
        let vsock_socket = home.machine(&MachineName::default()).vsock_socket();
        let shared = Arc::new(Shared {
            server: Arc::new(Server::new(Docker::at(home.docker_socket()), &vsock_socket)),
            tls: Arc::new(Tls::new(home.clone())),
            holders,
            places: Arc::new(Semaphore::new(CONNECTIONS)),
        });
        let mut routes = Self { shared, tasks: Vec::new(), closed: Vec::new(), fixed: Vec::new() };
        if !config.enabled {
            return routes;
        }
        for (scheme, port) in [(Scheme::Http, config.http_port), (Scheme::Https, config.https_port)] {
            routes.open_fixed(scheme, port).await;
        }
        if config.standard_ports {
            routes.shared.open_standard();
            let shared = Arc::clone(&routes.shared);
            routes.tasks.push(tokio::spawn(async move {
                loop {
                    shared.holders.freed().await;
                    shared.open_standard();
                }
            }));
        }
        routes
    }

    async fn open_fixed(&mut self, scheme: Scheme, port: u16) {
        match self.shared.listen(port).await {
            Ok(listeners) => {
                for (listener, address) in listeners {
                    let name = format!("Rorqual itself, for {}", url(scheme, DOMAIN, port));
                    self.shared.holders.insert(Transport::Tcp, address, name);
                    self.tasks.push(self.shared.serve(listener, scheme, port));
                }
                self.fixed.push((scheme, port));
            }
            Err(error) => {
                tracing::warn!("containers have no names on port {port}: {error}");
                self.closed.push((scheme, port, error));
            }
        }
    }

    /// Where the names are served now.
    pub(crate) fn describe(&self) -> api::Routes {
        let at = |scheme: Scheme| {
            let fixed = self.fixed.iter().find(|(of, _)| *of == scheme).map(|(_, port)| *port);
            let port = if self.shared.has_standard(scheme) { Some(scheme.standard_port()) } else { fixed };
            port.map(|port| url(scheme, DOMAIN, port)).unwrap_or_default()
        };
        let (problem, fix) = self.problem();
        api::Routes { http: at(Scheme::Http), https: at(Scheme::Https), problem, fix }
    }

    /// Why names are not where the settings want them, and what to do; both empty when they are.
    fn problem(&self) -> (String, String) {
        let why = self.closed.iter().map(|(_, port, error)| format!("on port {port}: {error}"));
        let why = why.collect::<Vec<_>>().join(", nor ");
        let keys = self.closed.iter().map(|(scheme, ..)| format!("{}_port", scheme.as_str())).collect::<Vec<_>>();
        let fix = match keys.as_slice() {
            [] => return Default::default(),
            [key] => format!("free it, or set another {key} in [routes] of config.toml"),
            keys => format!("free them, or set others ({}) in [routes] of config.toml", keys.join(", ")),
        };
        (format!("containers have no names {why}"), format!("{fix}, then restart the daemon with `rorqual quit`"))
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        for scheme in [Scheme::Http, Scheme::Https] {
            self.shared.holders.dismiss(scheme.standard_port());
        }
    }
}

impl Shared {
    /// Whether this serves 80 or 443 now, which a container may have taken.
    fn has_standard(&self, scheme: Scheme) -> bool {
        self.holders.has_lodger(scheme.standard_port())
    }

    /// Takes 80 and 443 where possible. Without them the other ports still work.
    fn open_standard(self: &Arc<Self>) {
        for scheme in [Scheme::Http, Scheme::Https] {
            if self.has_standard(scheme) {
                continue;
            }
            let port = scheme.standard_port();
            let opened = self.holders.lodge(port, || {
                let listeners = both(|address| ports::open_tcp(SocketAddr::new(address, port)))?;
                Ok::<_, io::Error>(listeners.into_iter().map(|listener| self.serve(listener, scheme, port)).collect())
            });
            if let Err(error) = opened {
                tracing::debug!("containers have no names on port {port}: {error}");
            }
        }
    }

    /// Listens on a port of both loopback addresses or of neither, so that no name leads to another program by one of
    /// them.
    async fn listen(&self, port: u16) -> Result<Vec<(TcpListener, SocketAddr)>, PortError> {
        let mut listeners = Vec::new();
        for address in LOOPBACK {
            let requested = if address.is_ipv6() { "::" } else { "0.0.0.0" };
            let address = SocketAddr::new(address, port);
            match ports::listen_tcp(address, requested, &self.holders).await {
                Outcome::Listening(listener) => listeners.push((listener, address)),
                Outcome::NotNeeded(note) => tracing::debug!("{note}"),
                Outcome::Refused(error) => return Err(error),
            }
        }
        Ok(listeners)
    }

    /// Accepts connections until aborted. Open connections continue.
    fn serve(self: &Arc<Self>, listener: TcpListener, scheme: Scheme, port: u16) -> JoinHandle<()> {
        let (server, tls) = (Arc::clone(&self.server), Arc::clone(&self.tls));
        let places = Arc::clone(&self.places);
        tokio::spawn(async move {
            // The semaphore is never closed.
            while let Ok(place) = Arc::clone(&places).acquire_owned().await {
                match listener.accept().await {
                    Ok((stream, client)) => {
                        let arrival = Arrival { client: client.ip(), scheme, port };
                        tokio::spawn(carry(stream, arrival, Arc::clone(&server), Arc::clone(&tls), place));
                    }
                    Err(error) => {
                        tracing::warn!("cannot accept a connection on port {port}: {error}");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        })
    }
}

/// Listens on both loopback addresses, or only on the IPv4 one if the computer has no IPv6.
fn both(open: impl Fn(IpAddr) -> io::Result<TcpListener>) -> io::Result<Vec<TcpListener>> {
    let [v4, v6] = LOOPBACK;
    let mut listeners = vec![open(v4)?];
    match open(v6) {
        Ok(listener) => listeners.push(listener),
        Err(error) if is_without_ipv6(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(listeners)
}

fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL))
}

/// Serves one connection, which frees its place when it ends.
async fn carry(stream: TcpStream, arrival: Arrival, server: Arc<Server>, tls: Arc<Tls>, _place: OwnedSemaphorePermit) {
    // Each part of a response is forwarded immediately. Fails only if the client has left.
    let _ = stream.set_nodelay(true);
    let ended = match arrival.scheme {
        Scheme::Http => server.connection(stream, arrival).await.map_err(|error| error.to_string()),
        Scheme::Https => match tls.accept(stream).await {
            Ok(stream) => server.connection(stream, arrival).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        },
    };
    if let Err(error) = ended {
        tracing::debug!("a connection of {} to port {} ended: {error}", arrival.client, arrival.port);
    }
}
