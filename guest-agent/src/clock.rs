//! The guest's clocks.

use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

/// Milliseconds since the kernel started, sleep included.
pub(crate) fn uptime_ms() -> u64 {
    // The clock exists on every kernel this runs on; 0 only makes a log line less useful.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |now| Duration::from(now).as_millis() as u64)
}

/// Sets the wall clock and returns how far it was off before, in nanoseconds (guest minus given).
pub(crate) fn set_wall_clock(unix_nanoseconds: i64) -> Result<i64, Errno> {
    let before = clock_gettime(ClockId::CLOCK_REALTIME)?;
    let before = before.tv_sec().saturating_mul(1_000_000_000).saturating_add(before.tv_nsec());
    let wanted = TimeSpec::new(unix_nanoseconds.div_euclid(1_000_000_000), unix_nanoseconds.rem_euclid(1_000_000_000));
    clock_settime(ClockId::CLOCK_REALTIME, wanted)?;
    Ok(before.saturating_sub(unix_nanoseconds))
}
