//! The state the tray and the notifications know: the machine and its containers, from the backend's streams.

use std::collections::BTreeMap;

use rorqual_backend::contract::{Container, ContainerState, ListEvent, Machine, MachineState, MachinesEvent};
use rorqual_engine::home::DEFAULT_MACHINE;

/// The state of the daemon and its machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Engine {
    /// No event has arrived yet.
    #[default]
    Unknown,
    /// The daemon does not answer.
    Unreachable,
    /// The daemon answers.
    Machine(Box<Machine>),
}

/// The machine and its containers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Overview {
    pub(crate) engine: Engine,
    containers: BTreeMap<String, Container>,
}

impl Overview {
    /// Takes an event of the stream `machines`.
    pub(crate) fn take_machines(&mut self, event: MachinesEvent) {
        self.engine = match event {
            MachinesEvent::Unreachable { .. } => Engine::Unreachable,
            MachinesEvent::Machines { machines } => machines
                .into_iter()
                .find(|machine| machine.name == DEFAULT_MACHINE)
                .map_or(Engine::Unknown, |machine| Engine::Machine(Box::new(machine))),
        };
        if !self.is_running() {
            self.containers.clear();
        }
    }

    /// Takes an event of the stream `containers`.
    pub(crate) fn take_containers(&mut self, event: ListEvent<Container>) {
        let changed = match event {
            ListEvent::All { items } => {
                self.containers.clear();
                items
            }
            ListEvent::Changes { changed, removed } => {
                for id in removed {
                    self.containers.remove(&id);
                }
                changed
            }
        };
        self.containers.extend(changed.into_iter().map(|container| (container.id.clone(), container)));
    }

    /// The machine's state, if the daemon reports one.
    pub(crate) fn state(&self) -> Option<MachineState> {
        match &self.engine {
            Engine::Machine(machine) => Some(machine.state),
            Engine::Unknown | Engine::Unreachable => None,
        }
    }

    /// Whether the engine can list containers.
    pub(crate) fn is_running(&self) -> bool {
        self.state() == Some(MachineState::Running)
    }

    /// All running containers, by name.
    pub(crate) fn running(&self) -> Vec<Container> {
        let running = self.containers.values().filter(|container| container.state == ContainerState::Running);
        let mut running: Vec<_> = running.cloned().collect();
        running.sort_by(|one, other| one.name.cmp(&other.name));
        running
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{container, machine};

    fn names(overview: &Overview) -> Vec<String> {
        overview.running().into_iter().map(|container| container.name).collect()
    }

    #[test]
    fn running_containers_follow_the_events() {
        let mut overview = Overview::default();
        overview.take_machines(MachinesEvent::Machines { machines: vec![machine(MachineState::Running)] });
        let mut stopped = container("old", []);
        stopped.state = ContainerState::Exited;
        overview.take_containers(ListEvent::All { items: vec![container("web", []), stopped] });
        assert_eq!(names(&overview), ["web"]);
        overview.take_containers(ListEvent::Changes { changed: vec![container("db", [])], removed: vec![] });
        assert_eq!(names(&overview), ["db", "web"]);
        overview.take_containers(ListEvent::Changes { changed: vec![], removed: vec!["id-web".to_owned()] });
        assert_eq!(names(&overview), ["db"]);
    }

    #[test]
    fn a_machine_that_is_gone_runs_nothing() {
        let mut overview = Overview::default();
        overview.take_machines(MachinesEvent::Machines { machines: vec![machine(MachineState::Running)] });
        overview.take_containers(ListEvent::All { items: vec![container("web", [])] });
        overview.take_machines(MachinesEvent::Machines { machines: vec![machine(MachineState::Failed)] });
        assert!(overview.running().is_empty());
    }
}
