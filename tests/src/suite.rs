//! How a suite runs: one machine, started by the first test that asks for it, stopped when all are done or when the run
//! is interrupted.
//!
//! A suite is a test executable without the standard harness: `fn main() -> ExitCode { suite::main(...) }`. Names,
//! filters and `--list` work as in any Rust test.

use std::{
    panic::{self, AssertUnwindSafe},
    process::{self, ExitCode},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Instant,
};

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{SigSet, Signal};

use crate::Machine;

/// A test: its name, a claim, and what checks it on the suite's machine.
pub type Test = (&'static str, fn(&Machine) -> Result<()>);

/// The tests of a suite, each named as its function: `tests![a_claim, another]`.
#[macro_export]
macro_rules! tests {
    ($($test:ident),+ $(,)?) => { [$((stringify!($test), $test as fn(&$crate::Machine) -> anyhow::Result<()>)),+] };
}

/// The suite's machine.
enum Shared {
    NotYet,
    Ready(Arc<Machine>),
    /// It could not start; said once, every further test fails briefly.
    Broken(String),
    Over,
}

static SHARED: Mutex<Shared> = Mutex::new(Shared::NotYet);

/// Runs a suite's tests on one machine, `at_once` at a time. `make` brings the machine to the state the tests expect.
pub fn main(at_once: usize, make: fn() -> Result<Machine>, tests: impl IntoIterator<Item = Test>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(at_once);
    stop_when_interrupted();
    let trials = tests.into_iter().map(|(name, test)| {
        Trial::test(name, move || {
            let machine = shared(make)?;
            let begin = Instant::now();
            let result = panic::catch_unwind(AssertUnwindSafe(|| test(&machine)));
            // A suite that grows slow is seen to; nothing is asserted.
            eprintln!("{name}: {:.1} s", begin.elapsed().as_secs_f32());
            match result {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => {
                    machine.print_logs();
                    Err(format!("{error:#}").into())
                }
                Err(payload) => {
                    machine.print_logs();
                    panic::resume_unwind(payload)
                }
            }
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    end();
    conclusion.exit_code()
}

/// The machine, started when this is the first call.
fn shared(make: fn() -> Result<Machine>) -> Result<Arc<Machine>, Failed> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*shared, Shared::NotYet) {
        *shared = match make() {
            Ok(machine) => Shared::Ready(Arc::new(machine)),
            Err(error) => {
                eprintln!("the suite's machine does not start: {error:#}");
                Shared::Broken(format!("the suite's machine does not start: {error:#}"))
            }
        };
    }
    match &*shared {
        Shared::Ready(machine) => Ok(Arc::clone(machine)),
        Shared::Broken(reason) => Err(reason.into()),
        Shared::NotYet | Shared::Over => Err("the suite is over".into()),
    }
}

/// Stops the machine.
fn end() {
    let shared = std::mem::replace(&mut *SHARED.lock().unwrap_or_else(PoisonError::into_inner), Shared::Over);
    drop(shared);
}

/// Ctrl-C and SIGTERM stop the machine before they end the tests: no process may stay behind.
fn stop_when_interrupted() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    // Blocked here, and so in every thread started from now; programs we run start with nothing blocked.
    if signals.thread_block().is_err() {
        return;
    }
    thread::spawn(move || {
        if signals.wait().is_ok() {
            eprintln!("interrupted: stopping the machine");
            // A test may hold the machine: it is stopped under it.
            let shared = std::mem::replace(&mut *SHARED.lock().unwrap_or_else(PoisonError::into_inner), Shared::Over);
            if let Shared::Ready(machine) = &shared {
                machine.rorqual(["stop", "--force", "-q"]).status().ok();
            }
            drop(shared);
            process::exit(130);
        }
    });
}

/// Prints that a test was not done, and why: a run that skips must be seen to skip.
pub fn skip(test: &str, why: &str) {
    eprintln!("SKIPPED {test}: {why}");
}
