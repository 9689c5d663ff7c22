//! The cost of processes: CPU time, wakeups, memory. Linux's own counters, proc(5).

use std::{fs, io};

/// Ticks of `utime` and `stime` in a second (`USER_HZ`, proc(5)).
const TICKS: f64 = 100.0;

/// What a process has used since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// CPU time in ticks of 10 ms.
    pub ticks: u64,
    /// Times a living thread gave up its processor and was woken again.
    pub wakeups: u64,
}

impl Activity {
    /// Sums all threads of a process; zero for a process that has ended.
    pub fn of(process: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let mut activity = Self { ticks: ticks_in(&stat)?, wakeups: 0 };
        for thread in fs::read_dir(format!("/proc/{process}/task")).ok()?.flatten() {
            let Ok(status) = fs::read_to_string(thread.path().join("status")) else { continue };
            let switches = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            activity.wakeups += switches.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0);
        }
        Some(activity)
    }

    /// Sums several processes.
    pub fn of_all(processes: impl IntoIterator<Item = i32>) -> Self {
        processes.into_iter().filter_map(Self::of).fold(Self::default(), Self::and)
    }

    /// The sum of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { ticks: self.ticks + other.ticks, wakeups: self.wakeups + other.wakeups }
    }

    /// The usage since `before`. Ended threads and processes take their counts with them; a negative difference counts
    /// as zero.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self { ticks: self.ticks.saturating_sub(before.ticks), wakeups: self.wakeups.saturating_sub(before.wakeups) }
    }

    /// CPU time in seconds.
    pub fn seconds(self) -> f64 {
        f64::from(u32::try_from(self.ticks).unwrap_or(u32::MAX)) / TICKS
    }
}

/// Proportional set size of a process in bytes: its own memory, and that of a guest.
///
/// # Errors
///
/// Fails if the process has ended or belongs to another user.
pub fn memory(process: i32) -> io::Result<(u64, u64)> {
    Ok(memory_in(&fs::read_to_string(format!("/proc/{process}/smaps"))?))
}

/// Fields 14 and 15. The second field, the name, may contain anything and ends at the last bracket.
fn ticks_in(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// Guest memory is a file without a name: a memfd, or one created with `O_TMPFILE` (`/dev/shm/#123 (deleted)`).
fn memory_in(smaps: &str) -> (u64, u64) {
    let (mut own, mut guest) = (0, 0);
    let mut of_guest = false;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { continue };
        if first == "Pss:" {
            let size = words.next().and_then(|size| size.parse::<u64>().ok()).unwrap_or(0) * 1024;
            *(if of_guest { &mut guest } else { &mut own }) += size;
        } else if !first.ends_with(':') {
            let path = words.nth(4).unwrap_or_default();
            of_guest = path.starts_with("/memfd:") || path.rsplit('/').next().is_some_and(|name| name.starts_with('#'));
        }
    }
    (own, guest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_memory_is_told_apart() {
        let smaps = "559e-559f r-xp 0 fe:00 12 /usr/bin/rorqual-vmm\nPss: 300 kB\nPss_Dirty: 9 kB\n\
            7f00-7f80 rw-s 0 00:19 259 /dev/shm/#259 (deleted)\nPss: 1000 kB\n7f90-7f91 rw-p 0 00:00 0\nPss: 4 kB\n";
        assert_eq!(memory_in(smaps), (304 * 1024, 1000 * 1024));
    }

    #[test]
    fn processor_time_is_found_behind_any_name() {
        assert_eq!(ticks_in("7 (a b) c) S 1 1 1 0 -1 4194560 1 0 0 0 30 12 0 0 20 0"), Some(42));
    }
}
