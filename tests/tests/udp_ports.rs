//! Published UDP ports: every form of `-p …/udp`, datagrams of every size, closed with the container.

use std::{net::UdpSocket, process::ExitCode};

use anyhow::{Context, Result, ensure};
use rorqual_tests::{
    Container, IMAGE, Machine, Run, datagram, eventually,
    host_port::{free_udp, v4, v6},
    suite, tests,
};

fn main() -> ExitCode {
    suite::main(
        1,
        Machine::start,
        tests![
            every_form_of_publishing_carries_datagrams,
            datagrams_of_every_size_come_back_as_they_were,
            each_of_many_clients_gets_its_own_answers,
            a_port_follows_stop_start_and_removal,
            a_closed_port_in_the_container_harms_no_session,
            a_port_survives_the_end_of_the_daemon,
            a_port_in_use_fails_docker_run_and_names_its_owner,
            a_udp_and_a_tcp_port_share_a_number,
            containers_reach_a_port_of_the_machine_by_its_own_localhost,
        ],
    )
}

fn serving<'a>(machine: &'a Machine, options: &str, ports: &str) -> Result<Container<'a>> {
    let container = Container::run(machine, &format!("--init {options}"), &["/peer", "datagrams", ports])?;
    container.wait_for_log("listening")?;
    Ok(container)
}

fn every_form_of_publishing_carries_datagrams(machine: &Machine) -> Result<()> {
    let base = free_udp(8)?;
    let port = |offset: u16| base + offset;
    let options = format!(
        "-p {}:80/udp -p 127.0.0.1:{}:81/udp -p [::1]:{}:82/udp -p 0.0.0.0:{}:83/udp -p {}-{}:84-85/udp -p 86/udp",
        port(0),
        port(1),
        port(2),
        port(3),
        port(4),
        port(5)
    );
    let container = serving(machine, &options, "80-86")?;
    let random = machine.run(&format!("port {} 86/udp", container.name))?;
    let random = random.lines().find_map(|line| line.rsplit_once(':')?.1.parse().ok());
    let random: u16 = random.context("docker port lists no port for 86/udp")?;
    let expected = [
        (v4(port(0)), 80),
        (v6(port(0)), 80),
        (v4(port(1)), 81),
        (v6(port(2)), 82),
        (v4(port(3)), 83),
        (v4(port(4)), 84),
        (v6(port(5)), 85),
        (v4(random), 86),
    ];
    for (address, inside) in expected {
        let (found, _) = datagram::who(address)?;
        ensure!(found == inside, "{address} leads to {found}, not to {inside}");
    }
    // An explicit address is the only one used.
    for address in [v6(port(1)), v4(port(2)), v6(port(3))] {
        ensure!(datagram::is_silent(address), "{address} answers");
    }
    let ports = machine.status()?["ports"].clone();
    let listed = ports.as_array().is_some_and(|rows| {
        rows.iter().any(|row| row["protocol"] == "udp" && row["host_port"] == port(4) && row["error"] == "")
    });
    ensure!(listed, "rorqual status does not show the range: {ports}");
    Ok(())
}

fn datagrams_of_every_size_come_back_as_they_were(machine: &Machine) -> Result<()> {
    let port = free_udp(1)?;
    let _container = serving(machine, &format!("-p {port}:80/udp"), "80")?;
    for address in [v4(port), v6(port)] {
        let client = datagram::connect(address)?;
        for bytes in [0, 1, 1400, 1472, 1473, 9000, 65_507] {
            let sent = datagram::pattern(bytes);
            let answer = datagram::ask(&client, &sent)?;
            ensure!(answer == sent, "{address}: {bytes} bytes came back as {}", answer.len());
        }
    }
    Ok(())
}

