//! Runs programs with a deadline and reports their outcome.

use std::{
    fmt,
    io::{Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

/// Deadline of a test's command; one that takes longer hangs.
pub const DEADLINE: Duration = Duration::from_mins(4);

/// Set when the run is interrupted, so that no program starts again what was just ended.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Lets no further command run.
pub(crate) fn refuse_all() {
    REFUSED.store(true, Ordering::SeqCst);
}

/// Whether commands may still run.
pub(crate) fn refused() -> bool {
    REFUSED.load(Ordering::SeqCst)
}

/// The outcome of a finished program.
#[derive(Clone, Debug)]
pub struct Execution {
    /// The command line, for messages.
    pub line: String,
    /// Exit status as a shell reports it: 128 plus the signal's number if a signal ended it.
    pub status: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, lossily as text.
    pub stderr: String,
}

impl Execution {
    /// Standard output as text, trimmed.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// Returns itself if the exit status is 0.
    pub fn success(self) -> Result<Self> {
        self.exits(0)
    }

    /// Returns itself if the exit status is `status`.
    pub fn exits(self, status: i32) -> Result<Self> {
        if self.status == status { Ok(self) } else { bail!("expected exit status {status}: {self}") }
    }

    /// Returns itself if standard error contains `text`, ignoring case.
    pub fn complains(self, text: &str) -> Result<Self> {
        if self.stderr.to_lowercase().contains(&text.to_lowercase()) {
            Ok(self)
        } else {
            bail!("expected {text:?} on standard error: {self}")
        }
    }

    /// Standard output as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.stdout).with_context(|| format!("expected one JSON document: {self}"))
    }

    /// Standard output as one JSON document per line.
    pub fn json_lines(&self) -> Result<Vec<serde_json::Value>> {
        let lines = self.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).with_context(|| format!("expected JSON in each line: {self}")))
            .collect()
    }
}

impl fmt::Display for Execution {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |text: &str| {
            let skip = text.chars().count().saturating_sub(2_000);
            text.chars().skip(skip).collect::<String>()
        };
        write!(
            formatter,
            "`{}` exited with {}\n--- stdout\n{}\n--- stderr\n{}",
            self.line,
            self.status,
            end(&String::from_utf8_lossy(&self.stdout)),
            end(&self.stderr)
        )
    }
}

/// Runs commands to their end.
pub trait Run {
    /// Runs it with an empty standard input.
    fn run(&mut self) -> Result<Execution>;

    /// Runs it with `input` as standard input.
    fn run_with_input(&mut self, input: &[u8]) -> Result<Execution>;

    /// Runs it and requires exit status 0; returns standard output, trimmed.
    fn output_text(&mut self) -> Result<String> {
        Ok(self.run()?.success()?.text())
    }
}

impl Run for Command {
    fn run(&mut self) -> Result<Execution> {
        self.run_with_input(&[])
    }

    fn run_with_input(&mut self, input: &[u8]) -> Result<Execution> {
        let line = line_of(self);
        if refused() {
            bail!("interrupted before `{line}`");
        }
        self.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
        let child = self.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("cannot run `{line}`"))?;
        if let Some(mut stdin) = child.stdin.take() {
            let input = input.to_vec();
            // The exit status judges a program that ends before it has read everything.
            thread::spawn(move || drop(stdin.write_all(&input)));
        }
        finish(child, line)
    }
}

/// Waits up to [`DEADLINE`] for a program started with piped output.
pub fn finish(child: Child, line: String) -> Result<Execution> {
    finish_within(DEADLINE, child, line)
}

/// Waits up to `deadline` for a program started with piped output.
pub fn finish_within(deadline: Duration, mut child: Child, line: String) -> Result<Execution> {
    let (sender, ends) = mpsc::channel();
    let stdout = collect(child.stdout.take(), sender.clone());
    let stderr = collect(child.stderr.take(), sender);
    for _ in 0..2 {
        if ends.recv_timeout(deadline).is_err() {
            child.kill().ok();
            child.wait().ok();
            bail!("`{line}` did not end within {} s", deadline.as_secs());
        }
    }
    let status = child.wait()?;
    let stdout = stdout.join().unwrap_or_default();
    let stderr = String::from_utf8_lossy(&stderr.join().unwrap_or_default()).into_owned();
    Ok(Execution { line, status: status_number(status), stdout, stderr })
}

/// Reads a pipe to its end in a thread of its own and signals the end.
fn collect(pipe: Option<impl Read + Send + 'static>, end: mpsc::Sender<()>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // Output read before an error still counts.
            pipe.read_to_end(&mut bytes).ok();
        }
        end.send(()).ok();
        bytes
    })
}

/// An exit status as a shell reports it.
pub fn status_number(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// The command line, for messages.
pub fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
