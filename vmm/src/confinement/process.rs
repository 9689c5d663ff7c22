//! Confining this process and its threads.

use std::cell::Cell;
use std::io;
use std::process;
use std::sync::OnceLock;

use nix::sys::prctl;
use nix::unistd::geteuid;
use rorqual_vmm_protocol::{ConfinementStatus, Failure};
use tracing::{debug, error, warn};

use super::capabilities;
use super::denied::{self, DENIED_STATUS};
use super::filters::{self, GuestKind, Thread};
use super::paths::{Landlock, Paths};

/// What [`begin`] decided. Unset where nothing is confined (probes, tests, `device`).
static PROCESS: OnceLock<Process> = OnceLock::new();
static LANDLOCK: OnceLock<Landlock> = OnceLock::new();

thread_local! {
    static ENTERED: Cell<bool> = const { Cell::new(false) };
}

#[derive(Debug)]
struct Process {
    guest: GuestKind,
    seccomp: bool,
}

/// Begins to confine this process: no new privileges from here on, and filters for threads that [`enter`]. The main
/// thread calls it once, before it starts others.
pub fn begin(guest: GuestKind) -> Result<(), Failure> {
    prctl::set_no_new_privs().map_err(|error| Failure::internal("give up new privileges", error))?;
    limit_arenas();
    let seccomp = filters::available();
    if seccomp {
        denied::report_denied_calls().map_err(|error| Failure::internal("handle denied system calls", error))?;
    } else {
        warn!("this system has no seccomp filters, so the monitor's threads may make every system call");
    }
    if PROCESS.set(Process { guest, seccomp }).is_err() {
        debug!("the process was confined already");
    }
    Ok(())
}

/// Makes the C library use one arena of memory for all threads. With one per thread it opens files of /sys and /proc,
/// before it creates the ninth and when one shrinks, and the thread that does so would be killed.
fn limit_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call sets a number in the C library, which takes its own lock.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
}

/// True once [`begin`] was called.
pub fn is_on() -> bool {
    PROCESS.get().is_some()
}

/// Restricts this thread, and those it will start, to `paths` of the file system. Does nothing before [`begin`].
pub fn restrict_paths(paths: &Paths) -> Result<(), Failure> {
    if !is_on() {
        return Ok(());
    }
    let landlock = paths.restrict()?;
    if landlock == Landlock::Absent {
        warn!("this system has no Landlock, so only the user's permissions keep the monitor from other files");
    }
    let _ = LANDLOCK.set(landlock);
    Ok(())
}

/// Takes the restrictions of `thread` for the calling thread, which calls this in its first lines. Does nothing before
/// [`begin`], nor in a thread that has entered.
///
/// A thread that cannot be confined must not serve the guest: the process ends with [`DENIED_STATUS`].
pub fn enter(thread: Thread) {
    let Some(process) = PROCESS.get() else { return };
    if ENTERED.replace(true) {
        return;
    }
    if let Err(reason) = process.confine(thread) {
        error!(?thread, "the monitor ends because a thread cannot be confined: {reason}");
        process::exit(DENIED_STATUS);
    }
}

impl Process {
    fn confine(&self, thread: Thread) -> io::Result<()> {
        capabilities::drop_all()?;
        if self.seccomp {
            let program = filters::of(thread, self.guest).compile().map_err(io::Error::other)?;
            seccompiler::apply_filter(&program).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

/// What holds in this process, for the control socket.
pub fn status() -> ConfinementStatus {
    let landlock = match LANDLOCK.get() {
        Some(Landlock::Abi(number)) => Some(format!("abi {number}")),
        Some(Landlock::Absent) | None => None,
    };
    ConfinementStatus { landlock, seccomp: PROCESS.get().is_some_and(|process| process.seccomp) }
}

/// Confines the supervisor of a guest kernel, and with it the kernel, to `paths` and no capabilities. No filter, since
/// User Mode Linux needs many system calls.
pub fn confine_guest_kernel(paths: &Paths) -> Result<(), Failure> {
    paths.restrict()?;
    if geteuid().is_root() {
        capabilities::disown_root().map_err(|error| Failure::internal("give up the rights of root", error))?;
    }
    capabilities::drop_all().map_err(|error| Failure::internal("drop capabilities", error))
}
