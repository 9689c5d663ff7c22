//! The cost of a monitor: exits, from KVM's counters, and memory, from the kernel's account of its mappings.

use std::fs;

use anyhow::{Context, Result};

use crate::monitor::MEMORY_MIB;

const COUNTERS: &str = "/sys/kernel/debug/kvm";

/// Exits so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exits {
    /// Exits caused by the guest: all but those for the host's own interrupts, which only reflect the elapsed time.
    pub(crate) guest: u64,
    /// Of these, exits to the monitor's process: port and device accesses.
    pub(crate) to_monitor: u64,
}

impl Exits {
    /// Of the machine of `process`.
    pub(crate) fn of(process: u32) -> Result<Self> {
        let prefix = format!("{process}-");
        let folders = fs::read_dir(COUNTERS).with_context(|| format!("cannot read {COUNTERS}: is debugfs mounted?"))?;
        let machine = folders.flatten().find(|folder| folder.file_name().to_string_lossy().starts_with(&prefix));
        let machine = machine.context("the monitor has no machine of KVM's")?.path();
        let read = |name: &str| -> Result<u64> {
            let path = machine.join(name);
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            text.trim().parse().with_context(|| format!("{} is no number", path.display()))
        };
        let all = read("exits")?;
        Ok(Self { guest: all.saturating_sub(read("irq_exits")?), to_monitor: read("io_exits")? + read("mmio_exits")? })
    }
}

/// Resident memory of a process without the guest's memory, in bytes.
pub(crate) fn overhead(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/smaps");
    Ok(own_resident(&fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?))
}

/// Guest memory is the mapping, or the mappings of a memfd, of the guest's size.
fn own_resident(smaps: &str) -> u64 {
    let (mut sum, mut guest) = (0, false);
    for line in smaps.lines() {
        let kibibytes = |rest: &str| rest.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
        if let Some(size) = line.strip_prefix("Size:") {
            guest = kibibytes(size) >= MEMORY_MIB << 10;
        } else if let Some(resident) = line.strip_prefix("Rss:")
            && !guest
        {
            sum += kibibytes(resident) << 10;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_memory_is_not_the_monitor_s() {
        let smaps = "1-2 rw-s 0 00:01 5 /memfd:guest\nSize:            1048576 kB\nRss:               90000 kB\n\
                     2-3 r-xp 0 00:01 5 /usr/bin/x\nSize:               2000 kB\nRss:                1000 kB\n";
        assert_eq!(own_resident(smaps), 1000 << 10);
    }
}
