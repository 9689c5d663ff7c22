//! The machine's status, as JSON and as a table.

use std::net::{IpAddr, SocketAddr};

use rorqual_engine::api::{self, machine_status::State};
use serde::Serialize;

use crate::units;

/// The status for programs. Fields are never renamed; new ones may be added.
#[derive(Debug, Serialize)]
pub(crate) struct MachineView {
    name: String,
    state: &'static str,
    message: String,
    fix: String,
    accelerator: String,
    accelerator_reason: String,
    cpus: u32,
    memory_bytes: u64,
    disk_bytes: u64,
    disk_allocated_bytes: u64,
    vmm_process: u32,
    ready_after_ms: u64,
    uptime_seconds: u64,
    docker_socket: String,
    image_version: String,
    kernel_release: String,
    ports: Vec<PortView>,
    routes: RoutesView,
}

/// URLs of the containers' names; empty if they have none.
#[derive(Debug, Default, Serialize)]
struct RoutesView {
    http: String,
    https: String,
    problem: String,
    fix: String,
}

#[derive(Debug, Serialize)]
struct PortView {
    protocol: String,
    requested_address: String,
    bound_address: String,
    host_port: u32,
    container_address: String,
    container_port: u32,
    error: String,
    fix: String,
}

impl From<api::MachineStatus> for MachineView {
    fn from(status: api::MachineStatus) -> Self {
        Self {
            state: state_name(status.state()),
            name: status.name,
            message: status.message,
            fix: status.fix,
            accelerator: status.accelerator,
            accelerator_reason: status.accelerator_reason,
            cpus: status.cpus,
            memory_bytes: status.memory_bytes,
            disk_bytes: status.disk_bytes,
            disk_allocated_bytes: status.disk_allocated_bytes,
            vmm_process: status.vmm_process,
            ready_after_ms: status.ready_after_ms,
            uptime_seconds: status.uptime_seconds,
            docker_socket: status.docker_socket,
            image_version: status.image_version,
            kernel_release: status.kernel_release,
            ports: status.ports.into_iter().map(PortView::from).collect(),
            routes: status.routes.map(RoutesView::from).unwrap_or_default(),
        }
    }
}

impl From<api::Routes> for RoutesView {
    fn from(routes: api::Routes) -> Self {
        Self { http: routes.http, https: routes.https, problem: routes.problem, fix: routes.fix }
    }
}

impl From<api::Port> for PortView {
    fn from(port: api::Port) -> Self {
        Self {
            protocol: port.protocol,
            requested_address: port.requested_address,
            bound_address: port.bound_address,
            host_port: port.host_port,
            container_address: port.container_address,
            container_port: port.container_port,
            error: port.error,
            fix: port.fix,
        }
    }
}

/// The name of a state, in JSON and in tables.
pub(crate) fn state_name(state: State) -> &'static str {
    match state {
        State::Unspecified => "unknown",
        State::Stopped => "stopped",
        State::Starting => "starting",
        State::Running => "running",
        State::Degraded => "degraded",
        State::Stopping => "stopping",
        State::Failed => "failed",
        State::Suspending => "suspending",
        State::Suspended => "suspended",
    }
}

/// The table of a status, one row a line.
pub(crate) fn table(machine: &api::MachineStatus) -> String {
    let state = machine.state();
    let runs = !matches!(state, State::Unspecified | State::Stopped | State::Failed | State::Suspended);
    let mut rows: Vec<(&str, String)> = vec![("machine", machine.name.clone())];
    rows.push(("state", with_reason(state_name(state), &machine.message)));
    rows.push(("", advice(&machine.fix)));
    if !machine.accelerator.is_empty() {
        rows.push(("accelerator", machine.accelerator.clone()));
        rows.push(("because", machine.accelerator_reason.clone()));
    }
    if machine.cpus > 0 {
        rows.push(("cpus", machine.cpus.to_string()));
    }
    if machine.memory_bytes > 0 {
        rows.push(("memory", units::bytes(machine.memory_bytes)));
    }
    if machine.disk_bytes > 0 {
        let taken = units::bytes(machine.disk_allocated_bytes);
        rows.push(("disk", format!("{}, takes {taken} on this computer", units::bytes(machine.disk_bytes))));
    }
    if runs {
        let ready = match machine.ready_after_ms {
            0 => String::new(),
            after => format!(", ready after {}", units::milliseconds(after)),
        };
        rows.push(("uptime", units::seconds(machine.uptime_seconds) + &ready));
    }
    if !machine.kernel_release.is_empty() {
        rows.push(("kernel", format!("Linux {}", machine.kernel_release)));
    }
    if !machine.image_version.is_empty() {
        rows.push(("image", machine.image_version.clone()));
    }
    for (index, port) in machine.ports.iter().enumerate() {
        rows.push((if index == 0 { "ports" } else { "" }, port_row(port)));
        rows.push(("", advice(&port.fix)));
    }
    if let Some(routes) = &machine.routes {
        let names = [&routes.http, &routes.https].into_iter().filter(|url| !url.is_empty()).cloned();
        rows.push(("names", names.collect::<Vec<_>>().join(", ")));
        rows.push(("", routes.problem.clone()));
        rows.push(("", advice(&routes.fix)));
    }
    rows.push(("socket", machine.docker_socket.clone()));
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    rows.into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name:<width$}{value}\n"))
        .collect()
}

