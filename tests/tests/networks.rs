//! User-defined networks.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use rorqual_tests::{
    Container, Machine, Run, Server,
    docker::unique,
    eventually, eventually_ok,
    host_port::{free_tcp, v4, v6},
    namespace::Namespace,
    stream, suite, tests,
};

fn main() -> ExitCode {
    suite::main(
        1,
        Machine::start,
        tests![
            containers_on_a_network_reach_each_other_by_name_and_address,
            inspect_shows_the_subnet_and_who_is_on_it,
            a_container_is_connected_and_disconnected_while_it_runs,
            an_internal_network_leads_nowhere_else,
            a_network_in_use_is_not_removed,
            a_container_with_ipv6_reaches_other_computers_by_it,
            a_container_with_ipv6_is_reached_at_both_addresses_of_localhost,
            every_kind_of_network_is_made_without_the_real_iptables,
        ],
    )
}

/// A network that is removed at the end of its test.
struct Network<'a> {
    machine: &'a Machine,
    name: String,
}

impl<'a> Network<'a> {
    fn create(machine: &'a Machine, options: &str) -> Result<Self> {
        let name = unique("net");
        machine.run(&format!("network create {options} {name}"))?;
        Ok(Self { machine, name })
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        self.machine.docker(["network", "rm", "-f", &self.name]).run().ok();
    }
}

fn containers_on_a_network_reach_each_other_by_name_and_address(machine: &Machine) -> Result<()> {
    let network = Network::create(machine, "")?;
    let on = format!("--network {}", network.name);
    let first = Container::sleeping(machine, &format!("{on} --network-alias whale"))?;
    let second = Container::sleeping(machine, &on)?;
    for target in [first.name.as_str(), "whale", &first.address(&network.name)?] {
        let ping = second.exec(&["ping", "-c", "2", "-w", "20", target])?;
        ensure!(ping.contains(" 0% packet loss"), "{ping}");
    }
    first.exec(&["ping", "-c", "1", "-w", "20", &second.name])?;
    let missing = machine.attempt(&format!("exec {} ping -c 1 -w 5 no-such-name", second.name))?;
    ensure!(missing.status != 0, "{missing}");
    Ok(())
}

fn inspect_shows_the_subnet_and_who_is_on_it(machine: &Machine) -> Result<()> {
    let network = Network::create(machine, "--subnet 10.99.0.0/24 --gateway 10.99.0.254")?;
    let container = Container::sleeping(machine, &format!("--network {} --ip 10.99.0.7", network.name))?;
    ensure!(container.address(&network.name)? == "10.99.0.7");
    let inspect = machine.attempt(&format!("network inspect {}", network.name))?.success()?.json()?;
    ensure!(inspect[0]["IPAM"]["Config"][0]["Subnet"] == "10.99.0.0/24", "{inspect}");
    ensure!(inspect[0]["IPAM"]["Config"][0]["Gateway"] == "10.99.0.254", "{inspect}");
    let members = inspect[0]["Containers"].as_object().map(|members| members.values().cloned().collect::<Vec<_>>());
    ensure!(
        members.is_some_and(|members| members.len() == 1 && members[0]["Name"] == container.name.as_str()),
        "{inspect}"
    );
    let listed = machine.docker(["network", "ls", "--format", "{{.Name}}"]).output_text()?;
    ensure!(listed.lines().any(|name| name == network.name), "{listed}");
    Ok(())
}

fn a_container_is_connected_and_disconnected_while_it_runs(machine: &Machine) -> Result<()> {
    let network = Network::create(machine, "")?;
    let first = Container::sleeping(machine, &format!("--network {}", network.name))?;
    let second = Container::sleeping(machine, "")?;
    let reach = |address: &str| machine.attempt(&format!("exec {} ping -c 1 -w 3 {address}", second.name));
    let address = first.address(&network.name)?;
    ensure!(reach(&address)?.status != 0, "networks are not apart");
    machine.run(&format!("network connect {} {}", network.name, second.name))?;
    reach(&first.name)?.success()?;
    machine.run(&format!("network disconnect {} {}", network.name, second.name))?;
    ensure!(reach(&address)?.status != 0, "it is still connected");
    Ok(())
}

fn an_internal_network_leads_nowhere_else(machine: &Machine) -> Result<()> {
    let internal = Network::create(machine, "--internal")?;
    let inside = Container::sleeping(machine, &format!("--network {}", internal.name))?;
    let neighbour = Container::sleeping(machine, &format!("--network {}", internal.name))?;
    let outside = Container::sleeping(machine, "")?;
    inside.exec(&["ping", "-c", "1", "-w", "20", &neighbour.name])?;
    let routes = inside.exec(&["ip", "route"])?;
    ensure!(!routes.contains("default"), "{routes}");
    let out = machine.attempt(&format!("exec {} ping -c 1 -w 3 {}", inside.name, outside.address("bridge")?))?;
    ensure!(out.status != 0, "{out}");
    Ok(())
}

