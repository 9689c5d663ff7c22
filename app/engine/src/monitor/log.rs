//! The logs of a machine: the monitor's own, opened for a start, and the last line of either for a message.

use std::{
    fs,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::error::one_line;

/// A monitor's log longer than this is emptied at the next start, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Opens the monitor's log. Every writer appends, so that what the kernel's own process writes overwrites nothing.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let is_full = fs::metadata(path).is_ok_and(|log| log.len() > MAX_BYTES);
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    if is_full {
        log.set_len(0)?;
    }
    Ok(log)
}

/// The last line with text of a log, for a message; `None` if it has none.
pub(crate) fn last_words(log: &Path) -> Option<String> {
    /// The last lines that are searched.
    const LINES: usize = 6;
    let lines = crate::follow::last_lines(log, LINES).unwrap_or_default();
    let text = String::from_utf8_lossy(&lines);
    text.lines().rev().map(one_line).find(|line| !line.is_empty())
}
