//! Containers of a test, removed when it ends.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    IMAGE, Machine,
    command::{Execution, Run, line_of},
    wait::{PATIENCE, eventually},
};

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A name no other test of this machine uses.
pub fn unique(stem: &str) -> String {
    format!("{stem}{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A container that is removed at the end of its test, with its anonymous volumes.
#[derive(Debug)]
pub struct Container<'a> {
    machine: &'a Machine,
    /// Its name.
    pub name: String,
}

impl<'a> Container<'a> {
    /// `docker run -d OPTIONS test COMMAND`, with a generated name. Splits `options` at spaces.
    pub fn run(machine: &'a Machine, options: &str, command: &[&str]) -> Result<Self> {
        let container = Self::named(machine);
        container.create_with("run -d", options, command)?.success()?;
        Ok(container)
    }

    /// `docker create OPTIONS test COMMAND`.
    pub fn create(machine: &'a Machine, options: &str, command: &[&str]) -> Result<Self> {
        let container = Self::named(machine);
        container.create_with("create", options, command)?.success()?;
        Ok(container)
    }

    /// A container that sleeps until it is stopped, and exits at once on SIGTERM.
    pub fn sleeping(machine: &'a Machine, options: &str) -> Result<Self> {
        Self::run(machine, &format!("--init {options}"), &["sleep", "1000000"])
    }

    /// A name for a container that the test creates itself.
    pub fn named(machine: &'a Machine) -> Self {
        Self { machine, name: unique("c") }
    }

    /// Runs `docker VERB --name NAME OPTIONS test COMMAND` and returns the outcome, successful or not.
    pub fn create_with(&self, verb: &str, options: &str, command: &[&str]) -> Result<Execution> {
        let mut words: Vec<&str> = verb.split_whitespace().collect();
        words.extend(["--name", &self.name]);
        words.extend(options.split_whitespace());
        words.push(IMAGE);
        words.extend(command);
        self.machine.docker(words).run()
    }

    /// `docker exec NAME COMMAND`; requires exit status 0 and returns standard output, trimmed.
    pub fn exec(&self, command: &[&str]) -> Result<String> {
        let words = ["exec", self.name.as_str()].into_iter().chain(command.iter().copied());
        self.machine.docker(words).output_text()
    }

    /// A field of `docker inspect`, as a Go template: `.State.Status`.
    pub fn inspect(&self, field: &str) -> Result<String> {
        let template = format!("{{{{{field}}}}}");
        self.machine.docker(["inspect", "--format", &template, &self.name]).output_text()
    }

    /// Waits until its log contains `text`.
    pub fn wait_for_log(&self, text: &str) -> Result<()> {
        eventually(&format!("the log of {} contains {text:?}", self.name), || {
            let log = self.machine.docker(["logs", &self.name]).output_text().ok()?;
            log.contains(text).then_some(())
        })
    }

    /// Its address on a network; the default bridge is `bridge`.
    pub fn address(&self, network: &str) -> Result<String> {
        let address = self.inspect(&format!("(index .NetworkSettings.Networks \"{network}\").IPAddress"))?;
        ensure!(!address.is_empty(), "{} has no address on {network}", self.name);
        Ok(address)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // May fail: the test may have removed it or broken the machine.
        self.machine.docker(["rm", "-f", "-v", &self.name]).run().ok();
    }
}

/// A program whose output is read line by line while it runs; killed when dropped.
#[derive(Debug)]
pub struct Following {
    child: Child,
    lines: mpsc::Receiver<String>,
    line: String,
}

impl Following {
    /// Starts it with empty standard input.
    pub fn start(mut command: Command) -> Result<Self> {
        let line = line_of(&command);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stdout = child.stdout.take().context("no standard output")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines, line })
    }

    /// The next line; an error at the end of output or after a timeout.
    pub fn next_line(&self) -> Result<String> {
        self.lines.recv_timeout(PATIENCE).with_context(|| format!("no further line from `{}`", self.line))
    }

    /// Reads until a line matches.
    pub fn wait_for(&self, what: &str, fits: impl Fn(&str) -> bool) -> Result<String> {
        let mut seen = Vec::new();
        let begin = Instant::now();
        loop {
            if begin.elapsed() > PATIENCE {
                bail!("no line in {} s is {what}; seen so far: {seen:#?}", PATIENCE.as_secs());
            }
            match self.next_line() {
                Ok(line) if fits(&line) => return Ok(line),
                Ok(line) => seen.push(line),
                Err(error) => return Err(error).with_context(|| format!("waiting for {what}; seen so far: {seen:#?}")),
            }
        }
    }

    /// Returns all lines received so far, without waiting.
    pub fn lines_so_far(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// Reads to the end; returns the remaining lines and the exit status.
    pub fn finish(mut self) -> Result<(Vec<String>, i32)> {
        let mut rest = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => rest.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => bail!("`{}` does not end", self.line),
            }
        }
        let status = self.child.wait()?;
        Ok((rest, crate::command::status_number(status)))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
