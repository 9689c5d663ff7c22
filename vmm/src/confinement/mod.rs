//! Confinement: what is left to a thread of the monitor that a guest has taken over.
//!
//! Each thread takes the restrictions of its kind in its first lines, by [`enter`]: its capabilities go, and a seccomp filter
//! ([`filters`], one function per kind) leaves it the system calls it needs. Before the first thread starts, the main thread has given up
//! new privileges and, by Landlock ([`paths`]), all files but the machine's own; threads inherit both. The main thread enters its own
//! filter last. A call that is not allowed ends the process and says which it was ([`denied`]).
//!
//! A new system call? Add it to the function of the thread in [`filters`]. Without knowing which: `strace -f` on the monitor, or run it and read
//! the last line of its log. `"confinement": "off"` in the configuration takes all of this away, to tell whether it is the cause.
//!
//! What the host does not have (Landlock before Linux 5.13) is left out with a warning; [`status`] tells what holds.

mod capabilities;
mod denied;
pub mod descriptors;
pub mod filters;
pub mod paths;
mod rules;
#[cfg(test)]
pub(crate) mod tests;

use std::cell::Cell;
use std::io;
use std::process;
use std::sync::OnceLock;

use nix::sys::prctl;
use serde_json::{Value, json};
use tracing::{debug, error, warn};

pub use self::denied::DENIED_STATUS;
pub use self::filters::Thread;
use self::paths::{Landlock, Paths};
use crate::config::Accelerator;
use crate::error::Failure;

/// What this process decided when it began. Not there: nothing is confined (probes, tests, `device`).
static PROCESS: OnceLock<Process> = OnceLock::new();
static LANDLOCK: OnceLock<Landlock> = OnceLock::new();

thread_local! {
    static ENTERED: Cell<bool> = const { Cell::new(false) };
}

#[derive(Debug)]
struct Process {
    accelerator: Accelerator,
    seccomp: bool,
}

/// Begins to confine this process: no new privileges from here on, and threads that [`enter`] are filtered. To be called by the main
/// thread before it starts others, once in the life of the process.
pub fn begin(accelerator: Accelerator) -> Result<(), Failure> {
    prctl::set_no_new_privs().map_err(|error| Failure::internal("give up new privileges", error))?;
    limit_arenas();
    let seccomp = filters::available();
    if seccomp {
        denied::report_denied_calls().map_err(|error| Failure::internal("handle denied system calls", error))?;
    } else {
        warn!("this system has no seccomp filters: the monitor's threads may make every system call");
    }
    if PROCESS.set(Process { accelerator, seccomp }).is_err() {
        debug!("the process was confined already");
    }
    Ok(())
}

/// With an arena of memory for each thread, the C library opens files of /sys and /proc: before it makes the ninth, and when one shrinks. Whichever
/// thread comes to that would die of it. With one arena for all it opens none, and the monitor is smaller.
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

/// Leaves this thread, and those it will start, nothing of the file system but `paths`. Does nothing before [`begin`].
pub fn restrict_paths(paths: &Paths) -> Result<(), Failure> {
    if !is_on() {
        return Ok(());
    }
    let landlock = paths.restrict()?;
    if landlock == Landlock::Absent {
        warn!("this system has no Landlock: only the user's permissions keep the monitor from other files");
    }
    let _ = LANDLOCK.set(landlock);
    Ok(())
}

/// Takes the restrictions of `thread` for the calling thread: to be called in its first lines. Does nothing before [`begin`], nor when the
/// thread has entered.
///
/// A thread that cannot be confined must not serve the guest: then the process ends with [`DENIED_STATUS`].
pub fn enter(thread: Thread) {
    let Some(process) = PROCESS.get() else { return };
    if ENTERED.replace(true) {
        return;
    }
    if let Err(reason) = process.confine(thread) {
        error!(?thread, "the monitor ends: a thread cannot be confined: {reason}");
        process::exit(DENIED_STATUS);
    }
}

impl Process {
    fn confine(&self, thread: Thread) -> io::Result<()> {
        capabilities::drop_all()?;
        if self.seccomp {
            let program = filters::of(thread, self.accelerator).compile().map_err(io::Error::other)?;
            seccompiler::apply_filter(&program).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

/// What holds in this process, as the control socket tells it.
pub fn status() -> Value {
    let landlock = match LANDLOCK.get() {
        Some(Landlock::Abi(number)) => json!(format!("abi {number}")),
        Some(Landlock::Absent) | None => Value::Null,
    };
    json!({"seccomp": PROCESS.get().is_some_and(|process| process.seccomp), "landlock": landlock})
}

/// Confines the supervisor of a guest kernel, and with it the kernel: `paths` and nothing else, no capabilities. No filter: User Mode Linux
/// needs many system calls.
pub fn confine_guest_kernel(paths: &Paths) -> Result<(), Failure> {
    paths.restrict()?;
    capabilities::drop_all().map_err(|error| Failure::internal("drop capabilities", error))
}
