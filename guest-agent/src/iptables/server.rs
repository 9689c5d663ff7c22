//! The thread that answers `rorqual-iptables`, one command at a time.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use nix::sys::socket::{getsockopt, sockopt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::client;
use super::command::{Command, Family};
use super::host::HostRules;
use super::ingress;
use super::published::{self, Change};
use super::restore::Restore;
use super::tables::{Known, Tables};
use crate::boot::NetworkSettings;
use crate::ports::{Ingress, Ports};
use crate::processes::Processes;

/// Where `rorqual-iptables` connects.
const SOCKET: &str = "/run/rorqual/iptables.sock";
/// The answer that has `rorqual-iptables` run the real program.
const RUN_REAL: u8 = 255;
/// Longest command accepted, in bytes; the asking program's own bound.
const MAX_COMMAND: u64 = 4096;

/// Listens, and answers from a thread of its own. `ports` are asked for before dockerd's rule for one is added, and
/// `ingress` publishes the ports of swarm services. To be called in the runtime.
pub(crate) fn serve(processes: Processes, network: &NetworkSettings, ports: Ports, ingress: Ingress) -> io::Result<()> {
    let host = HostRules::new(network);
    let listener = UnixListener::bind(SOCKET)?;
    let namespace = std::fs::read_link("/proc/self/ns/net")?;
    let runtime = Handle::current();
    let (sender, doors) = mpsc::unbounded_channel();
    ports.make_rules_by(sender);
    runtime.spawn(client::serve(doors, SOCKET));
    std::thread::Builder::new().name("iptables".to_owned()).spawn(move || {
        let (tables, running) = (Tables::default(), HashMap::new());
        let mut server = Server { namespace, processes, runtime, ports, ingress, host, tables, running };
        for client in listener.incoming() {
            let answered = client.and_then(|client| server.answer(client));
            if let Err(error) = answered {
                warn!("cannot answer an iptables command: {error}");
            }
        }
    })?;
    Ok(())
}

/// The outcome of a command.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// Exit status 1 and the text of standard error.
    Failed(String),
    /// Left to the real program.
    RunReal,
}

struct Server {
    /// The agent's network namespace, as `/proc` names it.
    namespace: PathBuf,
    processes: Processes,
    runtime: Handle,
    ports: Ports,
    ingress: Ingress,
    host: HostRules,
    tables: Tables,
    running: HashMap<Family, Restore>,
}

impl Server {
    fn answer(&mut self, mut client: UnixStream) -> io::Result<()> {
        // dockerd also sets up the name server in a container's network namespace; the tables kept here are the
        // machine's.
        if !self.is_of_the_machine(&client) {
            return client.write_all(&[RUN_REAL]);
        }
        let mut words = Vec::new();
        Read::by_ref(&mut client).take(MAX_COMMAND).read_to_end(&mut words)?;
        let words: Vec<&str> = match std::str::from_utf8(&words) {
            Ok(text) => text.split_terminator('\0').collect(),
            Err(_) => Vec::new(),
        };
        let outcome = match Command::parse(&words) {
            Some(command) => self.carry_out(&command),
            None => {
                // It may change the tables in ways that are not tracked.
                info!("left to the real iptables: {words:?}");
                self.tables.forget(&words);
                Outcome::RunReal
            }
        };
        debug!("iptables {words:?}: {outcome:?}");
        match outcome {
            Outcome::Done => client.write_all(&[0]),
            Outcome::Failed(reason) => client.write_all(format!("\u{1}{reason}\n").as_bytes()),
            Outcome::RunReal => client.write_all(&[RUN_REAL]),
        }
    }

    /// Whether the asking program is in the network namespace of the agent.
    fn is_of_the_machine(&self, client: &UnixStream) -> bool {
        let asking = getsockopt(client, sockopt::PeerCredentials).map_err(io::Error::from);
        let namespace = asking.and_then(|asking| std::fs::read_link(format!("/proc/{}/ns/net", asking.pid())));
        namespace.is_ok_and(|namespace| namespace == self.namespace)
    }

    /// Runs a command, and has the published ports follow it.
    fn carry_out(&mut self, command: &Command) -> Outcome {
        let change = published::change(command);
        if let Some(Change::Publish(port)) = &change
            && let Err(reason) = self.runtime.block_on(self.ports.reserve(port))
        {
            // On a line of its own, since dockerd puts the whole command before it.
            return Outcome::Failed(format!("\n{reason}"));
        }
        let outcome = self.run(command);
        let failed = matches!(outcome, Outcome::Failed(_));
        match change {
            Some(Change::Publish(port)) if failed => self.ports.release_reserved(&port),
            Some(Change::Unpublish(port)) => self.ports.release_reserved(&port),
            Some(Change::UnpublishAll) => self.ports.clear_reserved(),
            Some(Change::Publish(_)) | None => {}
        }
        if !failed {
            ingress::follow(command, &mut self.ingress);
        }
        outcome
    }

    fn run(&mut self, command: &Command) -> Outcome {
        match self.tables.foresee(command) {
            Known::Succeeds => return Outcome::Done,
            Known::Fails(reason) => return Outcome::Failed(reason.to_owned()),
            Known::Unknown => return Outcome::RunReal,
            Known::AskKernel => {}
        }
        if let Some(rule) = self.host.take(command.family)
            && let Err(error) = self.restore(&rule)
        {
            self.running.remove(&command.family);
            warn!("containers see clients of the host's localhost as host.docker.internal: {error}");
        }
        let outcome = match self.restore(command) {
            Ok(()) => Outcome::Done,
            Err(error) => {
                // It ends at the first command that fails; the next command starts a new one.
                self.running.remove(&command.family);
                Outcome::Failed(error)
            }
        };
        if outcome == Outcome::Done {
            self.tables.apply(command);
        }
        outcome
    }

    fn restore(&mut self, command: &Command) -> Result<(), String> {
        if !self.running.contains_key(&command.family) {
            let restore = Restore::start(&self.processes, command.family)
                .map_err(|error| format!("cannot start {}: {error}", command.family.restore()))?;
            self.running.insert(command.family, restore);
        }
        match self.running.get_mut(&command.family) {
            Some(restore) => restore.run(command),
            None => Err("iptables-restore is gone".to_owned()),
        }
    }
}
