//! Carries out iptables commands, one at a time.

use std::collections::HashMap;
use std::io::{self, Read};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;
use tracing::{debug, info, warn};

use super::command::{Command, Family};
use super::host::HostRules;
use super::ingress;
use super::published::{self, Change};
use super::restore::Restore;
use super::tables::{Known, Tables};
use crate::boot::NetworkSettings;
use crate::ports::{Ingress, Ports};
use crate::processes::Processes;
use crate::programs::command;

/// The rules, for more than one thread.
pub(super) struct SharedRules(Mutex<Rules>);

impl SharedRules {
    /// `ports` are asked for before dockerd's rule for one is added, and `ingress` publishes the ports of swarm
    /// services. To be called in the runtime.
    pub(super) fn new(processes: Processes, network: &NetworkSettings, ports: Ports, ingress: Ingress) -> Self {
        Self(Mutex::new(Rules {
            processes,
            runtime: Handle::current(),
            ports,
            ingress,
            host: HostRules::new(network),
            tables: Tables::default(),
            running: HashMap::new(),
        }))
    }

    /// Carries out a command, given as the words after the program's name. Blocks, also on the host's answer about a
    /// published port; not for a thread that runs tasks.
    ///
    /// # Errors
    /// Why it failed, for the user.
    pub(super) fn run(&self, family: Family, words: &[&str]) -> Result<String, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).run(family, words)
    }
}

struct Rules {
    processes: Processes,
    runtime: Handle,
    ports: Ports,
    ingress: Ingress,
    host: HostRules,
    tables: Tables,
    running: HashMap<Family, Restore>,
}

impl Rules {
    fn run(&mut self, family: Family, words: &[&str]) -> Result<String, String> {
        let outcome = match Command::parse(family, words) {
            Some(command) => self.carry_out(&command, words),
            None => {
                // It may change the tables in ways that are not tracked.
                info!("left to the real iptables: {family:?} {words:?}");
                self.tables.forget(family, words);
                self.run_real(family, words)
            }
        };
        debug!("iptables {family:?} {words:?}: {outcome:?}");
        outcome
    }

    /// Runs a command, and has the published ports follow it.
    fn carry_out(&mut self, command: &Command, words: &[&str]) -> Result<String, String> {
        let change = published::change(command);
        if let Some(Change::Publish(port)) = &change {
            self.runtime.block_on(self.ports.reserve(port))?;
        }
        let outcome = self.change(command, words);
        let failed = outcome.is_err();
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

    fn change(&mut self, command: &Command, words: &[&str]) -> Result<String, String> {
        match self.tables.foresee(command) {
            Known::Succeeds => return Ok(String::new()),
            Known::Fails(reason) => return Err(reason.to_owned()),
            Known::Unknown => return self.run_real(command.family, words),
            Known::AskKernel => {}
        }
        if let Some(rule) = self.host.take(command.family)
            && let Err(error) = self.restore(&rule)
        {
            self.running.remove(&command.family);
            warn!("containers see clients of the host's localhost as host.docker.internal: {error}");
        }
        if let Err(error) = self.restore(command) {
            // It ends at the first command that fails; the next command starts a new one.
            self.running.remove(&command.family);
            return Err(error);
        }
        self.tables.apply(command);
        Ok(String::new())
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

    /// Runs the real program, and returns what it prints.
    fn run_real(&self, family: Family, words: &[&str]) -> Result<String, String> {
        let program = family.program();
        let output = self.output(family, words).map_err(|error| format!("cannot run {program}: {error}"))?;
        output.map_err(|(said, status)| format!("{program} {}: {} ({status})", words.join(" "), said.trim()))
    }

    fn output(&self, family: Family, words: &[&str]) -> io::Result<Result<String, (String, String)>> {
        let (mut output, given) = io::pipe()?;
        let mut program = command(family.program());
        program.arg("--wait").args(words).stdin(Stdio::null()).stdout(given.try_clone()?).stderr(given);
        let running = self.processes.start(&mut program)?;
        // The pipe ends when the program's own copies are the last.
        drop(program);
        let mut said = String::new();
        output.read_to_string(&mut said)?;
        let status = self.runtime.block_on(running.exit).map_err(io::Error::other)?;
        Ok(if status.success() { Ok(said) } else { Err((said, status.to_string())) })
    }
}
