//! What every command starts from: the state directory, the daemon, and how to print.

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

    /// The daemon, started when none runs.
    pub(crate) async fn daemon(&self) -> Result<Client, Failure> {
        let executable = env::current_exe().map_err(CommandError::DaemonProgram)?;
        let mut command = Command::new(executable);
        command.arg("daemon");
        Ok(client::connect_or_start(&self.home, command).await?)
    }

    /// Waits until the daemon's process has ended: it holds its lock as long as it lives. Another command may start the
    /// next daemon meanwhile, so this does not wait for ever.
    pub(crate) async fn daemon_ended(&self) {
        let path = self.home.daemon_lock();
        let released = tokio::task::spawn_blocking(move || {
            let lock = File::open(path)?;
            Ok::<_, io::Error>(flock(&lock, FlockOperation::LockShared)?)
        });
        // Whatever goes wrong here, the daemon has said that it ends.
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

/// How long a daemon that has agreed to end may take for it.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Prints one JSON document on one line.
pub(crate) fn print_json(document: &impl Serialize) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(document).map_err(|error| output_failure(error.into()))?;
    line.push(b'\n');
    print_bytes(&line)
}

/// Prints text as it is.
pub(crate) fn print_text(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Writes to standard output and flushes: a reader of a pipe sees each piece when it is there.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    output.write_all(bytes).and_then(|()| output.flush()).map_err(output_failure)
}

fn output_failure(error: io::Error) -> Failure {
    // The reader has seen enough, as in `rorqual logs | head`.
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::silent(Exit::Failed);
    }
    CommandError::Output(error).into()
}
