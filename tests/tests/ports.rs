//! Published TCP ports: every form of `-p`, open before `docker run` returns, closed with the container.

use std::{
    io::{BufReader, Read, Write},
    net::{IpAddr, TcpListener, UdpSocket},
    process::ExitCode,
    thread,
};

use anyhow::{Context, Result, ensure};
use rorqual_tests::{
    Container, IMAGE, Machine, Run, eventually,
    host_port::{free_tcp, v4, v6},
    stream::{self, Pattern, checksum},
    suite, tests,
};

fn main() -> ExitCode {
    suite::main(
        1,
        Machine::start,
        tests![
            every_form_of_publishing_is_live_when_docker_run_returns,
            random_ports_are_listed_by_docker_port_and_answer,
            a_port_follows_stop_start_and_removal,
            a_paused_container_keeps_its_port_and_answers_later,
            ports_survive_the_end_of_the_daemon,
            a_port_in_use_fails_docker_run_and_names_its_owner,
            a_port_in_use_is_passed_over_in_a_range,
            an_address_of_the_host_is_published_there_alone,
            two_containers_cannot_have_one_port,
            half_closed_connections_and_large_transfers_arrive_whole,
            many_connections_at_once_are_all_served,
            containers_reach_a_port_of_the_machine_by_its_own_localhost,
        ],
    )
}

fn serving<'a>(machine: &'a Machine, options: &str, ports: &str) -> Result<Container<'a>> {
    let container = Container::run(machine, &format!("--init {options}"), &["/peer", "serve", ports])?;
    // The port is open when `docker run` returns; the program in the container may need a moment longer.
    container.wait_for_log("listening")?;
    Ok(container)
}

fn every_form_of_publishing_is_live_when_docker_run_returns(machine: &Machine) -> Result<()> {
    let base = free_tcp(10)?;
    let port = |offset: u16| base + offset;
    let options = format!(
        "-p {}:80 -p 127.0.0.1:{}:81 -p [::1]:{}:82 -p 0.0.0.0:{}:83 -p [::]:{}:84 -p {}-{}:85-87 -p {}:88/tcp",
        port(0),
        port(1),
        port(2),
        port(3),
        port(4),
        port(5),
        port(7),
        port(8)
    );
    let _container = serving(machine, &options, "80-88")?;
    let expected = [
        (v4(port(0)), 80),
        (v6(port(0)), 80),
        (v4(port(1)), 81),
        (v6(port(2)), 82),
        (v4(port(3)), 83),
        (v6(port(4)), 84),
        (v4(port(5)), 85),
        (v4(port(6)), 86),
        (v4(port(7)), 87),
        (v6(port(7)), 87),
        (v4(port(8)), 88),
    ];
    for (address, inside) in expected {
        let found = stream::port_behind(address)?;
        ensure!(found == inside, "{address} leads to {found}, not to {inside}");
    }
    // An explicit address is the only one used.
    ensure!(stream::is_refused(v6(port(1))), "-p 127.0.0.1:… also listens on ::1");
    ensure!(stream::is_refused(v4(port(2))), "-p [::1]:… also listens on 127.0.0.1");
    let ports = machine.status()?["ports"].clone();
    let listed = ports.as_array().map_or(0, |ports| {
        ports
            .iter()
            .filter(|row| row["container_port"] == 85 && row["host_port"] == port(5) && row["error"] == "")
            .count()
    });
    ensure!(listed >= 1, "rorqual status does not show the range: {ports}");
    Ok(())
}

fn random_ports_are_listed_by_docker_port_and_answer(machine: &Machine) -> Result<()> {
    let container = serving(machine, "--expose 90 -P -p 91 -p 127.0.0.1::92", "90-92")?;
    for inside in [90_u16, 91, 92] {
        let told = machine.run(&format!("port {} {inside}/tcp", container.name))?;
        let port = told.lines().find_map(|line| line.rsplit_once(':')?.1.parse().ok());
        let port: u16 = port.with_context(|| format!("docker port printed {told:?}"))?;
        ensure!(stream::port_behind(v4(port))? == inside);
    }
    Ok(())
}

