//! Containers on the host's network (`--network host`) and services of a swarm: what listens there is on this
//! computer's localhost, for as long as it does.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::ExitCode,
};

use anyhow::{Result, ensure};
use rorqual_tests::{
    Container, IMAGE, Machine, Run, datagram,
    docker::unique,
    eventually,
    host_port::{free_tcp, free_udp, v4, v6},
    stream, suite, tests,
};
use serde_json::Value;

fn main() -> ExitCode {
    suite::main(
        1,
        Machine::start,
        tests![
            a_listener_is_reached_as_long_as_it_listens,
            a_listener_on_the_machines_localhost_is_reached_too,
            ports_end_with_the_last_container_and_not_before,
            datagrams_reach_a_socket_and_its_answers_come_back,
            a_port_in_use_is_reported_with_its_owner,
            the_machines_own_ports_and_dockers_are_left_alone,
            ports_survive_the_end_of_the_daemon,
            a_service_of_a_swarm_is_reached_at_its_port,
            ports_of_the_engine_itself_are_not_published,
        ],
    )
}

fn on_host_network(machine: &Machine) -> Result<Container<'_>> {
    Container::sleeping(machine, "--network host")
}

/// Starts a program in a running container.
fn start(machine: &Machine, container: &Container<'_>, command: &[&str]) -> Result<()> {
    machine.docker(["exec", "-d", &container.name].into_iter().chain(command.iter().copied())).output_text()?;
    Ok(())
}

/// The rows of `rorqual status` for a port of this computer.
fn rows(machine: &Machine, port: u16) -> Result<Vec<Value>> {
    let status = machine.status()?;
    let rows = status["ports"].as_array().cloned().unwrap_or_default();
    Ok(rows.into_iter().filter(|row| row["host_port"] == port).collect())
}

fn leads(port: u16) -> Result<()> {
    eventually(&format!("port {port} answers"), || stream::answers(v4(port)).then_some(()))?;
    let found = stream::port_behind(v4(port))?;
    ensure!(found == port, "{port} leads to {found}");
    Ok(())
}

fn is_closed(port: u16) -> Result<()> {
    eventually(&format!("port {port} is closed"), || {
        (stream::is_refused(v4(port)) && stream::is_refused(v6(port))).then_some(())
    })
}

fn a_listener_is_reached_as_long_as_it_listens(machine: &Machine) -> Result<()> {
    let first = free_tcp(2)?;
    let container = on_host_network(machine)?;
    for port in [first, first + 1, first] {
        ensure!(stream::is_refused(v4(port)), "{port} is open before anybody listens");
        start(machine, &container, &["/peer", "serve", &port.to_string()])?;
        leads(port)?;
        // The peer listens on every address of both IP versions.
        eventually("it answers by IPv6", || stream::answers(v6(port)).then_some(()))?;
        let rows = rows(machine, port)?;
        let fine = rows.len() == 2 && rows.iter().all(|row| row["error"] == "" && row["container_port"] == port);
        ensure!(fine, "rorqual status: {rows:?}");
        container.exec(&["killall", "peer"])?;
        is_closed(port)?;
    }
    Ok(())
}

fn a_listener_on_the_machines_localhost_is_reached_too(machine: &Machine) -> Result<()> {
    let port = free_tcp(1)?;
    let container = on_host_network(machine)?;
    container.exec(&["sh", "-c", "mkdir -p /www && echo whale > /www/index.html"])?;
    start(machine, &container, &["httpd", "-f", "-h", "/www", "-p", &format!("127.0.0.1:{port}")])?;
    let answer = eventually("the server answers", || {
        let mut connection = stream::connect(v4(port)).ok()?;
        connection.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).ok()?;
        Some(answer)
    })?;
    ensure!(answer.contains("200 OK") && answer.contains("whale"), "{answer}");
    ensure!(stream::is_refused(v6(port)), "it listens by IPv4 alone");
    Ok(())
}

fn ports_end_with_the_last_container_and_not_before(machine: &Machine) -> Result<()> {
    let port = free_tcp(2)?;
    let serve = |port: u16| Container::run(machine, "--init --network host", &["/peer", "serve", &port.to_string()]);
    let (first, second) = (serve(port)?, serve(port + 1)?);
    leads(port)?;
    leads(port + 1)?;
    drop(second);
    is_closed(port + 1)?;
    leads(port)?;
    machine.run(&format!("restart {}", first.name))?;
    leads(port)?;
    machine.run(&format!("kill {}", first.name))?;
    is_closed(port)
}

fn datagrams_reach_a_socket_and_its_answers_come_back(machine: &Machine) -> Result<()> {
    let port = free_udp(1)?;
    // A port assigned by the kernel belongs to a client.
    let port = port % 10_000 + 10_000;
    let container = on_host_network(machine)?;
    start(machine, &container, &["/peer", "datagrams", &port.to_string()])?;
    for address in [v4(port), v6(port)] {
        eventually(&format!("{address} answers"), || (!datagram::is_silent(address)).then_some(()))?;
        ensure!(datagram::who(address)?.0 == port);
    }
    container.exec(&["killall", "peer"])?;
    eventually("the port is free", || std::net::UdpSocket::bind(v4(port)).ok().map(drop))
}

