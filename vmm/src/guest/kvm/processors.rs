//! The guest's processors: a thread for each, which runs it, parks it or ends.
//!
//! A thread holds its processor's lock while it runs. A parked thread has released it, so that a paused machine can be
//! saved. [`Wanted`] controls the threads; a signal takes them out of the guest.

use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::pthread::pthread_kill;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use tracing::debug;

use super::board::Board;
use super::outcome::Outcome;
use crate::confinement::{self, Thread};
use crate::hypervisor::{Exit, HypervisorError, Processor};

/// The signal that takes a processor out of the guest. Nothing else in the process uses it.
const KICK: Signal = Signal::SIGUSR1;
/// Time until the next kick: one that comes just before the processor enters the guest is lost.
const KICK_AGAIN: Duration = Duration::from_millis(2);

/// What the processors shall do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
enum Wanted {
    Run,
    Park,
    End,
}

type Shared<T> = Arc<Mutex<T>>;

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the threads share: their order, and how many have followed it.
struct Gate {
    /// A [`Wanted`]; read before each entry into the guest, so without a lock.
    wanted: AtomicU8,
    /// Number of threads that do not run their processor: parked or ended.
    stopped: Mutex<usize>,
    changed: Condvar,
}

impl Gate {
    fn wants(&self, wanted: Wanted) -> bool {
        self.wanted.load(Ordering::SeqCst) == wanted as u8
    }

    /// Waits until the order is to run or to end.
    fn park(&self) {
        let mut stopped = lock(&self.stopped);
        *stopped += 1;
        self.changed.notify_all();
        while self.wants(Wanted::Park) {
            stopped = self.changed.wait(stopped).unwrap_or_else(PoisonError::into_inner);
        }
        *stopped -= 1;
    }

    fn order(&self, wanted: Wanted) {
        // Under the lock, so that no thread falls asleep between its look and its wait.
        let _stopped = lock(&self.stopped);
        self.wanted.store(wanted as u8, Ordering::SeqCst);
        self.changed.notify_all();
    }
}