fn a_port_follows_stop_start_and_removal(machine: &Machine) -> Result<()> {
    let port = free_tcp(1)?;
    let container = serving(machine, &format!("-p {port}:80"), "80")?;
    ensure!(stream::answers(v4(port)));
    for (verb, listens) in [("stop", false), ("start", true), ("restart", true), ("kill", false), ("start", true)] {
        machine.run(&format!("{verb} {}", container.name))?;
        if listens {
            // The port is open when the command returns; the peer behind it listens a moment later.
            ensure!(!stream::is_refused(v4(port)), "nobody listens after docker {verb}");
            eventually("the peer answers", || stream::answers(v4(port)).then_some(()))?;
        } else {
            ensure!(stream::is_refused(v4(port)) && stream::is_refused(v6(port)), "open after docker {verb}");
        }
    }
    drop(container);
    ensure!(stream::is_refused(v4(port)), "open after docker rm");
    Ok(())
}

fn a_paused_container_keeps_its_port_and_answers_later(machine: &Machine) -> Result<()> {
    let port = free_tcp(1)?;
    let container = serving(machine, &format!("-p {port}:80"), "80")?;
    machine.run(&format!("pause {}", container.name))?;
    let question = thread::spawn(move || stream::port_behind(v4(port)));
    // The host has the port open and the guest's kernel accepts the connection; the paused program does not answer.
    machine.run("version")?;
    ensure!(!question.is_finished(), "a paused container answered");
    machine.run(&format!("unpause {}", container.name))?;
    let found = question.join().unwrap_or_else(|_| anyhow::bail!("the question panicked"))?;
    ensure!(found == 80);
    Ok(())
}

fn ports_survive_the_end_of_the_daemon(machine: &Machine) -> Result<()> {
    let port = free_tcp(1)?;
    let container = serving(machine, &format!("-p {port}:80"), "80")?;
    machine.rorqual(["quit", "-q"]).status()?;
    // Any command starts the next daemon, which finds the machine and takes over its ports.
    let status = machine.status()?;
    ensure!(status["state"] == "running", "{status}");
    eventually("the port is back", || stream::answers(v4(port)).then_some(()))?;
    ensure!(stream::port_behind(v6(port))? == 80);
    machine.run(&format!("stop {}", container.name))?;
    ensure!(stream::is_refused(v4(port)), "the new daemon does not close it");
    Ok(())
}

fn a_port_in_use_fails_docker_run_and_names_its_owner(machine: &Machine) -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    let container = Container::named(machine);
    let run = container.create_with("run -d", &format!("--init -p {port}:80"), &["/peer", "serve", "80"])?;
    let run = run.exits(125)?.complains(&port.to_string())?.complains("in use")?;
    let own = std::process::id().to_string();
    ensure!(run.stderr.contains(&own), "process {own} has the port, and is not named: {}", run.stderr);
    // Once the port is free, the same container starts.
    drop(taken);
    machine.run(&format!("start {}", container.name))?;
    eventually("the peer answers", || stream::answers(v4(port)).then_some(()))?;
    Ok(())
}

fn a_port_in_use_is_passed_over_in_a_range(machine: &Machine) -> Result<()> {
    let base = free_tcp(3)?;
    let _taken = [TcpListener::bind(v4(base))?, TcpListener::bind(v4(base + 1))?];
    let container = serving(machine, &format!("-p 127.0.0.1:{base}-{}:80", base + 2), "80")?;
    let told = machine.run(&format!("port {} 80/tcp", container.name))?;
    ensure!(told.trim() == format!("127.0.0.1:{}", base + 2), "docker port printed {told:?}");
    ensure!(stream::port_behind(v4(base + 2))? == 80);
    Ok(())
}

