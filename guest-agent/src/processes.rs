//! The processes PID 1 is responsible for: its own children, and every orphan.
//!
//! One call of `waitpid(-1)` at a time collects processes that ended, under the lock that also covers a start. The
//! statuses of our own children go to their waiters; the rest were orphans. Nothing else in the agent may wait for a
//! process, which rules out `tokio::process` and `Child::wait`.

use std::collections::HashMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tracing::debug;

/// Starts processes and collects those that ended.
#[derive(Clone)]
pub(crate) struct Processes {
    waiting: Arc<Mutex<HashMap<Pid, oneshot::Sender<ExitStatus>>>>,
    childless: watch::Sender<bool>,
}

/// A process that was started here.
pub(crate) struct Running {
    /// Its process ID, not reused before [`Running::exit`] has reported the end.
    pub(crate) pid: Pid,
    /// The pipes the command asked for.
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
    /// Resolves once, when it has ended.
    pub(crate) exit: oneshot::Receiver<ExitStatus>,
}

impl Processes {
    /// No process yet. Ends are reported only while [`Processes::collect`] runs.
    pub(crate) fn new() -> Self {
        Self { waiting: Arc::default(), childless: watch::Sender::new(true) }
    }

    /// Starts a process.
    pub(crate) fn start(&self, command: &mut Command) -> io::Result<Running> {
        // Held from before the process exists until its ID is known, so that its end is not taken for an orphan's.
        let mut waiting = self.lock();
        let mut child = command.spawn()?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let (ended, exit) = oneshot::channel();
        waiting.insert(pid, ended);
        self.childless.send_replace(false);
        Ok(Running { pid, stdin: child.stdin.take(), stdout: child.stdout.take(), stderr: child.stderr.take(), exit })
    }

    /// Signals a process started here, if it has not ended. Its ID cannot belong to another process by then.
    pub(crate) fn signal(&self, pid: Pid, signal: Signal) -> Result<(), Errno> {
        let waiting = self.lock();
        if waiting.contains_key(&pid) { kill(pid, signal) } else { Err(Errno::ESRCH) }
    }

    /// Collects processes as they end, for ever.
    pub(crate) async fn collect(self) -> io::Result<()> {
        let mut children = signal(SignalKind::child())?;
        loop {
            self.collect_ended();
            if children.recv().await.is_none() {
                return Ok(());
            }
        }
    }

    /// Waits until no process is left to collect.
    pub(crate) async fn none_left(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.childless.subscribe().wait_for(|childless| *childless).await;
    }

    fn collect_ended(&self) {
        let mut waiting = self.lock();
        loop {
            let status = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                Err(_) => {
                    self.childless.send_replace(true);
                    return;
                }
            };
            let (pid, exit) = match status {
                WaitStatus::Exited(pid, code) => (pid, ExitStatus::from_raw(code << 8)),
                WaitStatus::Signaled(pid, signal, _) => (pid, ExitStatus::from_raw(signal as i32)),
                WaitStatus::StillAlive => {
                    self.childless.send_replace(false);
                    return;
                }
                _ => continue,
            };
            match waiting.remove(&pid) {
                // The one who started it may have dropped the receiver.
                Some(ended) => drop(ended.send(exit)),
                None => debug!("orphan {pid} ended: {exit}"),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Pid, oneshot::Sender<ExitStatus>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    /// One test for all of it, because it collects every child of the test process.
    #[tokio::test]
    async fn ends_are_reported_to_the_starter_and_orphans_are_collected() {
        let processes = Processes::new();
        let collector = tokio::spawn(processes.clone().collect());

        let succeeded = processes.start(&mut Command::new("true")).unwrap();
        let failed = processes.start(Command::new("sh").args(["-c", "exit 7"])).unwrap();
        let stuck = processes.start(Command::new("cat").stdin(Stdio::piped())).unwrap();
        assert!(processes.start(&mut Command::new("/no/such/program")).is_err());
        let ignored = processes.start(&mut Command::new("true")).unwrap();
        drop(ignored);

        assert!(succeeded.exit.await.unwrap().success());
        assert_eq!(failed.exit.await.unwrap().code(), Some(7));
        assert_eq!(processes.signal(failed.pid, Signal::SIGTERM), Err(Errno::ESRCH));
        processes.signal(stuck.pid, Signal::SIGKILL).unwrap();
        assert_eq!(stuck.exit.await.unwrap().signal(), Some(9));

        // Not started through it, so an orphan to it.
        #[expect(clippy::zombie_processes, reason = "the collector under test waits for it")]
        let _unknown = Command::new("true").spawn().unwrap();
        processes.none_left().await;
        collector.abort();
    }
}
