//! A child process that ends with its benchmark.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::eventually;

/// Killed when dropped, and by the system if the benchmark dies.
#[derive(Debug)]
pub struct OwnChild {
    name: &'static str,
    child: Child,
}

impl OwnChild {
    /// Starts `program` after `configure` has set its arguments, with its output in the file `log`.
    pub fn start(name: &'static str, program: &Path, log: &Path, configure: impl FnOnce(&mut Command)) -> Result<Self> {
        Self::start_with_input(name, program, log, Stdio::piped(), configure)
    }

    /// The same with another standard input.
    pub fn start_with_input(
        name: &'static str,
        program: &Path,
        log: &Path,
        input: Stdio,
        configure: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        configure(&mut command);
        command.stdin(input).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {name} ({})", program.display()))?;
        Ok(Self { name, child })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails if it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended: {status}", self.name),
            None => Ok(()),
        }
    }

    /// Closes its standard input and waits for it to end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        drop(self.child.stdin.take());
        eventually(&format!("{} ends", self.name), || self.child.try_wait().ok().flatten())
    }
}

impl Drop for OwnChild {
    fn drop(&mut self) {
        // It may have ended long ago.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
