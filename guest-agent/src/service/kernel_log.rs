//! The kernel's ring buffer, read from `/dev/kmsg` (Linux, Documentation/ABI/testing/dev-kmsg).

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::unistd::read;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::readiness;

/// Longest record the kernel returns.
const LONGEST_RECORD: usize = 8192;

/// A reader of the kernel's log, from its oldest record.
pub(super) struct KernelLog(AsyncFd<OwnedFd>);

impl KernelLog {
    pub(super) fn open() -> io::Result<Self> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg")?;
        readiness::watch(file).map(Self)
    }

    /// The next line, if one exists already.
    pub(super) fn next_kept(&self) -> io::Result<Option<String>> {
        match read_record(self.0.get_ref()) {
            Ok(line) => Ok(Some(line)),
            Err(Errno::EAGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits for the next line.
    pub(super) async fn next(&self) -> io::Result<String> {
        self.0.async_io(Interest::READABLE, |kmsg| Ok(read_record(kmsg)?)).await
    }
}

fn read_record(kmsg: &OwnedFd) -> Result<String, Errno> {
    let mut record = vec![0; LONGEST_RECORD];
    loop {
        match read(kmsg, &mut record) {
            Ok(length) => return Ok(line(&String::from_utf8_lossy(&record[..length]))),
            // Records were overwritten before they were read; the next call returns the oldest that is left.
            Err(Errno::EPIPE | Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// A record, `<priority>,<number>,<microseconds>,<flags>;<text>` and continuation lines, as `dmesg` shows it.
fn line(record: &str) -> String {
    let (head, text) = record.split_once(';').unwrap_or(("", record));
    let text = text.lines().next().unwrap_or_default();
    let microseconds: u64 = head.split(',').nth(2).and_then(|number| number.parse().ok()).unwrap_or(0);
    format!("[{:5}.{:06}] {text}\n", microseconds / 1_000_000, microseconds % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_dmesg_shows_it() {
        let record = "6,339,5140900,-;NET: Registered protocol family 10\n SUBSYSTEM=net\n";
        assert_eq!(line(record), "[    5.140900] NET: Registered protocol family 10\n");
    }

    #[test]
    fn a_record_without_a_head_is_its_text() {
        assert_eq!(line("odd"), "[    0.000000] odd\n");
    }
}
