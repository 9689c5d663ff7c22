//! Listeners of containers on the host's network (`--network host`). Each is a port of the host while it listens.
//!
//! One task does all of it. dockerd reports which containers join and leave the host's network ([`HostNetwork`]). While
//! there is one, the kernel rings a [`Bell`] whenever a program starts or stops listening, and [`SockDiag`] then lists
//! the listeners; otherwise nothing runs and nothing wakes up. A listener belongs to a container if its socket was made
//! in a control group other than the root, which holds all of the machine's own programs.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use rorqual_protocol::agent::EngineState;
use rorqual_protocol::agent::engine_state::Phase;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

mod bell;
mod sock_diag;
mod wanted;

use super::published::{Ports, Published};
use crate::backoff::Backoff;
use crate::boot::NetworkSettings;
use crate::docker_api::{DOCKER_SOCKET, DockerApiError, HostNetwork, HostNetworkChange};
use bell::Bell;
use sock_diag::SockDiag;
use wanted::{Place, Rules, Way, published_port};

/// The root of control groups: all programs of the machine are below it.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";
/// The ports the kernel assigns to sockets that ask for none.
const HANDED_OUT: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// The kernel's default for them, should they be unreadable.
const HANDED_OUT_BY_DEFAULT: RangeInclusive<u16> = 32_768..=60_999;
/// Pauses before each look after the bell: the first is immediate, the others find a socket that was still closing.
const LOOKS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(200)];
/// Least time between two looks, for containers that open and close sockets all the time.
const REST: Duration = Duration::from_millis(10);

#[derive(Debug, Error)]
enum Lost {
    #[error(transparent)]
    Docker(#[from] DockerApiError),
    #[error("the kernel does not list the listeners: {0}")]
    Kernel(#[from] io::Error),
}

/// Publishes such listeners whenever dockerd runs, until `dismissed` becomes true. `engine` is the engine's state.
pub(crate) async fn publish(
    ports: Ports,
    mut engine: watch::Receiver<EngineState>,
    mut dismissed: watch::Receiver<bool>,
    network: NetworkSettings,
) {
    let rules = Rules::new(&network, handed_out());
    let mut backoff = Backoff::default();
    while engine.wait_for(|state| state.phase() == Phase::Ready).await.is_ok() {
        let begin = Instant::now();
        let Err(lost) = tokio::select! {
            lost = follow(&ports, &rules) => lost,
            _ = dismissed.wait_for(|dismissed| *dismissed) => return,
        };
        match lost {
            Lost::Docker(error) => debug!("containers on the host's network are no longer followed: {error}"),
            Lost::Kernel(error) => warn!("ports of containers on the host's network are not published: {error}"),
        }
        tokio::time::sleep(backoff.ended_after(begin.elapsed())).await;
    }
}

/// Follows one dockerd until it or the kernel fails. Nothing stays published after that.
async fn follow(ports: &Ports, rules: &Rules) -> Result<Infallible, Lost> {
    let (mut events, running) = HostNetwork::follow(Path::new(DOCKER_SOCKET)).await?;
    let mut containers: HashSet<String> = running.into_iter().collect();
    let mut watch = None;
    loop {
        watch = match watch.take() {
            _ if containers.is_empty() => None,
            None => Some(Watch::begin(ports, rules)?),
            watching => watching,
        };
        tokio::select! {
            change = events.next() => match change? {
                HostNetworkChange::Joined(container) => drop(containers.insert(container)),
                HostNetworkChange::Left(container) => drop(containers.remove(&container)),
            },
            looked = look(&mut watch) => looked?,
        }
    }
}

/// Looks at the listeners when that is due. Without a watch this never returns.
async fn look(watch: &mut Option<Watch<'_>>) -> io::Result<()> {
    match watch {
        Some(watch) => watch.look().await,
        None => std::future::pending().await,
    }
}

/// What is watched and published while there are containers on the host's network.
struct Watch<'a> {
    ports: &'a Ports,
    rules: &'a Rules,
    bell: Bell,
    sockets: SockDiag,
    /// When to look next, and how many looks after the bell came before.
    due: Option<(Instant, usize)>,
    published: BTreeMap<Place, (Way, Published)>,
}

impl<'a> Watch<'a> {
    fn begin(ports: &'a Ports, rules: &'a Rules) -> io::Result<Self> {
        let (bell, sockets) = (Bell::hang(Path::new(CONTROL_GROUPS))?, SockDiag::open()?);
        Ok(Self { ports, rules, bell, sockets, due: Some((Instant::now(), 0)), published: BTreeMap::new() })
    }

    /// May be dropped while it waits; a look that is due stays due.
    async fn look(&mut self) -> io::Result<()> {
        tokio::select! {
            rung = self.bell.rung() => {
                rung?;
                let next = Instant::now() + REST;
                self.due = Some((self.due.map_or(next, |(due, _)| due.min(next)), 0));
            }
            looks = wait(self.due) => {
                self.publish_listeners()?;
                self.due = LOOKS.get(looks + 1).map(|pause| (Instant::now() + *pause, looks + 1));
            }
        }
        Ok(())
    }

    /// Publishes the listeners there are now, and nothing else.
    fn publish_listeners(&mut self) -> io::Result<()> {
        let listeners = self.sockets.listeners()?;
        let wanted = self.rules.wanted(&listeners, |protocol, port| self.ports.docker_publishes(protocol, port));
        // First what is gone: a new listener may need the same port of the host.
        self.published.retain(|place, (way, _)| wanted.get(place) == Some(way));
        for (place, way) in wanted {
            self.published.entry(place).or_insert_with(|| {
                let port = published_port(place, way);
                info!("a container on the host's network listens on {}:{}", port.host_address, port.host_port);
                (way, self.ports.announce(port))
            });
        }
        Ok(())
    }
}

async fn wait(due: Option<(Instant, usize)>) -> usize {
    match due {
        Some((instant, looks)) => {
            sleep_until(instant).await;
            looks
        }
        None => std::future::pending().await,
    }
}

fn handed_out() -> RangeInclusive<u16> {
    let range = std::fs::read_to_string(HANDED_OUT).ok().and_then(|text| {
        let (first, last) = text.trim().split_once(char::is_whitespace)?;
        Some(first.parse().ok()?..=last.trim().parse().ok()?)
    });
    range.unwrap_or(HANDED_OUT_BY_DEFAULT)
}
