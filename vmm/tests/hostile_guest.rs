//! The monitor and a machine's other devices outlive whatever a guest kernel does. Runs a real kernel of a few hundred
//! instructions on /dev/kvm (`tests/hostile-guest`), even one that interprets them.

#![cfg(target_arch = "x86_64")]

use std::path::Path;

#[test]
fn the_monitor_and_the_other_devices_outlive_every_hostile_guest() {
    if let Some(reason) = rorqual_hostile_guest::unusable() {
        eprintln!("skipped: {reason}");
        return;
    }
    let monitor = Path::new(env!("CARGO_BIN_EXE_rorqual-vmm"));
    let failures: Vec<String> = rorqual_hostile_guest::names()
        .into_iter()
        .filter_map(|case| rorqual_hostile_guest::run(monitor, case).err().map(|reason| format!("{case}: {reason}")))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
