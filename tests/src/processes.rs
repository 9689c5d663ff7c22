//! Finds the processes of one state directory by their open files, for the fault tests.

use std::{fmt, fs, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A process of a machine or its daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub id: i32,
    /// Process id of its parent.
    pub parent: i32,
    /// Its arguments, joined by spaces.
    pub line: String,
}

impl Process {
    /// Ends it at once, as `kill -9` does.
    pub fn kill(&self) {
        // It may have ended already.
        kill(Pid::from_raw(self.id), Signal::SIGKILL).ok();
    }

    /// Whether it is the monitor.
    pub fn is_vmm(&self) -> bool {
        self.program().ends_with("rorqual-vmm")
    }

    /// Whether it is the daemon.
    pub fn is_daemon(&self) -> bool {
        self.program().ends_with("rorqual") && self.line.split(' ').any(|word| word == "daemon")
    }

    /// Whether it is the User Mode Linux kernel or one of its guest's processes.
    pub fn is_uml(&self) -> bool {
        self.program().ends_with("/linux") || self.program() == "linux"
    }

    fn program(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }
}

impl fmt::Display for Process {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line: String = self.line.chars().take(120).collect();
        write!(formatter, "process {} of {}: {line}", self.id, self.parent)
    }
}

/// Every live process that belongs to the state directory `home`: it names it in its arguments or environment, or holds
/// a file in it open. Processes of the tests themselves, docker clients and this one, do not count.
pub fn of_home(home: &Path) -> Vec<Process> {
    let Some(home) = home.to_str() else { return Vec::new() };
    ids().into_iter().filter_map(read).filter(|process| ours(process) && belongs(process.id, home)).collect()
}

/// A process and all its descendants, itself first.
pub fn family(process: i32) -> Vec<i32> {
    let parents: Vec<Process> = ids().into_iter().filter_map(read).collect();
    let mut family = vec![process];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(parents.iter().filter(|one| one.parent == parent).map(|one| one.id));
        next += 1;
    }
    family
}

fn ids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn ours(process: &Process) -> bool {
    process.is_vmm() || process.is_daemon() || process.is_uml()
}

fn belongs(id: i32, home: &str) -> bool {
    let names = |file: &str| {
        fs::read(format!("/proc/{id}/{file}")).is_ok_and(|text| String::from_utf8_lossy(&text).contains(home))
    };
    let opens = || {
        let Ok(entries) = fs::read_dir(format!("/proc/{id}/fd")) else { return false };
        entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).any(|target| target.starts_with(home))
    };
    names("cmdline") || names("environ") || opens() || names("maps")
}

/// A process that is not a zombie.
fn read(id: i32) -> Option<Process> {
    let line = fs::read(format!("/proc/{id}/cmdline")).ok()?;
    let line = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
    if line.is_empty() {
        return None;
    }
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name may contain anything; state and parent follow it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z").then_some(Process { id, parent, line })
}
