//! The client address a container sees when a client connects to a port it publishes.

use std::{
    net::{IpAddr, SocketAddr},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use rorqual_tests::{
    Container, Machine, Run,
    command::Execution,
    datagram,
    docker::{Following, unique},
    eventually_ok, host_port, material,
    namespace::Namespace,
    stream, suite, tests,
};

fn main() -> ExitCode {
    suite::main(
        1,
        Machine::start,
        tests![
            a_client_of_another_computer_is_seen_by_its_own_address,
            large_transfers_arrive_whole_both_ways,
            a_connection_ends_with_its_port,
            clients_of_this_computer_are_seen_as_this_computer,
        ],
    )
}

/// The peer's answer to a client in the namespace.
fn client(namespace: &Namespace, arguments: &[&str]) -> Result<Execution> {
    let peer = material::peer()?;
    namespace.command().arg(peer).args(arguments).run()?.success()
}

/// The client's address as the peer sees it.
fn seen(text: &str) -> Result<IpAddr> {
    let address = text.trim().rsplit(' ').next().and_then(|word| word.parse::<SocketAddr>().ok());
    // A dual-stack IPv6 socket reports IPv4 addresses as mapped.
    Ok(address.with_context(|| format!("the peer answered {text:?}"))?.ip().to_canonical())
}

fn a_client_of_another_computer_is_seen_by_its_own_address(machine: &Machine) -> Result<()> {
    let test = "a_client_of_another_computer_is_seen_by_its_own_address";
    let Some(namespace) = Namespace::for_test(test, 201) else { return Ok(()) };
    let network = unique("net");
    machine.run(&format!("network create {network}"))?;
    let result = (|| {
        for options in ["", &format!("--network {network}")] {
            let (port, host) = (host_port::free()?, namespace.host());
            let publish = format!("--init {options} -p {host}:{port}:80 -p {host}:{port}:80/udp");
            let container = Container::run(machine, &publish, &["/peer", "both", "80"])?;
            container.wait_for_log("listening")?;
            let address = format!("{host}:{port}");
            for round in ["run", "restart"] {
                for verb in ["who", "ask"] {
                    let ask = || client(&namespace, &[verb, &address]);
                    let answer = eventually_ok("the container answers", ask)?.text();
                    let seen = seen(&answer)?;
                    ensure!(seen.to_string() == namespace.address(), "{options} {verb} after {round}: {answer}");
                }
                machine.run(&format!("restart {}", container.name))?;
            }
        }
        Ok(())
    })();
    machine.docker(["network", "rm", "-f", &network]).run()?;
    result
}

fn large_transfers_arrive_whole_both_ways(machine: &Machine) -> Result<()> {
    const BYTES: u64 = 64 << 20;
    let Some(namespace) = Namespace::for_test("large_transfers_arrive_whole_both_ways", 202) else { return Ok(()) };
    let (port, host) = (host_port::free()?, namespace.host());
    let container = Container::run(machine, &format!("--init -p {host}:{port}:80"), &["/peer", "serve", "80"])?;
    container.wait_for_log("listening")?;
    let (address, count) = (format!("{host}:{port}"), BYTES.to_string());
    let sum = stream::expected_checksum(BYTES);
    let downloaded = client(&namespace, &["download", &address, &count])?.text();
    ensure!(downloaded == format!("{BYTES} {sum}"), "{downloaded}");
    let uploaded = client(&namespace, &["upload", &address, &count])?.text();
    ensure!(uploaded == format!("80 {BYTES} {sum}"), "{uploaded}");
    Ok(())
}

fn a_connection_ends_with_its_port(machine: &Machine) -> Result<()> {
    let Some(namespace) = Namespace::for_test("a_connection_ends_with_its_port", 203) else { return Ok(()) };
    let (port, host) = (host_port::free()?, namespace.host());
    let container = Container::run(machine, &format!("--init -p {host}:{port}:80"), &["/peer", "serve", "80"])?;
    container.wait_for_log("listening")?;
    let address = format!("{host}:{port}");
    let peer = material::peer()?;
    // Prints a line once it is connected, then waits for the end.
    let mut command = namespace.command();
    command.arg(peer).args(["hold", &address]);
    let held = Following::start(command)?;
    ensure!(held.next_line()? == "connected");
    machine.run(&format!("kill {}", container.name))?;
    let (lines, _) = held.finish()?;
    ensure!(lines.last().is_some_and(|line| line.starts_with("ended")), "{lines:?}");
    let refused = client(&namespace, &["who", &address]);
    ensure!(refused.is_err(), "the port is open after docker kill");
    Ok(())
}

fn clients_of_this_computer_are_seen_as_this_computer(machine: &Machine) -> Result<()> {
    let port = host_port::free()?;
    let container =
        Container::run(machine, &format!("--init -p {port}:80 -p {port}:80/udp"), &["/peer", "both", "80"])?;
    container.wait_for_log("listening")?;
    let gateway = container.exec(&["sh", "-c", "ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'"])?;
    let answer = stream::who(([127, 0, 0, 1], port).into())?;
    ensure!(seen(&answer)?.to_string() == gateway, "TCP from localhost is seen as {answer}, not as {gateway}");
    let host = container.exec(&["nslookup", "host.docker.internal"])?;
    for address in [SocketAddr::from(([127, 0, 0, 1], port)), format!("[::1]:{port}").parse()?] {
        let (_, answer) = datagram::who(address)?;
        let seen = answer.ip().to_canonical().to_string();
        ensure!(host.contains(&seen), "UDP from {address} is seen as {seen}: {host}");
    }
    Ok(())
}
