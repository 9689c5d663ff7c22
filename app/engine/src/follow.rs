//! Reads the end of a log file and follows it as it grows, without polling.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
};

/// Maximum size of a chunk sent, in bytes.
const CHUNK: usize = 32 * 1024;
/// Step size of the backward search for line ends, in bytes.
const STEP: u64 = 16 * 1024;

/// Returns the last `lines` lines of a file; 0 means all.
pub(crate) fn last_lines(path: &Path, lines: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let start = start_of_last(&mut file, lines)?;
    file.seek(SeekFrom::Start(start))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(text)
}

/// The offset at which the last `lines` lines begin.
fn start_of_last(file: &mut File, lines: usize) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok(0);
    }
    let mut missing = lines;
    let mut end = length;
    while end > 0 {
        let begin = end.saturating_sub(STEP);
        file.seek(SeekFrom::Start(begin))?;
        let mut block = Vec::new();
        Read::by_ref(file).take(end - begin).read_to_end(&mut block)?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = begin + at as u64 + 1;
            // The newline at the very end completes the last line and starts none.
            if after == length {
                continue;
            }
            missing -= 1;
            if missing == 0 {
                return Ok(after);
            }
        }
        end = begin;
    }
    Ok(0)
}

/// Sends the last `lines` lines of `path` (0 means all) and, with `follow`, what is appended, until the receiver
/// leaves. A file that is replaced or truncated is read from its start; a file that does not exist yet is awaited.
pub(crate) async fn send(path: PathBuf, lines: usize, follow: bool, out: mpsc::Sender<Vec<u8>>) -> io::Result<()> {
    // Watches before reading, so that no change is missed.
    let watch = if follow { Some(Watch::new(&path)?) } else { None };
    let mut reader = Reader::open(&path, lines)?;
    if reader.is_none() && !follow {
        return Err(io::Error::new(io::ErrorKind::NotFound, "this log does not exist yet"));
    }
    loop {
        if let Some(reader) = &mut reader {
            while let Some(chunk) = reader.next()? {
                if out.send(chunk).await.is_err() {
                    return Ok(());
                }
            }
        }
        let replaced = match &reader {
            Some(reader) => fs::metadata(&path).is_ok_and(|now| now.ino() != reader.inode),
            None => path.exists(),
        };
        if let (true, Some(watch)) = (replaced, &watch) {
            watch.attach(&path)?;
            reader = Reader::open(&path, 0)?;
            continue;
        }
        let Some(watch) = &watch else { return Ok(()) };
        tokio::select! {
            changed = watch.changed() => changed?,
            () = out.closed() => return Ok(()),
        }
    }
}

struct Reader {
    file: File,
    inode: u64,
    position: u64,
}

impl Reader {
    fn open(path: &Path, lines: usize) -> io::Result<Option<Self>> {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let position = start_of_last(&mut file, lines)?;
        let inode = file.metadata()?.ino();
        Ok(Some(Self { file, inode, position }))
    }

    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.file.metadata()?.len() < self.position {
            self.position = 0;
        }
        self.file.seek(SeekFrom::Start(self.position))?;
        let mut chunk = vec![0; CHUNK];
        let read = self.file.read(&mut chunk)?;
        self.position += read as u64;
        chunk.truncate(read);
        Ok((read > 0).then_some(chunk))
    }
}

/// Notifies when a file was written, replaced or created.
struct Watch(AsyncFd<Notifier>);

struct Notifier(Inotify);

impl std::os::fd::AsRawFd for Notifier {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watch {
    fn new(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        // The directory reports a new file; writes are watched on the file alone, since a busy disk may be in the same
        // directory.
        let directory = path.parent().unwrap_or(Path::new("/"));
        inotify.add_watch(directory, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)?;
        // SAFETY: the notifier owns its descriptor, shares it with nobody, and closes it only when dropped; it is
        // dropped with the registration.
        let watch = Self(unsafe { AsyncFd::register_with_interest(Notifier(inotify), Interest::READABLE) }?);
        watch.attach(path)?;
        Ok(watch)
    }

    /// Watches the file that is at `path` now, if any.
    fn attach(&self, path: &Path) -> io::Result<()> {
        match self.0.get_ref().0.add_watch(path, AddWatchFlags::IN_MODIFY) {
            Ok(_) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|inner| inner.get_ref().0.read_events().map_err(io::Error::from)) {
                Ok(events) => return events.map(drop),
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn log(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        fs::write(&path, text).unwrap();
        (directory, path)
    }

    #[test]
    fn the_last_lines_are_whole_lines() {
        let (_directory, path) = log("one\ntwo\nthree\n");
        let last = |lines| String::from_utf8(last_lines(&path, lines).unwrap()).unwrap();
        assert_eq!(last(1), "three\n");
        assert_eq!(last(2), "two\nthree\n");
        assert_eq!(last(9), "one\ntwo\nthree\n");
        assert_eq!(last(0), "one\ntwo\nthree\n");
    }

    #[test]
    fn lines_longer_than_a_step_and_a_last_line_without_newline_are_found() {
        let long = "x".repeat(40_000);
        let (_directory, path) = log(&format!("first\n{long}\nend"));
        assert_eq!(last_lines(&path, 1).unwrap(), b"end");
        assert_eq!(last_lines(&path, 2).unwrap().len(), 40_004);
        let (_directory, empty) = log("");
        assert_eq!(last_lines(&empty, 3).unwrap(), b"");
    }

    async fn receive(from: &mut mpsc::Receiver<Vec<u8>>, wanted: usize) -> String {
        let mut all = Vec::new();
        while all.len() < wanted {
            all.extend(from.recv().await.unwrap());
        }
        String::from_utf8(all).unwrap()
    }

    #[tokio::test]
    async fn a_followed_log_gives_what_is_written_replaced_and_begun_anew() {
        let (_directory, path) = log("one\ntwo\n");
        let (out, mut from) = mpsc::channel(8);
        let task = tokio::spawn(send(path.clone(), 1, true, out));
        assert_eq!(receive(&mut from, 4).await, "two\n");
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"three\n").unwrap();
        assert_eq!(receive(&mut from, 6).await, "three\n");
        fs::rename(&path, path.with_extension("old")).unwrap();
        fs::write(&path, "four\n").unwrap();
        assert_eq!(receive(&mut from, 5).await, "four\n");
        drop(from);
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_log_that_does_not_exist_is_an_error_or_awaited() {
        let (_directory, path) = log("");
        fs::remove_file(&path).unwrap();
        let (out, mut from) = mpsc::channel(8);
        assert!(send(path.clone(), 0, false, out.clone()).await.is_err());
        let task = tokio::spawn(send(path.clone(), 0, true, out));
        tokio::task::yield_now().await;
        fs::write(&path, "born\n").unwrap();
        assert_eq!(receive(&mut from, 5).await, "born\n");
        drop(from);
        task.await.unwrap().unwrap();
    }
}