fn a_port_in_use_is_reported_with_its_owner(machine: &Machine) -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    let container = on_host_network(machine)?;
    start(machine, &container, &["/peer", "serve", &port.to_string()])?;
    let own = std::process::id().to_string();
    let error = eventually("the conflict is reported", || {
        let rows = rows(machine, port).ok()?;
        rows.iter().find_map(|row| row["error"].as_str().filter(|error| !error.is_empty()).map(str::to_owned))
    })?;
    ensure!(error.contains("in use") && error.contains(&own), "process {own} has {port}: {error}");
    drop(taken);
    Ok(())
}

fn the_machines_own_ports_and_dockers_are_left_alone(machine: &Machine) -> Result<()> {
    const DOCKERS: u16 = 2375;
    let port = free_tcp(2)?;
    let published = Container::run(machine, &format!("--init -p {port}:80"), &["/peer", "serve", "80"])?;
    published.wait_for_log("listening")?;
    let container = on_host_network(machine)?;
    start(machine, &container, &["/peer", "serve", &DOCKERS.to_string()])?;
    eventually("2375 listens in the machine", || {
        container.exec(&["sh", "-c", &format!("echo | nc 127.0.0.1 {DOCKERS}")]).ok()
    })?;
    // Once a later port appears, the earlier ones have been processed.
    start(machine, &container, &["/peer", "serve", &(port + 1).to_string()])?;
    leads(port + 1)?;
    ensure!(rows(machine, DOCKERS)?.is_empty(), "the Docker API's port is published");
    ensure!(stream::port_behind(v4(port))? == 80, "docker's port leads elsewhere");
    let rows = rows(machine, port)?;
    let dockers = rows.len() == 2 && rows.iter().all(|row| row["container_port"] == 80 && row["error"] == "");
    ensure!(dockers, "docker's port: {rows:?}");
    Ok(())
}

fn ports_survive_the_end_of_the_daemon(machine: &Machine) -> Result<()> {
    let port = free_tcp(1)?;
    let container = on_host_network(machine)?;
    start(machine, &container, &["/peer", "serve", &port.to_string()])?;
    leads(port)?;
    machine.rorqual(["quit", "-q"]).status()?;
    let status = machine.status()?;
    ensure!(status["state"] == "running", "{status}");
    leads(port)?;
    container.exec(&["killall", "peer"])?;
    is_closed(port)
}

/// A machine that leaves its swarm at the end of the test.
struct Swarm<'a>(&'a Machine);

impl Drop for Swarm<'_> {
    fn drop(&mut self) {
        self.0.run("swarm leave --force").ok();
    }
}

fn a_service_of_a_swarm_is_reached_at_its_port(machine: &Machine) -> Result<()> {
    let port = free_tcp(1)?;
    let name = unique("service");
    machine.run("swarm init")?;
    let swarm = Swarm(machine);
    let create = |name: &str, port: u16| {
        let options = format!("--detach --no-resolve-image --name {name} --replicas 2 -p {port}:80 -p {port}:80/udp");
        machine.run(&format!("service create {options} {IMAGE} /peer both 80"))
    };
    create(&name, port)?;
    for address in [v4(port), v6(port)] {
        eventually(&format!("{address} answers"), || stream::answers(address).then_some(()))?;
        ensure!(stream::port_behind(address)? == 80);
        ensure!(datagram::who(address)?.0 == 80);
    }
    machine.run(&format!("service rm {name}"))?;
    is_closed(port)?;
    // A service that exists when the machine leaves the swarm.
    create(&unique("service"), port)?;
    eventually("the second service answers", || stream::answers(v4(port)).then_some(()))?;
    drop(swarm);
    is_closed(port)?;
    let state = machine.run("info --format {{.Swarm.LocalNodeState}}")?;
    ensure!(state == "inactive", "{state}");
    Ok(())
}

fn ports_of_the_engine_itself_are_not_published(machine: &Machine) -> Result<()> {
    /// Swarm management, and communication among its members.
    const SWARMS: [u16; 2] = [2377, 7946];
    let port = free_tcp(1)?;
    machine.run("swarm init")?;
    let _swarm = Swarm(machine);
    let container = on_host_network(machine)?;
    for number in SWARMS {
        eventually(&format!("the engine listens on {number}"), || {
            container.exec(&["sh", "-c", &format!("echo | nc 127.0.0.1 {number}")]).ok()
        })?;
    }
    start(machine, &container, &["/peer", "serve", &port.to_string()])?;
    leads(port)?;
    for number in SWARMS {
        ensure!(rows(machine, number)?.is_empty(), "port {number} of the engine is published");
    }
    Ok(())
}
