//! The tray's menu, as data.

use rorqual_backend::contract::{Container, MachineState};
use serde::{Deserialize, Serialize};

use crate::{
    links,
    overview::{Engine, Overview},
};

/// The action of an entry. It travels as the entry's identifier, so that a click on a menu that is being replaced still
/// does what the user read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "camelCase")]
pub(crate) enum Action {
    /// Shows the window.
    Open,
    /// Starts the machine.
    StartMachine,
    /// Stops the machine.
    StopMachine,
    /// Shows a container in the window.
    ShowContainer { id: String },
    /// Stops a container.
    StopContainer { id: String },
    /// Opens a published port in the browser.
    OpenPort { url: String },
    /// Toggles opening at login.
    OpenAtLogin,
    /// Ends the application; the machine keeps running.
    Quit,
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Shows text and has no action.
    Text(String),
    /// Does something when it is clicked.
    Item(String, Action),
    /// Has an action, and is checked or not.
    Check(String, bool, Action),
    /// Opens a submenu.
    Submenu(String, Vec<Entry>),
    /// A separator.
    Line,
}

/// Most containers listed; more would not fit a small screen, and the window shows all.
const MOST_CONTAINERS: usize = 12;

/// The menu for the known state.
pub(crate) fn menu(overview: &Overview, opens_at_login: bool) -> Vec<Entry> {
    let mut entries = vec![Entry::Text(state(overview))];
    let item = |text: &str, action| Entry::Item(text.to_owned(), action);
    match overview.state() {
        Some(MachineState::Stopped | MachineState::Failed | MachineState::Suspended) | None => {
            entries.push(item("Start", Action::StartMachine));
        }
        Some(MachineState::Running | MachineState::Degraded | MachineState::Starting) => {
            entries.push(item("Stop", Action::StopMachine));
        }
        Some(MachineState::Stopping | MachineState::Suspending) => {}
    }
    let running = overview.running();
    if !running.is_empty() {
        entries.push(Entry::Line);
        entries.extend(running.iter().take(MOST_CONTAINERS).map(container));
        if let Some(more) = running.len().checked_sub(MOST_CONTAINERS).filter(|more| *more > 0) {
            entries.push(Entry::Item(format!("{more} more…"), Action::Open));
        }
    }
    entries.push(Entry::Line);
    entries.push(item("Open Rorqual", Action::Open));
    entries.push(Entry::Check("Open at login".to_owned(), opens_at_login, Action::OpenAtLogin));
    entries.push(item("Quit Rorqual", Action::Quit));
    entries
}

/// A short text for the state: the menu's first line and the icon's tooltip.
pub(crate) fn state(overview: &Overview) -> String {
    let words = match (&overview.engine, overview.state()) {
        (Engine::Unreachable, _) => "The daemon is not responding",
        (Engine::Unknown, _) | (_, None) => "Connecting to the daemon…",
        (_, Some(MachineState::Stopped)) => "Machine stopped",
        (_, Some(MachineState::Starting)) => "Machine starting…",
        (_, Some(MachineState::Degraded)) => "The Docker Engine is not responding",
        (_, Some(MachineState::Stopping)) => "Machine stopping…",
        (_, Some(MachineState::Failed)) => "Machine failed",
        (_, Some(MachineState::Suspending)) => "Machine suspending…",
        (_, Some(MachineState::Suspended)) => "Machine suspended",
        (_, Some(MachineState::Running)) => match overview.running().len() {
            0 => "Machine running, no containers",
            1 => "Machine running, 1 container",
            many => return format!("Machine running, {many} containers"),
        },
    };
    words.to_owned()
}

fn container(container: &Container) -> Entry {
    let mut urls = Vec::new();
    for port in container.ports.iter().filter(|port| port.protocol == "tcp") {
        if let (Some(address), Some(host_port)) = (&port.host_address, port.host_port) {
            let url = links::port_url(address, host_port);
            // A port bound for IPv4 and IPv6 is listed twice.
            if !urls.contains(&url) {
                urls.push(url);
            }
        }
    }
    let mut entries: Vec<_> = urls
        .into_iter()
        .map(|url| {
            let shown = url.trim_start_matches("http://").trim_end_matches('/');
            Entry::Item(format!("Open {shown}"), Action::OpenPort { url: url.clone() })
        })
        .collect();
    entries.push(Entry::Item("Show".to_owned(), Action::ShowContainer { id: container.id.clone() }));
    entries.push(Entry::Item("Stop".to_owned(), Action::StopContainer { id: container.id.clone() }));
    Entry::Submenu(container.name.clone(), entries)
}

#[cfg(test)]
mod tests {
    use rorqual_backend::contract::{Failure, ListEvent, MachinesEvent};

    use super::*;
    use crate::fixtures::{container, machine, published};

    fn overview(state: MachineState, containers: Vec<Container>) -> Overview {
        let mut overview = Overview::default();
        overview.take_machines(MachinesEvent::Machines { machines: vec![machine(state)] });
        overview.take_containers(ListEvent::All { items: containers });
        overview
    }

    fn actions(entries: &[Entry]) -> Vec<Action> {
        let each = entries.iter().flat_map(|entry| match entry {
            Entry::Item(_, action) | Entry::Check(_, _, action) => vec![action.clone()],
            Entry::Submenu(_, entries) => actions(entries),
            Entry::Text(_) | Entry::Line => Vec::new(),
        });
        each.collect()
    }

    #[test]
    fn a_running_container_has_its_ports_and_a_stop() {
        let ports = [published("0.0.0.0", 8080, 80), published("::", 8080, 80), published("127.0.0.1", 9000, 90)];
        let entries = menu(&overview(MachineState::Running, vec![container("web", ports)]), false);
        let id = || "id-web".to_owned();
        assert_eq!(
            actions(&entries),
            [
                Action::StopMachine,
                Action::OpenPort { url: "http://localhost:8080/".to_owned() },
                Action::OpenPort { url: "http://localhost:9000/".to_owned() },
                Action::ShowContainer { id: id() },
                Action::StopContainer { id: id() },
                Action::Open,
                Action::OpenAtLogin,
                Action::Quit,
            ]
        );
        assert_eq!(entries[0], Entry::Text("Machine running, 1 container".to_owned()));
    }

    #[test]
    fn quitting_is_always_offered() {
        let mut unreachable = Overview::default();
        let failure = Failure { code: String::new(), message: String::new(), fix: None };
        unreachable.take_machines(MachinesEvent::Unreachable { failure });
        let states = [Overview::default(), unreachable, overview(MachineState::Stopping, vec![])];
        for overview in states {
            assert_eq!(actions(&menu(&overview, true)).last(), Some(&Action::Quit));
        }
    }

    #[test]
    fn a_long_list_ends_with_a_link_to_all_containers() {
        let many = (0..20).map(|number| container(&format!("c{number:02}"), [])).collect();
        let entries = menu(&overview(MachineState::Running, many), false);
        let submenus = entries.iter().filter(|entry| matches!(entry, Entry::Submenu(..))).count();
        assert_eq!(submenus, MOST_CONTAINERS);
        assert!(entries.contains(&Entry::Item("8 more…".to_owned(), Action::Open)));
    }

    #[test]
    fn an_action_survives_its_way_through_the_menu() {
        let action = Action::StopContainer { id: "x\"y".to_owned() };
        assert_eq!(serde_json::from_str::<Action>(&serde_json::to_string(&action).unwrap()).unwrap(), action);
    }
}
