//! Ctrl-C and SIGTERM: no machine may remain. The baselines' processes die with ours (see `OwnChild`).

use std::{
    fs,
    path::PathBuf,
    process::{self, Command},
    thread,
};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

/// On a signal, runs `stop`, removes `home` and ends. Must be called before any thread starts.
pub(crate) fn stop_when_interrupted(mut stop: Command, home: PathBuf) -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    // Blocked here and in every thread started from now on; programs we run start with nothing blocked.
    signals.thread_block().context("cannot block signals")?;
    thread::spawn(move || {
        if signals.wait().is_ok() {
            eprintln!("bench: interrupted: stopping the machine");
            stop.status().ok();
            fs::remove_dir_all(&home).ok();
            process::exit(130);
        }
    });
    Ok(())
}
