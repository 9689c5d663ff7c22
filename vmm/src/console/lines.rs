//! The lines of the guest's console: they go to the log, and the last ones are kept to explain a crash.
//!
//! Several devices may write to one console (a serial port and a virtio console). Each has a [`ConsoleWriter`], and
//! their lines do not mix. A thread of its own reads the lines from a pipe and writes the log: rotating the log opens
//! files, which the threads that serve the guest must not do.

use std::collections::VecDeque;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rorqual_vmm_protocol::Failure;
use tracing::{debug, error};

use super::log::{ConsoleLog, MAX_LOG_BYTES};
use crate::confinement::{self, Thread};

/// Bytes of the console that are kept.
const TAIL_BYTES: usize = 4096;
/// Lines of the console that explain a crash.
const TAIL_LINES: usize = 3;
/// Longest line in bytes; a longer one is written in pieces.
const MAX_LINE_BYTES: usize = 4096;

/// The console of one guest, shared by its writers.
#[derive(Clone, Debug)]
pub(crate) struct GuestConsole(Arc<Console>);

#[derive(Debug)]
struct Console {
    state: Mutex<State>,
    log: Mutex<Log>,
}

/// The log: before its thread starts, while it runs, and afterwards.
#[derive(Debug)]
enum Log {
    Open(PipeReader, ConsoleLog),
    Written(JoinHandle<()>),
    Closed,
}

#[derive(Debug)]
struct State {
    /// Leads to the log's thread; none once the console is closed.
    lines: Option<PipeWriter>,
    tail: VecDeque<u8>,
    /// The unfinished line of each writer.
    unfinished: Vec<Vec<u8>>,
}

impl State {
    fn write(&mut self, bytes: &[u8]) {
        self.tail.extend(bytes);
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..surplus);
        if let Some(lines) = &mut self.lines
            && let Err(failure) = lines.write_all(bytes)
        {
            // The log's thread has failed.
            error!("the log loses the guest's console from here on: {failure}");
            self.lines = None;
        }
    }

    fn take(&mut self, writer: usize, bytes: &[u8]) {
        self.unfinished[writer].extend_from_slice(bytes);
        let line = &self.unfinished[writer];
        let ended = line.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let whole = if line.len() - ended > MAX_LINE_BYTES { line.len() } else { ended };
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
    /// A console whose log is at `path`; an existing log is continued.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let log = ConsoleLog::open(path, MAX_LOG_BYTES)
            .map_err(|error| Failure::of_file("open the console log", path, &error))?;
        let (reader, writer) = io::pipe().map_err(|error| Failure::internal("create a pipe for the console", error))?;
        let state = State { lines: Some(writer), tail: VecDeque::new(), unfinished: Vec::new() };
        Ok(Self(Arc::new(Console { state: Mutex::new(state), log: Mutex::new(Log::Open(reader, log)) })))
    }

    /// Starts the thread that writes the log, once. Until then the pipe holds the lines.
    pub(crate) fn serve(&self) -> Result<(), Failure> {
        let mut log = self.log();
        match std::mem::replace(&mut *log, Log::Closed) {
            Log::Open(reader, file) => {
                let thread = thread::Builder::new().name("console-log".to_owned()).spawn(move || copy(reader, file));
                let thread = thread.map_err(|error| Failure::internal("start a thread for the console", error))?;
                *log = Log::Written(thread);
            }
            served => *log = served,
        }
        Ok(())
    }

    /// Writes everything and closes the log. Call it after the guest has ended.
    pub(crate) fn close(&self) {
        {
            let mut state = self.state();
            state.flush();
            state.lines = None;
        }
        if let Log::Written(thread) = std::mem::replace(&mut *self.log(), Log::Closed)
            && thread.join().is_err()
        {
            error!("the thread that writes the console's log has failed");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new writer to this console.
    pub(crate) fn writer(&self) -> ConsoleWriter {
        let mut state = self.state();
        state.unfinished.push(Vec::new());
        ConsoleWriter { console: self.clone(), number: state.unfinished.len() - 1 }
    }

    /// The line that reports a panic, else the last lines, joined to one.
    pub(crate) fn last_words(&self) -> String {
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

/// Copies lines to the log until the console is closed.
fn copy(mut lines: PipeReader, mut log: ConsoleLog) {
    confinement::enter(Thread::Console);
    let mut bytes = [0; 4096];
    let mut failing = false;
    loop {
        let length = match lines.read(&mut bytes) {
            Ok(0) => return,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return debug!("the console cannot be read: {error}"),
        };
        // A log that cannot be written must not stop the guest: it loses lines instead.
        match log.write_all(&bytes[..length]) {
            Ok(()) => failing = false,
            Err(failure) if !failing => {
                failing = true;
                error!("the log loses lines of the guest's console: {failure}");
            }
            Err(_) => {}
        }
    }
}

/// A writer to a console. It never fails: a log that cannot be written loses lines, which the monitor's log reports.
#[derive(Debug)]
pub(crate) struct ConsoleWriter {
    console: GuestConsole,
    number: usize,
}

impl Write for ConsoleWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.console.state().take(self.number, bytes);
        Ok(bytes.len())
    }

    /// Does nothing: a serial port flushes after each byte, and lines must stay whole.
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
        console.serve().unwrap();
        let (mut serial, mut device) = (console.writer(), console.writer());
        serial.write_all(b"early\nKernel pa").unwrap();
        device.write_all(b"agent: ready\nagent: ").unwrap();
        serial.write_all(b"nic - not syncing\n").unwrap();
        assert_eq!(console.last_words(), "Kernel panic - not syncing");
        device.write_all(b"gone").unwrap();
        console.close();
        let log = fs::read_to_string(&path).unwrap();
        assert!(log.starts_with("early\nagent: ready\nKernel panic - not syncing\n"), "{log}");
        assert!(log.ends_with("gone"), "{log}");
        // Lines after the end are lost, and nothing fails.
        device.write_all(b"late\n").unwrap();
        console.close();
        assert_eq!(fs::read_to_string(&path).unwrap(), log);
    }

    #[test]
    fn a_guest_that_never_ends_its_line_takes_no_more_memory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        let console = GuestConsole::open(&path).unwrap();
        console.serve().unwrap();
        let mut writer = console.writer();
        for _ in 0..100 {
            writer.write_all(&[b'x'; 1000]).unwrap();
        }
        assert!(console.state().unfinished[0].len() <= MAX_LINE_BYTES);
        console.close();
        assert_eq!(fs::metadata(&path).unwrap().len(), 100_000);
    }
}
