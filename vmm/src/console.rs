//! The guest's console: what it writes goes into the log line by line, and its last words are kept for the report of a crash.
//!
//! Several devices may write to one console (a serial port and a virtio console): each has a [`ConsoleWriter`], and their lines
//! do not mix.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::error;

use crate::console_log::{CONSOLE_LOG_BYTES_MAX, ConsoleLog};
use crate::error::Failure;

const TAIL_BYTES: usize = 4096;
/// Lines of the console that are told with a crash.
const TAIL_LINES: usize = 3;
/// A line that is longer is written in pieces.
const LINE_BYTES_MAX: usize = 4096;

/// The console of one guest, shared by what writes to it.
#[derive(Clone, Debug)]
pub struct GuestConsole(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    log: ConsoleLog,
    failing: bool,
    tail: VecDeque<u8>,
    /// What each writer has not ended with a line break yet.
    unfinished: Vec<Vec<u8>>,
}

impl State {
    fn write(&mut self, bytes: &[u8]) {
        self.tail.extend(bytes);
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..surplus);
        // A console that fails must not stop the guest: it loses lines instead.
        match self.log.write_all(bytes) {
            Ok(()) => self.failing = false,
            Err(failure) if !self.failing => {
                self.failing = true;
                error!("the guest's console is being lost: {failure}");
            }
            Err(_) => {}
        }
    }

    fn take(&mut self, writer: usize, bytes: &[u8]) {
        self.unfinished[writer].extend_from_slice(bytes);
        let line = &self.unfinished[writer];
        let ended = line.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let whole = if line.len() - ended > LINE_BYTES_MAX { line.len() } else { ended };
        if whole > 0 {
            let lines: Vec<u8> = self.unfinished[writer].drain(..whole).collect();
            self.write(&lines);
        }
    }

    fn flush(&mut self) {
        for writer in 0..self.unfinished.len() {
            let rest = std::mem::take(&mut self.unfinished[writer]);
            if !rest.is_empty() {
                self.write(&rest);
            }
        }
    }
}

impl GuestConsole {
    /// A console whose log is at `path`, and is continued if it is there.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let log = ConsoleLog::open(path, CONSOLE_LOG_BYTES_MAX)
            .map_err(|error| Failure::of_file("open the console log", path, &error))?;
        let state = State { log, failing: false, tail: VecDeque::new(), unfinished: Vec::new() };
        Ok(Self(Arc::new(Mutex::new(state))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that writes to this console.
    pub fn writer(&self) -> ConsoleWriter {
        let mut state = self.state();
        state.unfinished.push(Vec::new());
        ConsoleWriter { console: self.clone(), number: state.unfinished.len() - 1 }
    }

    /// Writes lines that have no end yet. To be called when the guest has ended.
    pub fn flush(&self) {
        self.state().flush();
    }

    /// The line that names a panic, else the last lines, as one line.
    pub fn last_words(&self) -> String {
        let bytes: Vec<u8> = {
            let mut state = self.state();
            state.flush();
            state.tail.iter().copied().collect()
        };
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if let Some(panic) = lines.iter().find(|line| line.contains("Kernel panic")) {
            return (*panic).to_owned();
        }
        lines[lines.len().saturating_sub(TAIL_LINES)..].join(" | ")
    }
}

/// One of a console's writers. It never fails; a log that cannot be written loses lines, which the monitor's log tells.
#[derive(Debug)]
pub struct ConsoleWriter {
    console: GuestConsole,
    number: usize,
}

impl Write for ConsoleWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.console.state().take(self.number, bytes);
        Ok(bytes.len())
    }

    /// Does nothing: a serial port flushes after each byte, and lines shall stay whole.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_of_two_writers_do_not_mix_and_none_is_lost() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        let console = GuestConsole::open(&path).unwrap();
        let (mut serial, mut device) = (console.writer(), console.writer());
        serial.write_all(b"early\nKernel pa").unwrap();
        device.write_all(b"agent: ready\nagent: ").unwrap();
        serial.write_all(b"nic - not syncing\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "early\nagent: ready\nKernel panic - not syncing\n");
        assert_eq!(console.last_words(), "Kernel panic - not syncing");
        device.write_all(b"gone").unwrap();
        console.flush();
        assert!(fs::read_to_string(&path).unwrap().ends_with("agent: gone"));
    }

    #[test]
    fn a_guest_that_never_ends_its_line_takes_no_more_memory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        let console = GuestConsole::open(&path).unwrap();
        let mut writer = console.writer();
        for _ in 0..100 {
            writer.write_all(&[b'x'; 1000]).unwrap();
        }
        assert!(console.state().unfinished[0].len() <= LINE_BYTES_MAX);
        console.flush();
        assert_eq!(fs::metadata(&path).unwrap().len(), 100_000);
    }
}
