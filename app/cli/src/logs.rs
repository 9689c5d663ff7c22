//! `rorqual logs`.

use std::{fs, io};

use rorqual_engine::api::LogsRequest;
use serde_json::json;

use crate::{
    arguments::LogSource,
    error::CommandError,
    failure::Failure,
    session::{self, Session},
};

pub(crate) async fn logs(session: &Session, source: LogSource, follow: bool, tail: Option<u32>) -> Result<(), Failure> {
    let mut printer = Printer { source: source.name(), json: session.json, partial: Vec::new() };
    // The daemon's log matters most when the daemon cannot run, so it is also read without one.
    let client = match source {
        LogSource::Daemon => session.running_daemon().await?,
        _ => Some(session.daemon().await?),
    };
    let Some(mut client) = client else {
        return print_file(session, tail, printer);
    };
    let request =
        LogsRequest { machine: session.machine(), source: source.name().to_owned(), follow, tail: tail.unwrap_or(0) };
    let mut chunks = client.logs(request).await?.into_inner();
    while let Some(chunk) = chunks.message().await? {
        printer.print(&chunk.data)?;
    }
    printer.end()
}

fn print_file(session: &Session, tail: Option<u32>, mut printer: Printer) -> Result<(), Failure> {
    let path = session.home.daemon_log();
    let log = match fs::read(&path) {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(CommandError::DaemonLog { path, source }.into()),
    };
    printer.print(last_lines(&log, tail))?;
    printer.end()
}

/// The last `count` lines of `log`; all lines without a count.
fn last_lines(log: &[u8], count: Option<u32>) -> &[u8] {
    let Some(count) = count else { return log };
    let body = log.strip_suffix(b"\n").unwrap_or(log);
    let start = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').nth(count.saturating_sub(1) as usize);
    start.map_or(log, |(index, _)| &log[index + 1..])
}

/// Prints bytes as they arrive, or complete lines as JSON.
struct Printer {
    source: &'static str,
    json: bool,
    /// An incomplete last line.
    partial: Vec<u8>,
}

impl Printer {
    fn print(&mut self, data: &[u8]) -> Result<(), Failure> {
        if !self.json {
            return session::print_bytes(data);
        }
        self.partial.extend_from_slice(data);
        let Some(end) = self.partial.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let rest = self.partial.split_off(end + 1);
        let lines = std::mem::replace(&mut self.partial, rest);
        lines[..end].split(|byte| *byte == b'\n').try_for_each(|line| self.print_line(line))
    }

    fn end(self) -> Result<(), Failure> {
        if self.partial.is_empty() { Ok(()) } else { self.print_line(&self.partial) }
    }

    fn print_line(&self, line: &[u8]) -> Result<(), Failure> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        session::print_json(&json!({"source": self.source, "line": String::from_utf8_lossy(line)}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_log_is_whole_lines() {
        let log = b"one\ntwo\nthree\n";
        assert_eq!(last_lines(log, Some(1)), b"three\n");
        assert_eq!(last_lines(log, Some(2)), b"two\nthree\n");
        assert_eq!(last_lines(log, Some(9)), log);
        assert_eq!(last_lines(log, None), log);
        assert_eq!(last_lines(b"one\ntwo", Some(1)), b"two");
        assert_eq!(last_lines(b"", Some(1)), b"");
    }
}
