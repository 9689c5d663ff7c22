//! SIGTERM and SIGINT to the monitor: the first asks the guest to power off, the second ends the machine.

use std::sync::Arc;
use std::thread;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use tracing::{error, info};

use crate::error::Failure;
use crate::machine::Machine;

/// Starts the thread that waits for them. To be called before other threads are started: they inherit the blocked signals.
pub(crate) fn listen(machine: Arc<Machine>) -> Result<(), Failure> {
    let mut wanted = SigSet::empty();
    wanted.add(Signal::SIGTERM);
    wanted.add(Signal::SIGINT);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&wanted), None)
        .map_err(|error| Failure::internal("block signals", error))?;
    let waiting = move || {
        loop {
            match wanted.wait() {
                Ok(signal) if machine.is_stopping() => {
                    info!(%signal, "a second signal");
                    machine.kill();
                }
                Ok(signal) => {
                    info!(%signal, "a signal");
                    if let Err(failure) = machine.stop() {
                        error!("{failure}");
                        machine.kill();
                    }
                }
                Err(error) => return error!("the monitor cannot wait for signals: {error}"),
            }
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(waiting)
        .map(drop)
        .map_err(|error| Failure::internal("start a thread for signals", error))
}
