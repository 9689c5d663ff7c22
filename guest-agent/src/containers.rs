//! The containers of the guest as control groups, for when dockerd is not running or is ending.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::readiness;

/// Where dockerd puts containers' control groups.
const GROUPS: &str = "/sys/fs/cgroup/docker";
/// The time containers get between SIGTERM and SIGKILL, as with `docker stop`.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Ends the containers of a dockerd that died, before the next one starts.
///
/// The next dockerd would end them too, since it adopts none, but as if the user had: they would stay down whatever
/// their restart policy. Containers it finds dead are restarted according to their policy.
pub(crate) async fn end_abandoned() {
    if !Path::new(GROUPS).exists() {
        return;
    }
    ask_to_end(Path::new(GROUPS));
    match wait_or_kill(PATIENCE).await {
        Ok(true) => {}
        Ok(false) => debug!("had to kill some containers of the dockerd that died"),
        Err(error) => warn!("containers of the dockerd that died may still run: {error:#}"),
    }
}

/// Waits until no container runs any more, and kills those that still run after `patience`. Returns true if it killed
/// none.
pub(crate) async fn wait_or_kill(patience: Duration) -> Result<bool> {
    let groups = Path::new(GROUPS);
    if !groups.exists() {
        return Ok(true);
    }
    if let Ok(ended) = timeout(patience, all_ended(groups)).await {
        return ended.map(|()| true);
    }
    // Writing 1 kills the group and all below it (Linux, "Control Group v2").
    fs::write(groups.join("cgroup.kill"), "1").context("cannot kill the containers that did not stop")?;
    Ok(false)
}

/// Waits until no process is left in a control group or below it (Linux, "Control Group v2", `cgroup.events`).
async fn all_ended(groups: &Path) -> Result<()> {
    let path = groups.join("cgroup.events");
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).context("cannot watch containers")?;
    inotify.add_watch(&path, AddWatchFlags::IN_MODIFY).with_context(|| format!("cannot watch {}", path.display()))?;
    let inotify = readiness::watch(inotify).context("cannot watch containers")?;
    loop {
        let events = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if events.lines().any(|line| line == "populated 0") {
            return Ok(());
        }
        let mut buffer = [0; 4096];
        inotify
            .async_io(Interest::READABLE, |inotify| Ok(nix::unistd::read(inotify, &mut buffer)?))
            .await
            .context("cannot watch containers")?;
    }
}

/// Sends SIGTERM to the first process of each container.
pub(crate) fn ask_all_to_end() {
    ask_to_end(Path::new(GROUPS));
}

fn ask_to_end(group: &Path) {
    if let Err(error) = try_ask_to_end(group) {
        debug!("cannot ask the containers of {} to end: {error}", group.display());
    }
}

fn try_ask_to_end(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)?.flatten() {
        if entry.file_type()?.is_dir() {
            ask_to_end(&entry.path());
        }
    }
    for process in fs::read_to_string(group.join("cgroup.procs"))?.lines() {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        if let (true, Ok(id)) = (is_first_of_container(&status), process.parse()) {
            // It may have ended by now.
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
    }
    Ok(())
}

/// Whether a process is number 1 of a process namespace of its own, from its `/proc/<id>/status`.
fn is_first_of_container(status: &str) -> bool {
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let mut ids = ids.split_whitespace();
    ids.next().is_some() && ids.next_back() == Some("1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_process_of_a_container_is_number_one_in_its_namespace() {
        assert!(is_first_of_container("Name:\tnginx\nNSpid:\t812\t1\nUid:\t0\n"));
        assert!(!is_first_of_container("Name:\tworker\nNSpid:\t813\t7\n"));
    }

    #[test]
    fn the_guests_own_first_process_is_no_containers() {
        assert!(!is_first_of_container("Name:\tinit\nNSpid:\t1\n"));
        assert!(!is_first_of_container(""));
    }
}
