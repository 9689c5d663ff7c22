//! The cost of an idle machine: resident memory, CPU time, wakeups.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use rorqual_tests::{
    Machine,
    processes::{self, Process},
    usage::{Activity, memory},
};
use serde::Serialize;

/// Pause between the last command and the observation.
const SETTLE: Duration = Duration::from_secs(10);

/// Whether a process belongs to a part.
type IsOfPart = fn(&Process) -> bool;

/// The cost of one part of a machine, all its processes together.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cost {
    /// `daemon`, `vmm` or `guest kernel`.
    pub(crate) part: String,
    /// Processes at the end.
    pub(crate) processes: usize,
    /// Proportional set size in bytes, without guest memory.
    pub(crate) own_memory: u64,
    /// The part of the guest's memory in their proportional set size, in bytes.
    pub(crate) guest_memory: u64,
    /// Seconds of CPU time during the observation; in ticks of 10 ms.
    pub(crate) cpu_seconds: f64,
    /// Times a thread gave up its processor and was woken again during the observation.
    pub(crate) wakeups: u64,
}

/// The observation.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Idle {
    /// Its duration, in seconds.
    pub(crate) seconds: u64,
    /// Each part.
    pub(crate) parts: Vec<Cost>,
}

/// Observes a running, idle machine.
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
            of_part.fold(Activity::default(), |sum, (_, one)| sum.and(*one))
        };
        let spent = sum(&after).since(sum(&before));
        let mut cost = Cost {
            part: part.to_owned(),
            processes: live.iter().filter(|process| is(process)).count(),
            own_memory: 0,
            guest_memory: 0,
            cpu_seconds: spent.seconds(),
            wakeups: spent.wakeups,
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

fn activity(machine: &Machine) -> Vec<(Process, Activity)> {
    let live = processes::of_home(machine.home()).into_iter();
    live.filter_map(|process| Some((Activity::of(process.id)?, process)))
        .map(|(activity, process)| (process, activity))
        .collect()
}
