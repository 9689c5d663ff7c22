//! A guest kernel that breaks the rules, on a real `rorqual-vmm` with a real `/dev/kvm`. Whatever it does, the monitor
//! and the machine's other devices must survive.
//!
//! [`kernel`] is the guest's code, [`script`] its instructions, [`cases`] the ways to misbehave, [`machine`] the
//! monitor around it. The monitor's own tests run every case, and so does the program `hostile-guest` in a machine with
//! its own virtualization.

#![cfg(target_arch = "x86_64")]

mod cases;
mod kernel;
mod machine;
mod script;

use std::path::Path;

/// The names of all cases.
pub fn names() -> Vec<&'static str> {
    cases::CASES.iter().map(|case| case.name).collect()
}

/// Runs one case with the monitor `monitor`.
///
/// The error names the unexpected outcome, with the monitor's log and the guest's console.
pub fn run(monitor: &Path, name: &str) -> Result<(), String> {
    let case = cases::CASES.iter().find(|case| case.name == name).ok_or_else(|| format!("there is no case {name}"))?;
    machine::run(monitor, case)
}

/// The reason this host cannot run the cases, if any.
pub fn unusable() -> Option<String> {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    opened.err().map(|error| format!("/dev/kvm cannot be opened: {error}"))
}
