//! What a machine is doing: the states it goes through, and the connections that wait for its end.

use std::io::Write;
use std::os::unix::net::UnixStream;

use rorqual_vmm_protocol::{Failure, FailureCode, State};
use tracing::error;

use super::end::{Before, End};

/// The course of one machine.
#[derive(Debug)]
pub(super) struct Course {
    state: State,
    kill_asked: bool,
    watchers: Vec<UnixStream>,
    end: Option<End>,
}

impl Course {
    /// A machine that is starting.
    pub(super) fn new() -> Self {
        Self { state: State::Starting, kill_asked: false, watchers: Vec::new(), end: None }
    }

    /// What the machine is doing.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// The guest runs. A machine that was asked to stop meanwhile is stopping.
    pub(super) fn run(&mut self) {
        if self.state == State::Starting {
            self.state = State::Running;
        }
    }

    /// The guest is about to be asked to power off.
    pub(super) fn stop(&mut self) -> Result<(), Failure> {
        if self.state == State::Paused {
            let message = "the machine is paused, so its guest cannot power off";
            return Err(
                Failure::new(FailureCode::NotPossible, message).with_fix("resume the machine first, or kill it")
            );
        }
        self.state = State::Stopping;
        Ok(())
    }

    /// The machine's end is demanded.
    pub(super) fn kill(&mut self) {
        self.kill_asked = true;
    }

    /// Goes from one state to another. True if the machine was in the first; false if it is in the other already.
    pub(super) fn enter(&mut self, from: State, to: State) -> Result<bool, Failure> {
        let (message, fix) = match self.state {
            state if state == to => return Ok(false),
            state if state == from => {
                self.state = to;
                return Ok(true);
            }
            State::Stopping => ("the machine is stopping", "wait until the machine has ended"),
            State::Starting | State::Running | State::Paused => {
                ("the machine is starting", "try again when the machine runs")
            }
        };
        Err(Failure::new(FailureCode::NotPossible, message).with_fix(fix))
    }

    /// What had been asked of the machine when its guest ended.
    pub(super) fn before_end(&self, reset: bool) -> Before {
        Before { kill_asked: self.kill_asked, stop_asked: self.state == State::Stopping, reset }
    }

    /// Notifies `watcher` of the end when it comes, or now if it has come.
    pub(super) fn watch(&mut self, watcher: UnixStream) {
        match &self.end {
            Some(end) => notify(watcher, end),
            None => self.watchers.push(watcher),
        }
    }

    /// The machine has ended: notifies all watchers.
    pub(super) fn end(&mut self, end: &End) {
        self.end = Some(end.clone());
        for watcher in self.watchers.drain(..) {
            notify(watcher, end);
        }
    }
}

fn notify(mut watcher: UnixStream, end: &End) {
    match serde_json::to_string(&end.event()) {
        // A watcher that has hung up needs no event.
        Ok(event) => drop(watcher.write_all(format!("{event}\n").as_bytes())),
        Err(error) => error!("the end cannot be reported: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use rorqual_vmm_protocol::EndReason;

    use super::*;

    #[test]
    fn only_a_running_machine_pauses_and_only_a_paused_one_resumes() {
        let mut course = Course::new();
        let refused = course.enter(State::Running, State::Paused).unwrap_err();
        assert_eq!((refused.code, refused.fix.is_some()), (FailureCode::NotPossible, true));
        course.run();
        assert!(course.enter(State::Running, State::Paused).unwrap());
        assert!(!course.enter(State::Running, State::Paused).unwrap());
        assert_eq!(course.stop().unwrap_err().code, FailureCode::NotPossible);
        assert!(course.enter(State::Paused, State::Running).unwrap());
        course.stop().unwrap();
        assert!(course.enter(State::Running, State::Paused).unwrap_err().message.contains("stopping"));
        assert!(course.before_end(false).stop_asked);
    }

    #[test]
    fn a_stop_during_the_start_stays_a_stop() {
        let mut course = Course::new();
        course.stop().unwrap();
        course.run();
        assert_eq!(course.state(), State::Stopping);
    }

    #[test]
    fn watchers_before_and_after_the_end_get_the_event() {
        let mut course = Course::new();
        let (early, ours) = UnixStream::pair().unwrap();
        course.watch(ours);
        course.end(&End { reason: EndReason::Reset, detail: String::new() });
        let (late, ours) = UnixStream::pair().unwrap();
        course.watch(ours);
        for watcher in [early, late] {
            let mut line = String::new();
            BufReader::new(watcher).read_line(&mut line).unwrap();
            assert!(line.contains(r#""event":"exited""#) && line.contains(r#""reason":"reset""#), "{line}");
        }
    }
}
