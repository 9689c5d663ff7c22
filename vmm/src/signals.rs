//! SIGTERM and SIGINT to the monitor: the first asks the guest to power off, the second ends the machine.

use std::sync::Arc;
use std::thread;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use rorqual_vmm_protocol::Failure;
use tracing::{error, info};

use crate::confinement::{self, Thread};
use crate::machine::Machine;

fn wanted() -> SigSet {
    let mut wanted = SigSet::empty();
    wanted.add(Signal::SIGTERM);
    wanted.add(Signal::SIGINT);
    wanted
}

/// Blocks the signals until [`listen`] takes them. Call it before any thread starts: threads inherit it.
pub(crate) fn block() -> Result<(), Failure> {
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&wanted()), None).map_err(|error| Failure::internal("block signals", error))
}

/// Starts the thread that waits for the signals. Call it once the guest has been started: the first asks it to power
/// off.
pub(crate) fn listen(machine: Arc<Machine>) -> Result<(), Failure> {
    let waiting = move || {
        confinement::enter(Thread::Signals);
        let wanted = wanted();
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
