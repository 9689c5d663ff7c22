//! The daemon's own log: `run/daemon.log`, never more than two files of bounded size.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter, fmt::writer::MakeWriterExt};

/// Size at which the log is renamed to `daemon.log.old`, in bytes.
const LIMIT: u64 = 2 << 20;

/// Sends trace events to the log, and to the terminal if there is one. An existing subscriber stays.
pub(super) fn start(path: &Path, filter: &str) -> io::Result<()> {
    let log = BoundedLog::open(path, LIMIT)?;
    let filter = EnvFilter::builder().parse_lossy(filter);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    // A daemon started by a client has the log as its standard error already.
    let set = if io::stderr().is_terminal() {
        builder.with_writer(log.and(io::stderr)).try_init()
    } else {
        builder.with_writer(log).try_init()
    };
    if set.is_err() {
        tracing::debug!("tracing is set up already");
    }
    Ok(())
}

struct BoundedLog {
    path: PathBuf,
    limit: u64,
    file: Mutex<(File, u64)>,
}

impl BoundedLog {
    fn open(path: &Path, limit: u64) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), limit, file: Mutex::new(open(path)?) })
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

impl<'a> MakeWriter<'a> for BoundedLog {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &BoundedLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.1 >= self.limit {
            // If the log cannot be renamed, it keeps growing.
            let _ = fs::rename(&self.path, self.path.with_extension("log.old"));
            *file = open(&self.path)?;
        }
        file.0.write_all(line)?;
        file.1 += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_put_aside_before_it_grows_without_bound() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("daemon.log");
        let log = BoundedLog::open(&path, 100).unwrap();
        for number in 0..50 {
            writeln!(&log, "line {number:>4}").unwrap();
        }
        let sizes = [&path, &directory.path().join("daemon.log.old")].map(|path| fs::metadata(path).unwrap().len());
        assert!(sizes.iter().all(|&size| size <= 110), "{sizes:?}");
        assert!(fs::read_to_string(&path).unwrap().ends_with("line   49\n"));
    }
}
