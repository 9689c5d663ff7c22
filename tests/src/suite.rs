//! Runs a suite: one machine, started by the first test that needs it, and stopped when all tests are done or the run
//! is interrupted.
//!
//! A suite is a test executable without the standard harness: `fn main() -> ExitCode { suite::main(...) }`. Names,
//! filters and `--list` work as in any Rust test.

use std::{
    io::{self, Read},
    os::fd::IntoRawFd,
    panic::{self, AssertUnwindSafe},
    process::{self, ExitCode},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::{Machine, machine};

/// A test: its name, which is a claim, and the function that checks it on the suite's machine.
pub type Test = (&'static str, fn(&Machine) -> Result<()>);

/// The tests of a suite, each named after its function: `tests![a_claim, another]`.
#[macro_export]
macro_rules! tests {
    ($($test:ident),+ $(,)?) => { [$((stringify!($test), $test as fn(&$crate::Machine) -> anyhow::Result<()>)),+] };
}

/// The suite's machine.
enum Shared {
    NotYet,
    Ready(Arc<Machine>),
    /// The machine could not start; reported once, after which every test fails briefly.
    Broken(String),
    Over,
}

static SHARED: Mutex<Shared> = Mutex::new(Shared::NotYet);

/// Runs a suite's tests on one machine, `at_once` at a time. `make` brings the machine into the state the tests expect.
pub fn main(at_once: usize, make: fn() -> Result<Machine>, tests: impl IntoIterator<Item = Test>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(at_once);
    stop_when_interrupted();
    let trials = tests.into_iter().map(|(name, test)| {
        Trial::test(name, move || {
            let machine = shared(make)?;
            let begin = Instant::now();
            let result = panic::catch_unwind(AssertUnwindSafe(|| test(&machine)));
            // Makes a suite that grows slow visible; nothing is asserted.
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

/// Returns the machine; the first call starts it.
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

/// The end of a pipe that the signal handler writes to.
static INTERRUPTED: AtomicI32 = AtomicI32::new(-1);

extern "C" fn interrupted(_signal: libc::c_int) {
    // SAFETY: write is async-signal-safe; the buffer is one byte that lives for ever, the descriptor is never closed.
    unsafe { libc::write(INTERRUPTED.load(Ordering::Relaxed), [0_u8].as_ptr().cast(), 1) };
}

/// Ctrl-C and SIGTERM stop the machine before they end the tests, so that no process remains. A handler is needed
/// because every program the tests run would inherit a mask of blocked signals.
fn stop_when_interrupted() {
    let Ok((mut reader, writer)) = io::pipe() else { return };
    INTERRUPTED.store(writer.into_raw_fd(), Ordering::Relaxed);
    let action = SigAction::new(SigHandler::Handler(interrupted), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler only calls write; no handler was there before.
        if unsafe { sigaction(signal, &action) }.is_err() {
            return;
        }
    }
    thread::spawn(move || {
        if reader.read_exact(&mut [0]).is_ok() {
            eprintln!("interrupted: stopping the machine");
            // Stops the machine even if a test uses it, and without the lock, because it may be starting.
            machine::stop_all();
            process::exit(130);
        }
    });
}

/// Prints that a test was skipped, and why, so that skips are visible.
pub fn skip(test: &str, why: &str) {
    eprintln!("SKIPPED {test}: {why}");
}
