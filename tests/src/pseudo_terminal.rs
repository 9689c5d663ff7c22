//! Runs a program on a real pseudo-terminal, like a terminal window.

use std::{
    fs::File,
    io::{Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command},
    sync::mpsc,
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use nix::pty::{Winsize, openpty};

use crate::{
    command::{line_of, status_number},
    wait::PATIENCE,
};

/// A program with a terminal of its own; killed when dropped.
#[derive(Debug)]
pub struct PseudoTerminal {
    child: Child,
    terminal: File,
    chunks: mpsc::Receiver<Vec<u8>>,
    seen: String,
    line: String,
}

fn window(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl PseudoTerminal {
    /// Starts `command` on a terminal of the given size.
    pub fn start(mut command: Command, columns: u16, rows: u16) -> Result<Self> {
        let line = line_of(&command);
        let pair = openpty(Some(&window(columns, rows)), None)?;
        let terminal = File::from(pair.master);
        let slave: OwnedFd = pair.slave;
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave).env("TERM", "xterm");
        // SAFETY: between fork and exec only setsid and an ioctl on descriptor 0, which is the terminal, are called;
        // both are async-signal-safe and touch no memory of this process.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().with_context(|| format!("cannot run `{line}`"))?;
        // The command's copies of the terminal's other end would hide the child's end.
        drop(command);
        let mut reader = terminal.try_clone()?;
        let (sender, chunks) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Reading from a terminal whose other end is closed fails: the end.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, terminal, chunks, seen: String::new(), line })
    }

    /// Types text; `\r` is the Enter key, `\u{3}` Ctrl-C, `\u{4}` Ctrl-D.
    pub fn type_text(&mut self, text: &str) -> Result<()> {
        Ok(self.terminal.write_all(text.as_bytes())?)
    }

    /// Changes the window size, like dragging its corner.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let size = window(columns, rows);
        // SAFETY: TIOCSWINSZ reads one winsize from the pointer, which is valid for the call; the descriptor is open.
        let result = unsafe { libc::ioctl(self.terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        if result < 0 { Err(std::io::Error::last_os_error().into()) } else { Ok(()) }
    }

    /// Reads until `text` has appeared on the screen, and discards what came before it.
    pub fn expect(&mut self, text: &str) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(position) = self.seen.find(text) {
                let rest = self.seen.split_off(position + text.len());
                return Ok(std::mem::replace(&mut self.seen, rest));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.chunks.recv_timeout(left) {
                Ok(chunk) => self.seen += &String::from_utf8_lossy(&chunk),
                Err(_) => {
                    bail!("{text:?} never appeared on the terminal of `{}`; last seen: {:?}", self.line, self.seen)
                }
            }
        }
    }

    /// Reads to the end; returns the output since then and the exit status.
    pub fn finish(mut self) -> Result<(String, i32)> {
        loop {
            match self.chunks.recv_timeout(PATIENCE) {
                Ok(chunk) => self.seen += &String::from_utf8_lossy(&chunk),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    bail!("`{}` does not end; last seen: {:?}", self.line, self.seen)
                }
            }
        }
        let status = self.child.wait()?;
        Ok((std::mem::take(&mut self.seen), status_number(status)))
    }

    /// Whether the terminal is in line mode with echo, as a shell's user expects it back.
    pub fn is_cooked(&self) -> Result<bool> {
        use nix::sys::termios::{LocalFlags, tcgetattr};
        let settings = tcgetattr(&self.terminal)?;
        Ok(settings.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO))
    }

    /// Process id of the program.
    pub fn process(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(-1)
    }
}

impl Drop for PseudoTerminal {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
