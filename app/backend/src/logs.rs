//! A container's log: the engine's frames become lines, and lines become batches. Lines the page is too slow for wait
//! in a buffer of fixed size, which drops and counts the oldest.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Buf, Bytes, BytesMut};
use rorqual_engine::docker::{Query, body_bytes, model};
use tokio::sync::Notify;

use super::{
    Inner,
    contract::{ContainerLogs, Failure, LogLine, LogLines, Timestamp},
    stream::Channel,
};

/// Maximum number of lines that wait for the page.
const WAITING: usize = 20_000;
/// Maximum number of lines in one event.
const BATCH: usize = 500;
/// Maximum length of a line; longer ones are sent in pieces.
const LONGEST: usize = 16 << 10;

/// Lines that wait for the page.
#[derive(Default)]
struct Backlog {
    lines: VecDeque<LogLine>,
    skipped: u32,
    ended: Option<Result<(), Failure>>,
}

pub(super) async fn logs(inner: Arc<Inner>, asked: ContainerLogs, channel: Channel) -> Result<(), Failure> {
    let container: model::ContainerInspect = inner.docker.get(&Query::new("/containers/{}/json", &[&asked.id])).await?;
    let mut query = Query::new("/containers/{}/logs", &[&asked.id])
        .with("stdout", "1")
        .with("stderr", "1")
        .with("timestamps", "1")
        .with("follow", if asked.follow { "1" } else { "0" })
        .with("tail", &asked.tail.to_string());
    if let Some(since) = asked.since {
        query = query.with("since", &format!("{}.{:03}", since.0.div_euclid(1000), since.0.rem_euclid(1000)));
    }
    let opened = Timestamp::now();
    let mut body = inner.docker.stream(&query).await?;
    let backlog: Mutex<Backlog> = Mutex::default();
    let (filled, taken) = (Notify::new(), Notify::new());
    let lock = || backlog.lock().unwrap_or_else(PoisonError::into_inner);
    let reading = async {
        let mut splitter = Splitter::new(container.config.tty);
        let result = loop {
            match body_bytes(&mut body).await {
                Ok(Some(bytes)) => {
                    let (mut full, mut past) = (false, !asked.follow);
                    splitter.split(&bytes, |line| {
                        past = !asked.follow || line.at.is_some_and(|at| at < opened);
                        let mut backlog = lock();
                        if backlog.lines.len() == WAITING {
                            backlog.lines.pop_front();
                            backlog.skipped = backlog.skipped.saturating_add(1);
                        }
                        backlog.lines.push_back(line);
                        full = backlog.lines.len() > WAITING / 2;
                    });
                    filled.notify_one();
                    // Existing lines wait for the page; new lines do not, or the page would lag further and further
                    // behind.
                    while full && past && lock().lines.len() > WAITING / 2 {
                        taken.notified().await;
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
        };
        splitter.finish(|line| lock().lines.push_back(line));
        lock().ended = Some(result);
        filled.notify_one();
    };
    let giving = async {
        loop {
            let (batch, ended) = {
                let mut backlog = lock();
                let count = backlog.lines.len().min(BATCH);
                let skipped = std::mem::take(&mut backlog.skipped);
                let batch = LogLines { lines: backlog.lines.drain(..count).collect(), skipped };
                (batch, if backlog.lines.is_empty() { backlog.ended.take() } else { None })
            };
            taken.notify_one();
            let empty = batch.lines.is_empty();
            if !empty || batch.skipped > 0 {
                channel.event(&batch).await?;
            }
            match ended {
                Some(result) => return result,
                None if empty => filled.notified().await,
                None => {}
            }
        }
    };
    // The reader may end before the last batch is sent.
    let both = async { tokio::join!(reading, giving).1 };
    both.await
}

/// Splits the engine's output into lines, each with its timestamp. Without a terminal, the engine marks each piece as
/// standard output or error: <https://docs.docker.com/reference/api/engine/> (stream format).
struct Splitter {
    tty: bool,
    frames: BytesMut,
    /// The incomplete last line of output and of error.
    partial: [BytesMut; 2],
}

impl Splitter {
    fn new(tty: bool) -> Self {
        Self { tty, frames: BytesMut::new(), partial: [BytesMut::new(), BytesMut::new()] }
    }

    fn split(&mut self, bytes: &[u8], mut give: impl FnMut(LogLine)) {
        if self.tty {
            self.lines(false, bytes, &mut give);
            return;
        }
        self.frames.extend_from_slice(bytes);
        while self.frames.len() >= 8 {
            let error = self.frames[0] == 2;
            let length = u32::from_be_bytes([self.frames[4], self.frames[5], self.frames[6], self.frames[7]]) as usize;
            if self.frames.len() < 8 + length {
                return;
            }
            self.frames.advance(8);
            let piece: Bytes = self.frames.split_to(length).freeze();
            self.lines(error, &piece, &mut give);
        }
    }

    fn lines(&mut self, error: bool, bytes: &[u8], give: &mut impl FnMut(LogLine)) {
        let partial = &mut self.partial[usize::from(error)];
        partial.extend_from_slice(bytes);
        while let Some(end) = partial.iter().position(|byte| *byte == b'\n') {
            let line = partial.split_to(end + 1);
            pieces(error, &line, give);
        }
        // Bounds a line without an end; its timestamp stays with the first piece.
        if partial.len() > LONGEST * 2 {
            let piece = partial.split();
            pieces(error, &piece, give);
        }
    }

    fn finish(&mut self, mut give: impl FnMut(LogLine)) {
        for (index, partial) in self.partial.iter_mut().enumerate() {
            if !partial.is_empty() {
                pieces(index == 1, &partial.split(), &mut give);
            }
        }
    }
}

fn pieces(error: bool, line: &[u8], give: &mut impl FnMut(LogLine)) {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (at, text) = match line.iter().position(|byte| *byte == b' ') {
        Some(space) => match std::str::from_utf8(&line[..space]).ok().and_then(Timestamp::of_engine) {
            Some(at) => (Some(at), &line[space + 1..]),
            None => (None, line),
        },
        None => (std::str::from_utf8(line).ok().and_then(Timestamp::of_engine), &[][..]),
    };
    let text = if at.is_none() { line } else { text };
    if text.is_empty() {
        give(LogLine { at, error, text: String::new() });
    }
    for piece in text.chunks(LONGEST) {
        give(LogLine { at, error, text: String::from_utf8_lossy(piece).into_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend((text.len() as u32).to_be_bytes());
        frame.extend(text.bytes());
        frame
    }

    fn split(tty: bool, pieces: &[&[u8]]) -> Vec<(bool, Option<i64>, String)> {
        let mut splitter = Splitter::new(tty);
        let mut lines = Vec::new();
        let mut give = |line: LogLine| lines.push((line.error, line.at.map(|Timestamp(at)| at), line.text));
        for piece in pieces {
            splitter.split(piece, &mut give);
        }
        splitter.finish(&mut give);
        lines
    }

    #[test]
    fn frames_become_lines_wherever_they_are_cut() {
        let mut all = frame(1, "1970-01-01T00:00:01Z one\n1970-01-01T00:00:02Z t");
        all.extend(frame(2, "1970-01-01T00:00:03Z oops\r\n"));
        all.extend(frame(1, "wo\n"));
        let expected = vec![
            (false, Some(1000), "one".to_owned()),
            (true, Some(3000), "oops".to_owned()),
            (false, Some(2000), "two".to_owned()),
        ];
        for cut in 0..all.len() {
            assert_eq!(split(false, &[&all[..cut], &all[cut..]]), expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_terminals_log_has_no_frames() {
        let lines = split(true, &[b"1970-01-01T00:00:01Z a b\r\nno time here\nlast"]);
        assert_eq!(
            lines,
            [
                (false, Some(1000), "a b".to_owned()),
                (false, None, "no time here".to_owned()),
                (false, None, "last".to_owned())
            ]
        );
    }

    #[test]
    fn a_line_without_an_end_comes_in_pieces() {
        let long = "x".repeat(LONGEST * 2 + 1);
        let lines = split(true, &[long.as_bytes()]);
        assert_eq!(lines.iter().map(|line| line.2.len()).collect::<Vec<_>>(), [LONGEST, LONGEST, 1]);
    }
}
