//! Rorqual itself, with its `uml` accelerator.

use std::process::Command;

use anyhow::{Result, bail};
use rorqual_tests::{Machine, Run};

use crate::engine::{BootStep, Engine, steps_in};

/// A machine in a state directory of its own.
#[derive(Debug)]
pub(crate) struct Uml {
    machine: Machine,
}

impl Uml {
    /// Nothing runs yet.
    pub(crate) fn prepare() -> Result<Self> {
        Ok(Self { machine: Machine::prepare()? })
    }

    /// The machine, for the measurements that only it has.
    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }
}

impl Engine for Uml {
    fn name(&self) -> &'static str {
        "uml"
    }

    fn description(&self) -> String {
        "Rorqual, `uml` accelerator (1 CPU)".to_owned()
    }

    fn start(&mut self) -> Result<()> {
        self.machine.rorqual(["start", "-q", "--accelerator", "uml"]).run()?.success()?;
        let status = self.machine.status()?;
        if status.to_string().contains("\"uml\"") { Ok(()) } else { bail!("the machine does not run by uml: {status}") }
    }

    fn stop(&mut self) -> Result<()> {
        self.machine.rorqual(["quit", "--stop-machines", "-q"]).run()?.success()?;
        Ok(())
    }

    fn docker(&self, arguments: &[&str]) -> Command {
        self.machine.docker(arguments.iter().copied())
    }

    fn boot_steps(&self) -> Result<Vec<BootStep>> {
        Ok(steps_in(&self.machine.rorqual(["logs", "agent"]).output_text()?))
    }
}