fn an_address_of_the_host_is_published_there_alone(machine: &Machine) -> Result<()> {
    // dockerd binds it in the machine, which does not have that address.
    let port = free_tcp(1)?;
    let Some(address) = own_address()? else {
        eprintln!("skipped: this host has no address but loopback");
        return Ok(());
    };
    let _container = serving(machine, &format!("-p {address}:{port}:80"), "80")?;
    ensure!(stream::port_behind((address, port).into())? == 80);
    ensure!(stream::is_refused(v4(port)), "-p {address}:… also listens on 127.0.0.1");
    Ok(())
}

/// The address of the host on its way to others. Connecting a datagram socket sends nothing.
fn own_address() -> Result<Option<IpAddr>> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    Ok(match socket.connect("192.0.2.1:9") {
        Ok(()) => Some(socket.local_addr()?.ip()),
        Err(_) => None,
    })
}

fn two_containers_cannot_have_one_port(machine: &Machine) -> Result<()> {
    let port = free_tcp(1)?;
    let first = serving(machine, &format!("-p {port}:80"), "80")?;
    let second = Container::named(machine);
    let run = second.create_with("run -d", &format!("-p {port}:80"), &["true"])?;
    run.exits(125)?.complains("already")?;
    ensure!(stream::port_behind(v4(port))? == 80, "the first lost its port");
    drop(first);
    Ok(())
}

fn half_closed_connections_and_large_transfers_arrive_whole(machine: &Machine) -> Result<()> {
    const SIZE: usize = 128 << 20;
    let port = free_tcp(1)?;
    let _container = serving(machine, &format!("-p {port}:80"), "80")?;
    let mut bytes = vec![0; 32 << 20];
    Pattern::default().fill(&mut bytes);
    for address in [v4(port), v6(port)] {
        let answer = stream::ask(address, &bytes)?;
        ensure!(answer == format!("80 {} {}", bytes.len(), checksum(&bytes)), "{address} answered {answer}");
    }
    let mut connection = stream::connect(v4(port))?;
    writeln!(connection, "send {SIZE}")?;
    let (mut expected, mut found) = (vec![0; 256 * 1024], vec![0; 256 * 1024]);
    let mut reader = BufReader::new(connection);
    let mut pattern = Pattern::default();
    for block in 0..SIZE / expected.len() {
        pattern.fill(&mut expected);
        reader.read_exact(&mut found).with_context(|| format!("after {block} blocks of 256 KiB"))?;
        ensure!(expected == found, "block {block} of 256 KiB is not what was sent");
    }
    ensure!(reader.read(&mut found)? == 0, "more arrived than was sent");
    Ok(())
}

fn many_connections_at_once_are_all_served(machine: &Machine) -> Result<()> {
    let port = free_tcp(1)?;
    let _container = serving(machine, &format!("-p {port}:80"), "80")?;
    // All connections are open before the first request.
    let streams = (0..200).map(|_| stream::connect(v4(port))).collect::<Result<Vec<_>>>()?;
    for (number, mut connection) in streams.into_iter().enumerate() {
        write!(connection, "connection {number}")?;
        connection.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        let expected = checksum(format!("connection {number}").as_bytes());
        ensure!(answer.trim().ends_with(&expected), "connection {number} got {answer:?}");
    }
    Ok(())
}

fn containers_reach_a_port_of_the_machine_by_its_own_localhost(machine: &Machine) -> Result<()> {
    let port = free_tcp(1)?;
    let _container = serving(machine, &format!("-p {port}:80"), "80")?;
    let script = format!("echo hello | nc 127.0.0.1 {port}");
    let answer = machine.docker(["run", "--rm", "--network", "host", IMAGE, "sh", "-c", &script]).output_text()?;
    ensure!(answer.starts_with("80 6 "), "{answer}");
    Ok(())
}
