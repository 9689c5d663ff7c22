//! Whether KVM works, found by running guest instructions: a /dev/kvm that opens is no proof. Some hosts interpret what
//! should run on the processor, too slowly to boot anything, or lack instructions that a kernel uses.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rorqual_vmm_protocol::Finding;

use super::trial;

/// Limit of the trial, which takes milliseconds where KVM works.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tries KVM. Returns within about five seconds whatever KVM does; a trial that hangs ends with this process.
pub(in crate::guest) fn probe() -> Finding {
    let (sender, outcome) = mpsc::channel();
    let trial = thread::Builder::new().name("kvm-trial".to_owned()).spawn(move || {
        // Nobody listens after the limit.
        let _ = sender.send(trial::run());
    });
    if let Err(error) = trial {
        return Finding::unusable(format!("cannot start a thread to try KVM: {error}"));
    }
    match outcome.recv_timeout(PATIENCE) {
        Ok(Ok(reason)) => Finding::usable(reason),
        Ok(Err(finding)) => finding,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            let seconds = PATIENCE.as_secs();
            Finding::unusable(format!("guest code that takes milliseconds did not end within {seconds} seconds"))
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => Finding::unusable("the trial of KVM failed inside the monitor"),
    }
}
