//! The starting point of every command: the state directory, the daemon, and how to print.

use std::{
    env,
    fs::File,
    io::{self, Write},
    process::Command,
    time::Duration,
};

use rorqual_engine::{
    client::{self, Client, ClientError},
    home::{Home, MachineName},
};
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use crate::{arguments::Global, error::CommandError, exit::Exit, failure::Failure};

/// One run of the command line.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) home: Home,
    pub(crate) machine: MachineName,
    pub(crate) json: bool,
    pub(crate) quiet: bool,
}

impl Session {
    pub(crate) fn open(global: &Global) -> Result<Self, Failure> {
        let machine = MachineName::parse(&global.machine).map_err(|error| Failure::coded(&error))?;
        let home = Home::locate().map_err(|error| Failure::coded(&error))?;
        Ok(Self { home, machine, json: global.json, quiet: global.quiet })
    }

    /// The machine's name as requests carry it.
    pub(crate) fn machine(&self) -> String {
        self.machine.as_str().to_owned()
    }

    /// The daemon; starts it if none runs.
    pub(crate) async fn daemon(&self) -> Result<Client, Failure> {
        let executable = env::current_exe().map_err(CommandError::DaemonProgram)?;
        let mut command = Command::new(executable);
        command.arg("daemon");
        Ok(client::connect_or_start(&self.home, command).await?)
    }

    /// Waits until the daemon's process exits: it holds its lock for its whole life. Another command may start the next
    /// daemon, which then holds the lock, so the wait is limited.
    pub(crate) async fn daemon_ended(&self) {
        let path = self.home.daemon_lock();
        let released = tokio::task::spawn_blocking(move || {
            let lock = File::open(path)?;
            Ok::<_, io::Error>(flock(&lock, FlockOperation::LockShared)?)
        });
        // Ignores errors: the daemon has already confirmed that it exits.
        let _ = tokio::time::timeout(END_PATIENCE, released).await;
    }

    /// The daemon if one runs; never starts one.
    pub(crate) async fn running_daemon(&self) -> Result<Option<Client>, Failure> {
        match client::connect(&self.home).await {
            Ok(client) => Ok(Some(client)),
            Err(ClientError::NotRunning(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Maximum time for the daemon to exit after it agreed to.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Prints one JSON document on one line.
pub(crate) fn print_json(document: &impl Serialize) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(document).map_err(|error| output_failure(error.into()))?;
    line.push(b'\n');
    print_bytes(&line)
}

/// Prints text unchanged.
pub(crate) fn print_text(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Writes to standard output and flushes, so that a reader of a pipe sees each piece immediately.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    output.write_all(bytes).and_then(|()| output.flush()).map_err(output_failure)
}

fn output_failure(error: io::Error) -> Failure {
    // The reader closed the pipe, as in `rorqual logs | head`.
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::silent(Exit::Failed);
    }
    CommandError::Output(error).into()
}
