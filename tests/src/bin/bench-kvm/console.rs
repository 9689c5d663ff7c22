//! Waits for a line on a guest's console.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

use crate::monitor::Running;

/// A watch on a guest's console, created before the guest can have written.
pub(crate) struct ConsoleWatch(Inotify);

impl ConsoleWatch {
    pub(crate) fn new(running: &Running) -> Result<Self> {
        let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        watch.add_watch(&running.console_folder(), AddWatchFlags::IN_MODIFY)?;
        Ok(Self(watch))
    }

    /// Waits for a line that begins with `start`; returns when it was seen, and its rest.
    pub(crate) fn line(&self, running: &mut Running, start: &str, patience: Duration) -> Result<(Instant, String)> {
        loop {
            let text = running.console();
            let now = Instant::now();
            // The last piece is an incomplete line or empty.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            if let Some(rest) = whole.lines().find_map(|line| line.strip_prefix(start)) {
                return Ok((now, rest.trim().to_owned()));
            }
            if let Some(reason) = whole.lines().find_map(|line| line.strip_prefix("bench-init failed: ")) {
                bail!("the guest's bench-init has failed: {reason}");
            }
            self.wait(running, patience)?;
        }
    }

    /// Waits until the guest writes.
    pub(crate) fn wait(&self, running: &mut Running, patience: Duration) -> Result<()> {
        running.wait_readable(&self.0.as_fd(), patience)?;
        match self.0.read_events() {
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
