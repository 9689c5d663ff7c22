//! Chooses the few events worth a notification: a container that exited with an error by itself, a machine that failed,
//! a finished build. The window shows all of them, so none is sent while it is in front.

use std::collections::{HashMap, HashSet};

use rorqual_backend::contract::{BuildOutcome, BuildRecord, EngineEvent, Machine, MachineState, Timestamp};

use crate::links::Target;

/// A notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) title: String,
    pub(crate) body: String,
    /// The object a click shows; without one, a click shows the window as it is.
    pub(crate) target: Option<Target>,
}

/// Milliseconds in which a container that keeps dying causes one notification.
const ONCE_IN: i64 = 10 * 60 * 1000;

/// Signals that request a container's end, as the engine formats them: SIGINT, SIGQUIT, SIGKILL, SIGTERM.
const ENDING_SIGNALS: [&str; 4] = ["2", "3", "9", "15"];

/// State needed to distinguish an unexpected end from a requested one.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    machine: Option<MachineState>,
    asked_to_end: HashSet<String>,
    out_of_memory: HashSet<String>,
    told: HashMap<String, Timestamp>,
}

impl Notices {
    /// Takes the machine's current state; `None` while it is unknown.
    pub(crate) fn take_machine(&mut self, machine: Option<&Machine>) -> Option<Notice> {
        let state = machine.map(|machine| machine.state);
        let before = std::mem::replace(&mut self.machine, state);
        let machine = machine?;
        // A machine that had failed before the application started is no news.
        let news = machine.state == MachineState::Failed && before.is_some_and(|before| before != MachineState::Failed);
        news.then(|| Notice {
            title: "The machine failed".to_owned(),
            body: if machine.message.is_empty() {
                "See its log for the reason.".to_owned()
            } else {
                machine.message.clone()
            },
            target: None,
        })
    }

    /// Takes an event of the engine.
    pub(crate) fn take_event(&mut self, event: &EngineEvent) -> Option<Notice> {
        if event.subject != "container" {
            return None;
        }
        let attribute = |name: &str| {
            event.attributes.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.value.as_str())
        };
        match event.action.as_str() {
            "kill" if attribute("signal").is_none_or(|signal| ENDING_SIGNALS.contains(&signal)) => {
                self.asked_to_end.insert(event.id.clone());
                None
            }
            "oom" => {
                self.out_of_memory.insert(event.id.clone());
                None
            }
            "destroy" => {
                self.told.remove(&event.id);
                None
            }
            "die" => {
                let asked = self.asked_to_end.remove(&event.id);
                let out_of_memory = self.out_of_memory.remove(&event.id);
                let status = attribute("exitCode").unwrap_or_default();
                if asked || status == "0" || !self.is_due(&event.id, event.at) {
                    return None;
                }
                let name = attribute("name").unwrap_or(&event.id);
                let memory = if out_of_memory { "It ran out of memory. " } else { "" };
                Some(Notice {
                    title: format!("{name} stopped unexpectedly"),
                    body: format!("{memory}Exit status {status}."),
                    target: Some(Target::Container(event.id.clone())),
                })
            }
            _ => None,
        }
    }

    fn is_due(&mut self, id: &str, at: Timestamp) -> bool {
        let due = self.told.get(id).is_none_or(|before| at.0.saturating_sub(before.0) >= ONCE_IN);
        if due {
            self.told.insert(id.to_owned(), at);
        }
        due
    }
}

/// The notice of a finished build; none if the user cancelled it.
pub(crate) fn build(record: &BuildRecord) -> Option<Notice> {
    let name = record.request.tags.first().unwrap_or(&record.request.folder);
    let (title, body) = match &record.outcome {
        BuildOutcome::Succeeded { .. } => (format!("Built {name}"), format!("It took {}.", span(record.took.0))),
        BuildOutcome::Failed { message, .. } => (format!("Building {name} failed"), message.clone()),
        BuildOutcome::Canceled => return None,
    };
    Some(Notice { title, body, target: None })
}

fn span(milliseconds: u64) -> String {
    match milliseconds / 1000 {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use rorqual_backend::contract::NameValue;

    use super::*;
    use crate::fixtures::machine;

    fn event(action: &str, at: i64, attributes: &[(&str, &str)]) -> EngineEvent {
        let pair = |(name, value): &(&str, &str)| NameValue { name: (*name).to_owned(), value: (*value).to_owned() };
        EngineEvent {
            at: Timestamp(at),
            subject: "container".to_owned(),
            action: action.to_owned(),
            id: "abc".to_owned(),
            attributes: attributes.iter().map(pair).collect(),
        }
    }

    fn died(at: i64, status: &str) -> EngineEvent {
        event("die", at, &[("name", "web"), ("exitCode", status)])
    }

    #[test]
    fn a_container_that_exits_with_an_error_by_itself_causes_a_notice() {
        let notice = Notices::default().take_event(&died(0, "1")).unwrap();
        assert_eq!(notice.title, "web stopped unexpectedly");
        assert_eq!(notice.body, "Exit status 1.");
        assert_eq!(notice.target, Some(Target::Container("abc".to_owned())));
    }

    #[test]
    fn a_container_that_was_stopped_or_is_done_causes_none() {
        let mut notices = Notices::default();
        assert_eq!(notices.take_event(&died(0, "0")), None);
        notices.take_event(&event("kill", 1, &[("signal", "15")]));
        assert_eq!(notices.take_event(&died(2, "143")), None);
    }

    #[test]
    fn a_signal_that_ends_nothing_explains_no_end() {
        let mut notices = Notices::default();
        notices.take_event(&event("kill", 1, &[("signal", "1")]));
        assert!(notices.take_event(&died(2, "1")).is_some());
    }

    #[test]
    fn running_out_of_memory_is_reported() {
        let mut notices = Notices::default();
        notices.take_event(&event("oom", 1, &[]));
        assert_eq!(notices.take_event(&died(2, "137")).unwrap().body, "It ran out of memory. Exit status 137.");
    }

    #[test]
    fn a_container_that_keeps_dying_causes_one_notice_per_interval() {
        let mut notices = Notices::default();
        assert!(notices.take_event(&died(0, "1")).is_some());
        assert_eq!(notices.take_event(&died(5000, "1")), None);
        assert!(notices.take_event(&died(ONCE_IN, "1")).is_some());
    }

    #[test]
    fn a_machine_that_fails_causes_one_notice_and_one_found_failed_none() {
        let mut notices = Notices::default();
        let (running, failed) = (machine(MachineState::Running), machine(MachineState::Failed));
        assert_eq!(notices.take_machine(Some(&failed)), None);
        assert_eq!(notices.take_machine(Some(&running)), None);
        assert!(notices.take_machine(Some(&failed)).is_some());
        assert_eq!(notices.take_machine(Some(&failed)), None);
    }
}
