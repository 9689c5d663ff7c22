//! The guest's console: from the kernel's standard output into the log, its last words kept for the report of a crash.

use std::collections::VecDeque;
use std::io::{PipeReader, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tracing::error;

use crate::confinement::{self, Thread};
use crate::console_log::{CONSOLE_LOG_BYTES_MAX, ConsoleLog};
use crate::error::Failure;

const TAIL_BYTES: usize = 4096;
/// Lines of the console that are told with a crash.
const TAIL_LINES: usize = 3;

/// The end of what the guest has printed.
#[derive(Debug, Default)]
pub struct ConsoleTail(Mutex<VecDeque<u8>>);

impl ConsoleTail {
    pub(crate) fn push(&self, bytes: &[u8]) {
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend(bytes);
        let surplus = tail.len().saturating_sub(TAIL_BYTES);
        tail.drain(..surplus);
    }

    /// The line that names a panic, else the last lines, as one line.
    pub fn last_words(&self) -> String {
        let bytes: Vec<u8> = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if let Some(panic) = lines.iter().find(|line| line.contains("Kernel panic")) {
            return (*panic).to_owned();
        }
        lines[lines.len().saturating_sub(TAIL_LINES)..].join(" | ")
    }
}

/// Starts the thread that copies until the guest is gone.
pub(crate) fn copy(mut from: PipeReader, to: &Path, tail: Arc<ConsoleTail>) -> Result<JoinHandle<()>, Failure> {
    let mut log = ConsoleLog::open(to, CONSOLE_LOG_BYTES_MAX)
        .map_err(|error| Failure::of_file("open the console log", to, &error))?;
    let path = to.to_owned();
    super::spawn("console", move || {
        confinement::enter(Thread::Console);
        let mut bytes = [0; 4096];
        let mut failing = false;
        // A console that is not read would stop the guest: a log that cannot be written loses lines instead.
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            tail.push(&bytes[..length]);
            match log.write_all(&bytes[..length]) {
                Ok(()) => failing = false,
                Err(failure) if !failing => {
                    failing = true;
                    error!(log = %path.display(), "the guest's console is being lost: {failure}");
                }
                Err(_) => {}
            }
        }
    })
}
