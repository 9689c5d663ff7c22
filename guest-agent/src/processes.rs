//! The processes of the guest as PID 1 has them: its own children, and every orphan.
//!
//! One call of `waitpid(-1)` at a time, under the lock that also covers a start, collects whatever ended; statuses of our
//! own children go to whoever waits for them, the rest were orphans. Nothing else in the agent waits for a process, so
//! `tokio::process` and `Child::wait` have no place here.

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
    /// Its process id, its own until [`Running::exit`] told the end.
    pub(crate) pid: Pid,
    /// Its pipes, as far as the command asked for them.
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
    /// Told once, when it ended.
    pub(crate) exit: oneshot::Receiver<ExitStatus>,
}

impl Processes {
    /// Without any process yet; [`Processes::collect`] must run for ends to be told.
    pub(crate) fn new() -> Self {
        Self { waiting: Arc::default(), childless: watch::Sender::new(true) }
    }

    /// Starts a process.
    pub(crate) fn start(&self, command: &mut Command) -> io::Result<Running> {
        // Held from before the process exists until its id is known: its end cannot be taken for an orphan's.
        let mut waiting = self.lock();
        let mut child = command.spawn()?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let (ended, exit) = oneshot::channel();
        waiting.insert(pid, ended);
        self.childless.send_replace(false);
        Ok(Running { pid, stdin: child.stdin.take(), stdout: child.stdout.take(), stderr: child.stderr.take(), exit })
    }

    /// Signals a process started here, if it has not ended; its id cannot have become another's.
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

    /// Waits until no process is left that is ours to collect.
    pub(crate) async fn none_left(&self) {
        // The sender lives in `self`: the wait cannot fail.
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
                // Whoever started it may have lost interest.
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

    /// One test for all of it: it collects every child of the test process, which two at once would fight over.
    #[tokio::test]
    async fn ends_are_told_to_whoever_started_the_process_and_orphans_are_collected() {
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

        // Started behind its back, this is an orphan to it.
        #[expect(clippy::zombie_processes, reason = "the collector under test waits for it")]
        let _unknown = Command::new("true").spawn().unwrap();
        processes.none_left().await;
        collector.abort();
    }
}
