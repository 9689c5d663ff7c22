//! Whether KVM works, by running guest instructions: a /dev/kvm that opens is no proof. Some hosts interpret
//! what should run on the processor, too slowly to boot anything, or lack instructions a kernel uses.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::probe::Finding;

/// A KVM that works is done in milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tries KVM. Returns within about five seconds whatever KVM does; a trial that hangs ends with this process.
pub fn probe() -> Finding {
    let (sender, outcome) = mpsc::channel();
    let trial = thread::Builder::new().name("kvm-trial".to_owned()).spawn(move || {
        // Nobody listens any more when it took too long.
        let _ = sender.send(run_trial());
    });
    if let Err(error) = trial {
        return Err(format!("cannot start a thread to try KVM: {error}")).into();
    }
    match outcome.recv_timeout(PATIENCE) {
        Ok(outcome) => outcome.into(),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            Err(format!("guest code that takes milliseconds had not ended after {} seconds", PATIENCE.as_secs())).into()
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            Err("the trial of KVM failed inside the monitor".to_owned()).into()
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn run_trial() -> Result<String, String> {
    super::trial::run()
}

#[cfg(not(target_arch = "x86_64"))]
fn run_trial() -> Result<String, String> {
    Err("KVM is not supported on this processor architecture yet".to_owned())
}
