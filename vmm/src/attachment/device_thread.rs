//! The beginning of a thread that serves a device.

use std::cell::Cell;
use std::io;
use std::mem::zeroed;

use nix::errno::Errno;
use tracing::debug;

use crate::confinement::{self, Thread};

/// The shortest time slice that Linux gives, in nanoseconds.
const TIME_SLICE: u64 = 100_000;

thread_local! {
    static BEGUN: Cell<bool> = const { Cell::new(false) };
}

/// Prepares the calling thread to serve a device of this type. All calls but a thread's first do nothing.
pub(super) fn begin(device_type: u32) {
    if BEGUN.replace(true) {
        return;
    }
    // Without short time slices the guest only waits longer at times.
    if let Err(error) = take_short_time_slices() {
        debug!(%error, "a device's thread keeps the usual time slice");
    }
    confinement::enter(Thread::Device(device_type));
}

/// Asks the scheduler for the shortest time slices.
///
/// A device has little to do, but the guest waits for it. A thread that wakes on the processor where the guest's kernel
/// runs would wait for the end of the kernel's time slice, 4 ms on usual systems. A thread with shorter slices preempts
/// it (Linux 6.12, `PREEMPT_SHORT`). Older systems accept the request without effect.
fn take_short_time_slices() -> io::Result<()> {
    // SAFETY: sched_attr is plain data of which all zeroes is a valid value.
    let mut attributes: libc::sched_attr = unsafe { zeroed() };
    let size = size_of::<libc::sched_attr>() as u32;
    // SAFETY: `attributes` has `size` bytes; 0 is the calling thread.
    Errno::result(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) })?;
    if attributes.sched_policy != libc::SCHED_OTHER as u32 {
        // The user chose another policy.
        return Ok(());
    }
    attributes.size = size;
    attributes.sched_runtime = TIME_SLICE;
    // SAFETY: `attributes` has the size it declares; 0 is the calling thread.
    Errno::result(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_time_slices_are_taken_and_nothing_else_changes() {
        let attributes = || {
            // SAFETY: as above.
            let mut attributes: libc::sched_attr = unsafe { zeroed() };
            let size = size_of::<libc::sched_attr>() as u32;
            // SAFETY: as above.
            let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
            assert_eq!(result, 0);
            (attributes.sched_policy, attributes.sched_nice, attributes.sched_flags, attributes.sched_runtime)
        };
        // In a thread of its own, since this one is the harness's.
        let (before, after) = std::thread::spawn(move || {
            let before = attributes();
            take_short_time_slices().unwrap();
            (before, attributes())
        })
        .join()
        .unwrap();
        assert_eq!((after.0, after.1, after.2), (before.0, before.1, before.2));
        // Linux before 6.12 reports zero.
        assert!(after.3 == TIME_SLICE || before.3 == 0, "{before:?} {after:?}");
    }
}
