//! What an idle machine costs: resident memory, processor time, wakeups.

use std::{fs, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use rorqual_tests::{
    Machine,
    processes::{self, Process},
};
use serde::Serialize;

/// Ticks of `utime` and `stime` in a second (`USER_HZ`, proc(5)).
const TICKS: f64 = 100.0;

/// After the last command, before the watch begins.
const SETTLE: Duration = Duration::from_secs(10);

/// Whether a process is of a part.
type IsOfPart = fn(&Process) -> bool;

/// What one part of a machine costs, all its processes together.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cost {
    /// `daemon`, `vmm` or `guest kernel`.
    pub(crate) part: String,
    /// Processes at the end.
    pub(crate) processes: usize,
    /// Proportional set size in bytes, guest memory left out.
    pub(crate) own_memory: u64,
    /// The part of the guest's memory in their proportional set size, in bytes.
    pub(crate) guest_memory: u64,
    /// Seconds of processor time during the watch; ticks of 10 ms.
    pub(crate) cpu_seconds: f64,
    /// Times a thread gave up its processor and was woken again during the watch.
    pub(crate) wakeups: u64,
}

/// The watch.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Idle {
    /// How long, in seconds.
    pub(crate) seconds: u64,
    /// Each part.
    pub(crate) parts: Vec<Cost>,
}

/// Watches a machine that runs and has nothing to do.
pub(crate) fn watch(machine: &Machine, seconds: u64) -> Result<Idle> {
    eprintln!("bench: idle: {} s to settle, {seconds} s to watch", SETTLE.as_secs());
    thread::sleep(SETTLE);
    let before = activity(machine);
    thread::sleep(Duration::from_secs(seconds));
    let after = activity(machine);
    let live = processes::of_home(machine.home());
    let parts: [(&str, IsOfPart); 3] =
        [("daemon", Process::is_daemon), ("vmm", Process::is_vmm), ("guest kernel", Process::is_uml)];
    let parts = parts.into_iter().map(|(part, is)| {
        let sum = |activity: &[(Process, Activity)]| {
            let of_part = activity.iter().filter(|(process, _)| is(process));
            of_part.fold((0, 0), |(ticks, wakeups), (_, one)| (ticks + one.ticks, wakeups + one.wakeups))
        };
        let (before, after) = (sum(&before), sum(&after));
        let mut cost = Cost {
            part: part.to_owned(),
            processes: live.iter().filter(|process| is(process)).count(),
            own_memory: 0,
            guest_memory: 0,
            // A guest process that ended takes its ticks along: then there is less after than before.
            cpu_seconds: f64::from(u32::try_from(after.0.saturating_sub(before.0))?) / TICKS,
            wakeups: after.1.saturating_sub(before.1),
        };
        for process in live.iter().filter(|process| is(process)) {
            let (own, guest) = memory(process.id).with_context(|| format!("cannot read the memory of {process}"))?;
            cost.own_memory += own;
            cost.guest_memory += guest;
        }
        ensure!(cost.processes > 0, "the {part} of the idle machine has no process");
        Ok(cost)
    });
    Ok(Idle { seconds, parts: parts.collect::<Result<_>>()? })
}

#[derive(Clone, Copy, Debug, Default)]
struct Activity {
    ticks: u64,
    wakeups: u64,
}

fn activity(machine: &Machine) -> Vec<(Process, Activity)> {
    let live = processes::of_home(machine.home()).into_iter();
    live.filter_map(|process| Some((activity_of(process.id)?, process)))
        .map(|(activity, process)| (process, activity))
        .collect()
}

/// Of all threads; none of a process that has ended.
fn activity_of(process: i32) -> Option<Activity> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut activity = Activity { ticks: ticks_in(&stat)?, wakeups: 0 };
    for thread in fs::read_dir(format!("/proc/{process}/task")).ok()?.flatten() {
        let Ok(status) = fs::read_to_string(thread.path().join("status")) else { continue };
        let switches = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        activity.wakeups += switches.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0);
    }
    Some(activity)
}

/// Fields 14 and 15; the second, the name, may contain anything and ends at the last bracket.
fn ticks_in(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// Proportional set size of a process in bytes: its own, and of the guest's memory.
fn memory(process: i32) -> Result<(u64, u64)> {
    Ok(memory_in(&fs::read_to_string(format!("/proc/{process}/smaps"))?))
}

/// Guest memory is a file without a name: a memfd, or one made with `O_TMPFILE` (`/dev/shm/#123 (deleted)`).
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