/// The processors of one guest.
pub(super) struct Processors {
    gate: Arc<Gate>,
    all: Vec<Shared<Box<dyn Processor>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Processors {
    /// The processors, in the order of their numbers. They do not run yet.
    pub(super) fn new(all: Vec<Box<dyn Processor>>) -> Self {
        let gate = Gate { wanted: AtomicU8::new(Wanted::Run as u8), stopped: Mutex::new(0), changed: Condvar::new() };
        Self {
            gate: Arc::new(gate),
            all: all.into_iter().map(|processor| Arc::new(Mutex::new(processor))).collect(),
            threads: Mutex::new(Vec::new()),
        }
    }

    /// Starts a thread for each. A processor that cannot continue is reported to `outcomes`.
    pub(super) fn start(&self, board: &Arc<Board>, outcomes: &Sender<Outcome>) -> io::Result<()> {
        take_kicks()?;
        let mut threads = lock(&self.threads);
        for (number, processor) in self.all.iter().enumerate() {
            let (gate, processor, board, outcomes) =
                (self.gate.clone(), processor.clone(), board.clone(), outcomes.clone());
            let body = move || {
                confinement::enter(Thread::Processor);
                if let Some(failure) = run(&gate, &processor, &board) {
                    let _ = outcomes.send(Outcome::Failed(failure));
                }
                *lock(&gate.stopped) += 1;
                gate.changed.notify_all();
            };
            threads.push(thread::Builder::new().name(format!("cpu-{number}")).spawn(body)?);
        }
        Ok(())
    }

    /// Stops all processors where they are; returns when none runs.
    pub(super) fn pause(&self) {
        self.gate.order(Wanted::Park);
        self.wait_until_stopped();
    }

    /// Resumes paused processors.
    pub(super) fn resume(&self) {
        self.gate.order(Wanted::Run);
    }

    /// Ends the threads; returns when they have ended.
    pub(super) fn end(&self) {
        self.gate.order(Wanted::End);
        self.wait_until_stopped();
        for thread in lock(&self.threads).drain(..) {
            // A panic is on standard error already, and nothing can be done about it here.
            let _ = thread.join();
        }
    }

    /// Calls `work` for each processor by number. They must be paused, or not started.
    pub(super) fn each<T>(
        &self,
        mut work: impl FnMut(&mut dyn Processor) -> Result<T, HypervisorError>,
    ) -> Result<Vec<T>, HypervisorError> {
        self.all.iter().map(|processor| work(lock(processor).as_mut())).collect()
    }

    fn wait_until_stopped(&self) {
        let threads = lock(&self.threads);
        let mut stopped = lock(&self.gate.stopped);
        while *stopped < threads.len() {
            for thread in threads.iter().filter(|thread| !thread.is_finished()) {
                if let Err(error) = pthread_kill(thread.as_pthread_t(), KICK) {
                    debug!("a processor's thread had ended: {error}");
                }
            }
            stopped = self.gate.changed.wait_timeout(stopped, KICK_AGAIN).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A processor's thread. Returns why the processor cannot continue; nothing if the order was to end.
fn run(gate: &Gate, shared: &Mutex<Box<dyn Processor>>, board: &Board) -> Option<String> {
    let mut processor = lock(shared);
    loop {
        if gate.wants(Wanted::End) {
            return None;
        }
        if gate.wants(Wanted::Park) {
            if let Err(error) = processor.settle(board) {
                return Some(error.to_string());
            }
            drop(processor);
            gate.park();
            processor = lock(shared);
            continue;
        }
        let exit = processor.run(board);
        board.exits.count(&exit);
        match exit {
            Ok(Exit::Handled | Exit::Interrupted) => {}
            Ok(Exit::Halted) => return Some("it halted forever".to_owned()),
            Ok(Exit::Shutdown) => return Some("it shut down after a triple fault".to_owned()),
            Ok(Exit::Unexpected(exit)) => return Some(format!("it stopped: {exit}")),
            Err(error) => return Some(error.to_string()),
        }
    }
}

/// Without a handler the signal would end the process.
fn take_kicks() -> io::Result<()> {
    extern "C" fn nothing(_signal: libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, so it is safe at any point, and no handler of the signal's was there before.
    unsafe { sigaction(KICK, &action) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::sync::mpsc;

    use super::*;
    use crate::hypervisor::{Bus, SavedState};

    /// Counts as it "runs"; each run sleeps until a signal, as a guest that halts does.
    struct Counting(Arc<AtomicU64>, bool);

    impl Processor for Counting {
        fn map_ahead(&mut self, _guest_address: u64, _bytes: u64) -> bool {
            false
        }
        fn run(&mut self, _bus: &dyn Bus) -> Result<Exit, HypervisorError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            if self.1 {
                return Ok(Exit::Shutdown);
            }
            // A kick makes it return early.
            thread::park_timeout(Duration::from_micros(100));
            Ok(Exit::Interrupted)
        }
        fn settle(&mut self, _bus: &dyn Bus) -> Result<(), HypervisorError> {
            Ok(())
        }
        fn save(&mut self) -> Result<SavedState, HypervisorError> {
            Ok(self.0.load(Ordering::SeqCst).into())
        }
        fn restore(&mut self, _state: &SavedState) -> Result<(), HypervisorError> {
            Ok(())
        }
    }

    fn started(failing: bool) -> (Processors, Vec<Arc<AtomicU64>>, mpsc::Receiver<Outcome>) {
        let counts: Vec<_> = (0..3).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let all = counts.iter().map(|count| Box::new(Counting(count.clone(), failing)) as Box<dyn Processor>);
        let processors = Processors::new(all.collect());
        let (sender, outcomes) = mpsc::channel();
        let board = Board::new(Vec::new(), Box::new(io::sink()), sender.clone()).unwrap();
        processors.start(&Arc::new(board), &sender).unwrap();
        (processors, counts, outcomes)
    }

    fn now(counts: &[Arc<AtomicU64>]) -> Vec<u64> {
        counts.iter().map(|count| count.load(Ordering::SeqCst)).collect()
    }

    fn wait_for_progress(counts: &[Arc<AtomicU64>]) {
        let before = now(counts);
        while now(counts).iter().zip(&before).any(|(now, before)| now <= before) {
            thread::yield_now();
        }
    }

    #[test]
    fn paused_processors_stand_still_can_be_saved_and_resume() {
        let (processors, counts, _outcomes) = started(false);
        for _ in 0..20 {
            wait_for_progress(&counts);
            processors.pause();
            let at = now(&counts);
            let saved = processors.each(|processor| processor.save()).unwrap();
            assert_eq!(saved, at.iter().map(|count| SavedState::from(*count)).collect::<Vec<_>>());
            assert_eq!(now(&counts), at);
            processors.resume();
        }
        wait_for_progress(&counts);
        processors.end();
    }

    #[test]
    fn paused_processors_can_be_ended() {
        let (processors, counts, _outcomes) = started(false);
        processors.pause();
        processors.pause();
        processors.end();
        let at = now(&counts);
        assert_eq!(now(&counts), at);
    }

    #[test]
    fn processors_that_failed_count_as_stopped() {
        let (processors, _counts, outcomes) = started(true);
        assert!(matches!(outcomes.recv().unwrap(), Outcome::Failed(_)));
        processors.pause();
        processors.end();
    }
}
