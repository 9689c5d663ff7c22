//! The engine's state, derived from what happened to its services: the rules alone.

use std::time::Duration;

use rorqual_protocol::agent::EngineState;
use rorqual_protocol::agent::engine_state::Phase;

/// A service that ended this often in a row will not recover without help.
const HOPELESS_AFTER: u32 = 5;

/// The two services of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    Containerd,
    Dockerd,
}

impl Service {
    /// Name of the program, which is also that of its step and log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Dockerd => "dockerd",
        }
    }
}

/// The end of a service that pauses before its restart.
#[derive(Debug, Clone)]
pub(crate) struct End {
    /// How it ended, with the last line it logged.
    pub(crate) how: String,
    /// The pause.
    pub(crate) rest: Duration,
    /// How often it ended in a row.
    pub(crate) in_a_row: u32,
}

/// Everything the state depends on.
#[derive(Debug, Default)]
pub(crate) struct Condition {
    /// Why the engine cannot be started at all.
    cannot_start: Option<String>,
    stopping: bool,
    /// Ends of containerd and dockerd that they have not recovered from.
    ends: [Option<End>; 2],
    api_answers: bool,
    was_ready: bool,
    restarts: u32,
    /// Work a user may want to wait for although the engine is ready.
    busy_with: Option<&'static str>,
}

impl Condition {
    /// The engine cannot be started. `why` is for the user.
    pub(crate) fn cannot_start(&mut self, why: String) {
        self.cannot_start = Some(why);
    }

    /// A shutdown was requested.
    pub(crate) fn stopping(&mut self) {
        self.stopping = true;
    }

    /// A service's process runs.
    pub(crate) fn started(&mut self, service: Service) {
        // dockerd has recovered only when its API answers.
        if service == Service::Containerd {
            self.ends[0] = None;
        }
    }

    /// A service's process ended although nothing asked it to.
    pub(crate) fn ended(&mut self, service: Service, end: End) {
        if service == Service::Dockerd {
            self.api_answers = false;
            self.restarts += 1;
        }
        self.ends[service as usize] = Some(end);
    }

    /// The Docker API answers. Returns whether this is the first time.
    pub(crate) fn api_answers(&mut self) -> bool {
        self.ends[Service::Dockerd as usize] = None;
        self.api_answers = true;
        !std::mem::replace(&mut self.was_ready, true)
    }

    /// Sets the work the engine does although it is ready, if any.
    pub(crate) fn busy_with(&mut self, what: Option<&'static str>) {
        self.busy_with = what;
    }

    /// The state as the host receives it.
    pub(crate) fn state(&self) -> EngineState {
        let (phase, message) = self.phase();
        EngineState { phase: phase.into(), message, restarts: self.restarts }
    }

    fn phase(&self) -> (Phase, String) {
        if self.stopping {
            return (Phase::Stopping, String::new());
        }
        if let Some(why) = &self.cannot_start {
            return (Phase::Failed, why.clone());
        }
        for service in [Service::Containerd, Service::Dockerd] {
            let name = service.name();
            if let Some(End { how, rest, in_a_row }) = &self.ends[service as usize] {
                return if *in_a_row >= HOPELESS_AFTER {
                    (Phase::Failed, format!("{name} ended {in_a_row} times in a row, last with: {how}"))
                } else {
                    let rest = rest.as_secs_f32();
                    (Phase::Restarting, format!("{name} ended ({how}) and restarts in {rest:.1} s"))
                };
            }
        }
        match (self.api_answers, self.busy_with) {
            (true, Some(what)) => (Phase::Ready, what.to_owned()),
            (true, None) => (Phase::Ready, String::new()),
            (false, _) => (Phase::Starting, String::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(in_a_row: u32) -> End {
        End { how: "exit status: 1".to_owned(), rest: Duration::from_millis(200), in_a_row }
    }

    fn phase(condition: &Condition) -> Phase {
        condition.state().phase()
    }

    #[test]
    fn an_engine_starts_until_its_api_answers() {
        let mut condition = Condition::default();
        assert_eq!(phase(&condition), Phase::Starting);
        condition.started(Service::Containerd);
        condition.started(Service::Dockerd);
        assert_eq!(phase(&condition), Phase::Starting);
        assert!(condition.api_answers());
        assert_eq!(phase(&condition), Phase::Ready);
        assert_eq!(condition.state().message, "");
    }

    #[test]
    fn a_dockerd_that_ended_restarts_until_its_api_answers_again() {
        let mut condition = Condition::default();
        condition.api_answers();
        condition.ended(Service::Dockerd, end(1));
        assert_eq!(phase(&condition), Phase::Restarting);
        condition.started(Service::Dockerd);
        assert_eq!(phase(&condition), Phase::Restarting);
        assert!(!condition.api_answers());
        assert_eq!(phase(&condition), Phase::Ready);
        assert_eq!(condition.state().restarts, 1);
    }

    #[test]
    fn a_containerd_that_ended_is_no_restart_of_dockerd() {
        let mut condition = Condition::default();
        condition.api_answers();
        condition.ended(Service::Containerd, end(1));
        assert!(condition.state().message.contains("containerd ended (exit status: 1)"));
        condition.started(Service::Containerd);
        assert_eq!(phase(&condition), Phase::Ready);
        assert_eq!(condition.state().restarts, 0);
    }

    #[test]
    fn a_service_that_ends_again_and_again_has_failed_and_may_still_recover() {
        let mut condition = Condition::default();
        condition.ended(Service::Dockerd, end(HOPELESS_AFTER));
        assert_eq!(phase(&condition), Phase::Failed);
        assert!(condition.state().message.contains("times in a row, last with: exit status: 1"));
        condition.api_answers();
        assert_eq!(phase(&condition), Phase::Ready);
    }

    #[test]
    fn an_engine_that_cannot_start_reports_why_until_it_stops() {
        let mut condition = Condition::default();
        condition.cannot_start("the data disk is damaged".to_owned());
        assert_eq!(
            (phase(&condition), condition.state().message.as_str()),
            (Phase::Failed, "the data disk is damaged")
        );
        condition.stopping();
        assert_eq!(phase(&condition), Phase::Stopping);
    }

    #[test]
    fn an_engine_is_ready_while_it_is_busy_and_reports_with_what() {
        let mut condition = Condition::default();
        condition.api_answers();
        condition.busy_with(Some("loading"));
        assert_eq!((phase(&condition), condition.state().message.as_str()), (Phase::Ready, "loading"));
        condition.busy_with(None);
        assert_eq!(condition.state().message, "");
    }
}
