//! The `iptables-restore` that stays running: lines in, an echo out.
//!
//! Between two commands it holds no table and no lock, so other programs can use iptables beside it. With `--verbose`
//! it echoes comment lines, and the comment after each `COMMIT` is its answer. When a command fails, it writes why and
//! ends.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Stdio};

use super::command::{Command, Family};
use crate::processes::Processes;
use crate::programs::command;

const ECHO: &str = "# done\n";

pub(super) struct Restore {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Restore {
    pub(super) fn start(processes: &Processes, family: Family) -> io::Result<Self> {
        // Standard error goes to standard output, where a failure then replaces the echo.
        let mut program = command("/bin/sh");
        program.arg("-c").arg(format!("exec {} --noflush --verbose --wait 2>&1", family.restore()));
        let running = processes.start(program.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        match (running.stdin, running.stdout) {
            (Some(input), Some(output)) => Ok(Self { input, output: BufReader::new(output) }),
            _ => Err(io::Error::other("it has no pipes")),
        }
    }

    /// Has one command carried out. An error is the program's output, after which the program has ended.
    pub(super) fn run(&mut self, command: &Command) -> Result<(), String> {
        let lines = format!("*{}\n{}\nCOMMIT\n{ECHO}", command.table, command.line());
        self.input.write_all(lines.as_bytes()).map_err(|error| format!("iptables-restore has ended: {error}"))?;
        let mut said = String::new();
        loop {
            let before = said.len();
            match self.output.read_line(&mut said) {
                Ok(0) => {
                    return Err(if said.is_empty() {
                        "iptables-restore has ended".to_owned()
                    } else {
                        said.trim().to_owned()
                    });
                }
                Ok(_) if said.get(before..) == Some(ECHO) => return Ok(()),
                // With --verbose a command may also report what it did.
                Ok(_) => {}
                Err(error) => return Err(format!("iptables-restore cannot be read: {error}")),
            }
        }
    }
}
