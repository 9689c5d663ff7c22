//! Ctrl-C and SIGTERM: no machine may stay behind. The baselines' processes die with ours (see `OwnChild`).

use std::{
    fs,
    path::PathBuf,
    process::{self, Command},
    thread,
};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

/// Runs `stop`, removes `home` and ends when a signal asks for it. Call it before any thread is started.
pub(crate) fn stop_when_interrupted(mut stop: Command, home: PathBuf) -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    // Blocked here, and so in every thread started from now; programs we run start with nothing blocked.
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