/// Advice about the row above it.
fn advice(fix: &str) -> String {
    if fix.is_empty() { String::new() } else { format!("Fix: {fix}") }
}

fn with_reason(what: &str, reason: &str) -> String {
    if reason.is_empty() { what.to_owned() } else { format!("{what}: {reason}") }
}

fn port_row(port: &api::Port) -> String {
    let address = if port.bound_address.is_empty() { &port.requested_address } else { &port.bound_address };
    let row = format!(
        "{}/{} -> {}",
        endpoint(address, port.host_port),
        port.protocol,
        endpoint(&port.container_address, port.container_port)
    );
    if port.error.is_empty() { row } else { format!("{row}  not open: {}", port.error) }
}

/// Formats an endpoint: `127.0.0.1:80`, `[::1]:80`.
fn endpoint(address: &str, port: u32) -> String {
    match (address.parse::<IpAddr>(), u16::try_from(port)) {
        (Ok(address), Ok(port)) => SocketAddr::new(address, port).to_string(),
        _ => format!("{address}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> api::MachineStatus {
        api::MachineStatus {
            name: "default".to_owned(),
            state: State::Running.into(),
            accelerator: "uml".to_owned(),
            accelerator_reason: "no /dev/kvm".to_owned(),
            cpus: 1,
            memory_bytes: 2 << 30,
            disk_bytes: 64 << 30,
            disk_allocated_bytes: 300 << 20,
            uptime_seconds: 61,
            ready_after_ms: 9_440,
            docker_socket: "/h/run/docker.sock".to_owned(),
            ports: vec![api::Port {
                protocol: "tcp".to_owned(),
                requested_address: "::".to_owned(),
                bound_address: "::1".to_owned(),
                host_port: 8080,
                container_address: "172.17.0.2".to_owned(),
                container_port: 80,
                ..api::Port::default()
            }],
            routes: Some(api::Routes {
                http: "http://rorqual.localhost/".to_owned(),
                https: "https://rorqual.localhost:7443/".to_owned(),
                ..api::Routes::default()
            }),
            ..api::MachineStatus::default()
        }
    }

    #[test]
    fn a_running_machine_shows_what_it_takes_and_why_it_runs_so() {
        let table = table(&running());
        for line in [
            "state        running",
            "accelerator  uml",
            "because      no /dev/kvm",
            "disk         64 GiB, takes 300 MiB on this computer",
            "uptime       1 min 1 s, ready after 9.4 s",
            "names        http://rorqual.localhost/, https://rorqual.localhost:7443/",
            "ports        [::1]:8080/tcp -> 172.17.0.2:80",
        ] {
            assert!(table.lines().any(|found| found == line), "{line:?} in\n{table}");
        }
    }

    #[test]
    fn a_port_that_does_not_listen_says_why() {
        let mut status = running();
        "in use by nginx (process 7)".clone_into(&mut status.ports[0].error);
        "stop that process".clone_into(&mut status.ports[0].fix);
        let expected = "172.17.0.2:80  not open: in use by nginx (process 7)\n             Fix: stop that process\n";
        assert!(table(&status).contains(expected));
    }

    #[test]
    fn a_stopped_machine_shows_no_uptime() {
        let mut status = running();
        status.set_state(State::Stopped);
        assert!(!table(&status).contains("uptime"));
    }

    #[test]
    fn states_are_words_in_json() {
        let json = serde_json::to_value(MachineView::from(running())).unwrap();
        assert_eq!(json["state"], "running");
        assert_eq!(json["ports"][0]["host_port"], 8080);
        assert_eq!(json["routes"]["http"], "http://rorqual.localhost/");
    }
}
