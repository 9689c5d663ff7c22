//! How a thread that serves a device begins.

use std::cell::Cell;
use std::io;
use std::mem::zeroed;

use nix::errno::Errno;
use tracing::debug;

use crate::confinement::{self, Thread};

/// The shortest turn Linux gives, in nanoseconds.
const TURN: u64 = 100_000;

thread_local! {
    static BEGUN: Cell<bool> = const { Cell::new(false) };
}

/// To be called before a thread serves a device of this type, each time: all calls but a thread's first do nothing.
pub(super) fn begin(device_type: u32) {
    if BEGUN.replace(true) {
        return;
    }
    // Without it the guest waits longer at times, no more.
    if let Err(error) = take_short_turns() {
        debug!(%error, "a device's thread has turns as long as any other");
    }
    confinement::enter(Thread::Device(device_type));
}

/// Asks the scheduler for turns as short as it gives.
///
/// A device has little to do and much depends on when: the guest waits. A thread that is woken on the processor where the guest's kernel runs
/// otherwise waits for the end of that one's turn, 4 ms on usual systems; one with shorter turns does not (Linux 6.12, `PREEMPT_SHORT`). Older
/// systems accept the request and do not heed it.
fn take_short_turns() -> io::Result<()> {
    // SAFETY: sched_attr is plain data of which all zeroes is a valid value.
    let mut attributes: libc::sched_attr = unsafe { zeroed() };
    let size = size_of::<libc::sched_attr>() as u32;
    // SAFETY: `attributes` is as long as said; 0 is the calling thread.
    Errno::result(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) })?;
    if attributes.sched_policy != libc::SCHED_OTHER as u32 {
        // Somebody has decided otherwise.
        return Ok(());
    }
    attributes.size = size;
    attributes.sched_runtime = TURN;
    // SAFETY: `attributes` is as long as it says; 0 is the calling thread.
    Errno::result(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_turns_are_taken_and_nothing_else_changes() {
        let attributes = || {
            // SAFETY: as above.
            let mut attributes: libc::sched_attr = unsafe { zeroed() };
            let size = size_of::<libc::sched_attr>() as u32;
            // SAFETY: as above.
            let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
            assert_eq!(result, 0);
            (attributes.sched_policy, attributes.sched_nice, attributes.sched_flags, attributes.sched_runtime)
        };
        // A thread of its own: this one is the harness's.
        let (before, after) = std::thread::spawn(move || {
            let before = attributes();
            take_short_turns().unwrap();
            (before, attributes())
        })
        .join()
        .unwrap();
        assert_eq!((after.0, after.1, after.2), (before.0, before.1, before.2));
        // Before Linux 6.12 it is not told, and zero.
        assert!(after.3 == TURN || before.3 == 0, "{before:?} {after:?}");
    }
}