fn a_network_in_use_is_not_removed(machine: &Machine) -> Result<()> {
    let network = Network::create(machine, "")?;
    let container = Container::sleeping(machine, &format!("--network {}", network.name))?;
    machine.attempt(&format!("network rm {}", network.name))?.exits(1)?.complains("active endpoints")?;
    drop(container);
    machine.docker(["network", "prune", "-f"]).run()?.success()?;
    machine.attempt(&format!("network inspect {}", network.name))?.exits(1)?;
    Ok(())
}

/// A network with IPv6.
fn with_ipv6<'a>(machine: &'a Machine, subnet: &str) -> Result<Network<'a>> {
    Network::create(machine, &format!("--ipv6 --subnet {subnet}"))
}

fn a_container_with_ipv6_reaches_other_computers_by_it(machine: &Machine) -> Result<()> {
    let test = "a_container_with_ipv6_reaches_other_computers_by_it";
    let Some(namespace) = Namespace::for_test(test, 197) else { return Ok(()) };
    let _server = Server::peer_in(&namespace)?;
    let network = with_ipv6(machine, "fd5a:1::/64")?;
    let container = Container::sleeping(machine, &format!("--network {}", network.name))?;
    let address = format!("[{}]:80", namespace.address6());
    let answer = eventually_ok("the server answers", || container.exec(&["/peer", "upload", &address, "1000"]))?;
    ensure!(answer.starts_with("80 1000 "), "{answer}");
    let seen = container.exec(&["/peer", "who", &address])?;
    ensure!(seen.starts_with(&format!("[{}]:", namespace.host6())), "it is seen as {seen}");
    // And the host itself, by its IPv6 address.
    let host = container.exec(&["ping", "-6", "-c", "1", "-w", "20", "host.docker.internal"])?;
    ensure!(host.contains(" 0% packet loss"), "{host}");
    Ok(())
}

fn a_container_with_ipv6_is_reached_at_both_addresses_of_localhost(machine: &Machine) -> Result<()> {
    let network = with_ipv6(machine, "fd5a:2::/64")?;
    let port = free_tcp(2)?;
    let options = format!("--init --network {} -p {port}:80 -p [::1]:{}:81", network.name, port + 1);
    let container = Container::run(machine, &options, &["/peer", "serve", "80-81"])?;
    container.wait_for_log("listening")?;
    for (address, inside) in [(v4(port), 80), (v6(port), 80), (v6(port + 1), 81)] {
        let found = eventually(&format!("{address} answers"), || stream::port_behind(address).ok())?;
        ensure!(found == inside, "{address} leads to {found}");
    }
    ensure!(stream::is_refused(v4(port + 1)), "-p [::1]:… also listens on 127.0.0.1");
    Ok(())
}

/// The agent answers dockerd's iptables commands itself. A form it does not know starts the real program for that
/// command and every one after it, so each new version of dockerd must be held against this.
fn every_kind_of_network_is_made_without_the_real_iptables(machine: &Machine) -> Result<()> {
    let option = "com.docker.network.bridge";
    let kinds = [
        String::new(),
        "--internal".to_owned(),
        format!("--opt {option}.enable_icc=false"),
        format!("--opt {option}.enable_ip_masquerade=false"),
        format!("--opt {option}.host_binding_ipv4=127.0.0.1"),
        format!("--opt {option}.gateway_mode_ipv4=routed"),
        format!("--opt {option}.gateway_mode_ipv4=nat-unprotected"),
        format!("--internal --opt {option}.gateway_mode_ipv4=isolated"),
        format!("--ipv6 --opt {option}.gateway_mode_ipv6=routed"),
    ];
    for kind in &kinds {
        let network = Network::create(machine, kind)?;
        let container = Container::sleeping(machine, &format!("--network {} -P --expose 80", network.name))?;
        drop(container);
    }
    let first = Container::sleeping(machine, "--expose 80")?;
    let linked = Container::sleeping(machine, &format!("--link {}:first", first.name))?;
    drop((linked, first));
    let log = machine.rorqual(["logs", "agent"]).output_text()?;
    let left: Vec<&str> = log.lines().filter(|line| line.contains("left to the real iptables")).collect();
    ensure!(left.is_empty(), "the agent does not know these commands: {left:#?}");
    Ok(())
}