fn each_of_many_clients_gets_its_own_answers(machine: &Machine) -> Result<()> {
    let port = free_udp(1)?;
    let _container = serving(machine, &format!("-p {port}:80/udp"), "80")?;
    let clients = (0..200).map(|_| datagram::connect(v4(port))).collect::<Result<Vec<_>>>()?;
    for (number, client) in clients.iter().enumerate() {
        let answer = datagram::ask(client, format!("client {number}").as_bytes())?;
        ensure!(answer == format!("client {number}").as_bytes(), "client {number} got {answer:?}");
    }
    // The container sees each as a separate client, at both addresses of the host.
    let mut seen = Vec::new();
    for client in clients.into_iter().take(20).chain((0..20).map_while(|_| datagram::connect(v6(port)).ok())) {
        seen.push(datagram::parse(&datagram::ask(&client, b"who?")?)?.1);
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    ensure!(seen.len() == count && count == 40, "{count} clients are seen as {}", seen.len());
    Ok(())
}

fn a_port_follows_stop_start_and_removal(machine: &Machine) -> Result<()> {
    let port = free_udp(1)?;
    let container = serving(machine, &format!("-p {port}:80/udp"), "80")?;
    datagram::who(v4(port))?;
    for (verb, open) in [("stop", false), ("start", true), ("restart", true), ("kill", false), ("start", true)] {
        machine.run(&format!("{verb} {}", container.name))?;
        let free = UdpSocket::bind(v4(port)).is_ok();
        ensure!(free != open, "the port is {} after docker {verb}", if free { "free" } else { "taken" });
        if open {
            eventually("the peer answers", || (!datagram::is_silent(v4(port))).then_some(()))?;
        }
    }
    drop(container);
    UdpSocket::bind(v4(port)).context("taken after docker rm")?;
    Ok(())
}

fn a_closed_port_in_the_container_harms_no_session(machine: &Machine) -> Result<()> {
    let port = free_udp(2)?;
    let _container = serving(machine, &format!("-p {port}:80/udp -p {}:81/udp", port + 1), "80")?;
    let client = datagram::connect(v4(port))?;
    datagram::ask(&client, b"before")?;
    for _ in 0..20 {
        ensure!(datagram::connect(v4(port + 1))?.send(b"nobody").is_ok());
    }
    ensure!(datagram::is_silent(v4(port + 1)));
    ensure!(datagram::ask(&client, b"after")? == b"after");
    Ok(())
}

fn a_port_survives_the_end_of_the_daemon(machine: &Machine) -> Result<()> {
    let port = free_udp(1)?;
    let container = serving(machine, &format!("-p {port}:80/udp"), "80")?;
    machine.rorqual(["quit", "-q"]).status()?;
    let status = machine.status()?;
    ensure!(status["state"] == "running", "{status}");
    eventually("the port is back", || (!datagram::is_silent(v4(port))).then_some(()))?;
    machine.run(&format!("stop {}", container.name))?;
    UdpSocket::bind(v4(port)).context("the new daemon does not close it")?;
    Ok(())
}

fn a_port_in_use_fails_docker_run_and_names_its_owner(machine: &Machine) -> Result<()> {
    let taken = UdpSocket::bind(v4(0))?;
    let port = taken.local_addr()?.port();
    let container = Container::named(machine);
    let run = container.create_with("run -d", &format!("--init -p {port}:80/udp"), &["/peer", "datagrams", "80"])?;
    let run = run.exits(125)?.complains(&port.to_string())?.complains("in use")?;
    let own = std::process::id().to_string();
    ensure!(run.stderr.contains(&own), "process {own} has the port, and is not named: {}", run.stderr);
    drop(taken);
    machine.run(&format!("start {}", container.name))?;
    eventually("the peer answers", || (!datagram::is_silent(v4(port))).then_some(()))?;
    let second = Container::named(machine);
    let run = second.create_with("run -d", &format!("-p {port}:80/udp"), &["true"])?;
    run.exits(125)?.complains("already")?;
    Ok(())
}

fn a_udp_and_a_tcp_port_share_a_number(machine: &Machine) -> Result<()> {
    let port = free_udp(1)?;
    let _datagrams = serving(machine, &format!("-p {port}:80/udp"), "80")?;
    let options = format!("--init -p {port}:81/tcp");
    let streams = Container::run(machine, &options, &["/peer", "serve", "81"])?;
    streams.wait_for_log("listening")?;
    ensure!(datagram::who(v4(port))?.0 == 80);
    ensure!(rorqual_tests::stream::port_behind(v4(port))? == 81);
    Ok(())
}

fn containers_reach_a_port_of_the_machine_by_its_own_localhost(machine: &Machine) -> Result<()> {
    let port = free_udp(1)?;
    let _container = serving(machine, &format!("-p {port}:80/udp"), "80")?;
    let address = format!("127.0.0.1:{port}");
    for bytes in ["0", "60000"] {
        let run = ["run", "--rm", "--network", "host", IMAGE, "/peer", "echo", &address, bytes];
        let answer = machine.docker(run).output_text()?;
        ensure!(answer == "same", "{bytes} bytes: {answer}");
    }
    Ok(())
}
