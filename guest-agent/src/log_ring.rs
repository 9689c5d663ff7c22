//! The last output of a service: whole lines up to a number of bytes, which readers may follow.
//!
//! Each line has a number that is never used again. A reader holds the number of the next line it wants; one that is
//! too slow continues with the oldest line kept.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Bytes kept of each service's output.
pub(crate) const KEPT_BYTES: usize = 1 << 20;
/// A line is cut at this length, so that binary output cannot grow without bound.
const LONGEST_LINE: usize = 16 << 10;

/// The last lines of one output.
pub(crate) struct LogRing {
    lines: Mutex<Lines>,
    /// Number of the line written next.
    next: watch::Sender<u64>,
}

struct Lines {
    kept: VecDeque<Box<[u8]>>,
    kept_bytes: usize,
    most_bytes: usize,
    /// Number of the first line in `kept`.
    first: u64,
    /// Output after the last line break.
    open: Vec<u8>,
}

impl LogRing {
    /// A ring of at most `most_bytes`.
    pub(crate) fn new(most_bytes: usize) -> Self {
        let lines = Lines { kept: VecDeque::new(), kept_bytes: 0, most_bytes, first: 0, open: Vec::new() };
        Self { lines: Mutex::new(lines), next: watch::Sender::new(0) }
    }

    /// Appends output. What follows the last line break waits for the rest of its line.
    pub(crate) fn write(&self, output: &[u8]) {
        let mut lines = self.lock();
        for piece in output.split_inclusive(|byte| *byte == b'\n') {
            lines.open.extend_from_slice(piece);
            if piece.ends_with(b"\n") || lines.open.len() >= LONGEST_LINE {
                lines.end_line();
            }
        }
        let next = lines.next();
        drop(lines);
        self.next.send_if_modified(|number| std::mem::replace(number, next) != next);
    }

    /// Number of the first line for a reader that wants at most `tail` lines; 0 means all that are kept.
    pub(crate) fn start(&self, tail: u32) -> u64 {
        let lines = self.lock();
        if tail == 0 { lines.first } else { lines.next().saturating_sub(u64::from(tail)).max(lines.first) }
    }

    /// Lines from number `from`, about `most_bytes` at most, and the number to continue with.
    pub(crate) fn read(&self, from: u64, most_bytes: usize) -> (Vec<u8>, u64) {
        let lines = self.lock();
        let mut number = from.max(lines.first);
        let mut output = Vec::new();
        let skip = usize::try_from(number - lines.first).unwrap_or(usize::MAX);
        for line in lines.kept.iter().skip(skip) {
            if !output.is_empty() && output.len() + line.len() > most_bytes {
                break;
            }
            output.extend_from_slice(line);
            number += 1;
        }
        (output, number)
    }

    /// Changes when lines are added; its value is the number of the next line.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.next.subscribe()
    }

    /// The last whole line, without its end, for messages.
    pub(crate) fn last_line(&self) -> Option<String> {
        self.lock().kept.back().map(|line| String::from_utf8_lossy(line).trim_end().to_owned())
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    fn end_line(&mut self) {
        let mut line = std::mem::take(&mut self.open);
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        self.kept_bytes += line.len();
        self.kept.push_back(line.into_boxed_slice());
        while self.kept_bytes > self.most_bytes && self.kept.len() > 1 {
            if let Some(oldest) = self.kept.pop_front() {
                self.kept_bytes -= oldest.len();
                self.first += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(ring: &LogRing) -> String {
        String::from_utf8(ring.read(ring.start(0), usize::MAX).0).unwrap()
    }

    #[test]
    fn only_whole_lines_are_returned() {
        let ring = LogRing::new(100);
        ring.write(b"one\ntw");
        assert_eq!(all(&ring), "one\n");
        ring.write(b"o\n");
        assert_eq!(all(&ring), "one\ntwo\n");
        assert_eq!(ring.last_line().as_deref(), Some("two"));
    }

    #[test]
    fn the_oldest_lines_make_room() {
        let ring = LogRing::new(8);
        ring.write(b"aaa\nbbb\nccc\n");
        assert_eq!(all(&ring), "bbb\nccc\n");
        assert_eq!(ring.start(0), 1);
    }

    #[test]
    fn a_tail_is_that_many_lines_or_what_is_kept() {
        let ring = LogRing::new(8);
        ring.write(b"aaa\nbbb\nccc\n");
        assert_eq!(ring.read(ring.start(1), usize::MAX), (b"ccc\n".to_vec(), 3));
        assert_eq!(ring.read(ring.start(9), usize::MAX), (b"bbb\nccc\n".to_vec(), 3));
    }

    #[test]
    fn a_reader_that_was_too_slow_continues_with_the_oldest_kept() {
        let ring = LogRing::new(8);
        ring.write(b"aaa\nbbb\nccc\nddd\n");
        assert_eq!(ring.read(0, usize::MAX), (b"ccc\nddd\n".to_vec(), 4));
    }

    #[test]
    fn a_long_log_is_read_in_pieces() {
        let ring = LogRing::new(100);
        ring.write(b"aaa\nbbb\nccc\n");
        let (first, next) = ring.read(0, 8);
        let (second, end) = ring.read(next, 8);
        assert_eq!((first.as_slice(), second.as_slice(), end), (&b"aaa\nbbb\n"[..], &b"ccc\n"[..], 3));
        assert_eq!(ring.read(end, 8), (Vec::new(), 3));
    }

    #[test]
    fn a_line_without_an_end_is_cut() {
        let ring = LogRing::new(1 << 20);
        ring.write(&vec![b'x'; LONGEST_LINE]);
        assert_eq!(all(&ring).len(), LONGEST_LINE + 1);
    }

    #[tokio::test]
    async fn a_follower_is_woken_by_a_whole_line() {
        let ring = LogRing::new(100);
        let mut changes = ring.changes();
        ring.write(b"half");
        assert!(!changes.has_changed().unwrap());
        ring.write(b" a line\n");
        changes.changed().await.unwrap();
        assert_eq!(*changes.borrow(), 1);
    }
}
