//! Starts a process that outlives its parent, and reports when it is ready.
//!
//! The child runs in a session of its own and holds the write end of a pipe. It writes one line of JSON,
//! `{"ready":true}` or `{"error":{"code":"…","message":"…","fix":"…"}}`, and closes the pipe. Its death closes the pipe
//! too, so the parent never waits in vain.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::unix::pipe,
    process::{Child, Command},
};

use crate::error::Failure;

/// Maximum length of the readiness line, in bytes.
const MAX_LINE: u64 = 64 * 1024;

/// The readiness line of the daemon; the monitor's is [`rorqual_vmm_protocol::Readiness`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Readiness {
    /// It is ready.
    Ready(bool),
    /// It cannot run, and why.
    Error(Failure),
}

/// A started process that has not reported yet.
pub(crate) struct Starting {
    /// The process. Waiting for it reaps it, and so does dropping it; neither ends it.
    pub(crate) child: Child,
    ready: OwnedFd,
}

impl Starting {
    /// Waits for the line. `None` if the process exited or closed the pipe without one.
    pub(crate) async fn ready<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let receiver = pipe::Receiver::from_owned_fd_unchecked(self.ready.try_clone()?)?;
        let mut line = String::new();
        BufReader::new(receiver.take(MAX_LINE)).read_line(&mut line).await?;
        if line.is_empty() {
            return Ok(None);
        }
        serde_json::from_str(&line).map(Some).map_err(io::Error::other)
    }
}

/// Starts `command` in a session of its own. `announce` receives the number of the child's descriptor for the pipe and
/// puts it among the arguments or the environment.
pub(crate) fn start(mut command: Command, announce: impl FnOnce(&mut Command, RawFd)) -> io::Result<Starting> {
    let (ready, child_end) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    nix::fcntl::fcntl(&ready, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    let number = child_end.as_raw_fd();
    announce(&mut command, number);
    // SAFETY: between fork and exec only async-signal-safe calls are made (setsid, fcntl), nothing is allocated, and
    // `number` is open in the child because `child_end` lives until after `spawn`.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::setsid()?;
            if libc::fcntl(number, libc::F_SETFD, 0) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let child = command.spawn()?;
    drop(child_end);
    Ok(Starting { child, ready })
}

/// The child's side: the pipe at descriptor `number`; `None` if that is not a pipe.
pub(crate) fn inherited(number: RawFd) -> Option<OwnedFd> {
    let is_pipe = std::fs::metadata(format!("/proc/self/fd/{number}"))
        .is_ok_and(|metadata| std::os::unix::fs::FileTypeExt::is_fifo(&metadata.file_type()));
    if number <= 2 || !is_pipe {
        return None;
    }
    // SAFETY: the descriptor is open (checked above), and the parent opened it for this use alone and named it here;
    // nothing else in the process owns it.
    let end = unsafe { OwnedFd::from_raw_fd(number) };
    let flag = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
    nix::fcntl::fcntl(&end, flag).ok().map(|_| end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Starting {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        start(command, |command, number| {
            command.env("FD", number.to_string());
        })
        .unwrap()
    }

    #[tokio::test]
    async fn a_ready_process_is_heard() {
        let mut starting = shell(r#"echo '{"ready":true}' > /proc/self/fd/$FD"#);
        assert!(matches!(starting.ready::<Readiness>().await.unwrap(), Some(Readiness::Ready(true))));
        starting.child.wait().await.unwrap();
    }

    #[tokio::test]
    async fn a_process_that_cannot_start_says_why() {
        let mut starting = shell(r#"echo '{"error":{"code":"no-memory","message":"too little"}}' > /proc/self/fd/$FD"#);
        let said = starting.ready::<Readiness>().await.unwrap();
        assert!(matches!(said, Some(Readiness::Error(Failure { code, .. })) if code == "no-memory"));
        starting.child.wait().await.unwrap();
    }

    #[tokio::test]
    async fn a_process_that_dies_silently_keeps_nobody_waiting() {
        let mut starting = shell("exit 3");
        assert!(starting.ready::<Readiness>().await.unwrap().is_none());
        assert_eq!(starting.child.wait().await.unwrap().code(), Some(3));
    }

    #[tokio::test]
    async fn the_child_leads_its_own_session() {
        let mut starting =
            shell(r#"[ "$(cut -d' ' -f6 /proc/$$/stat)" = $$ ] && echo '{"ready":true}' > /proc/self/fd/$FD"#);
        assert!(matches!(starting.ready::<Readiness>().await.unwrap(), Some(Readiness::Ready(true))));
        starting.child.wait().await.unwrap();
    }
}
