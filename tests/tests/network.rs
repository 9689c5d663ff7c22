//! The machine's network card: containers reach the host and what the host reaches, by name and by address, and no more.

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    process::{Child, Command, ExitCode, Stdio},
    thread,
};

use anyhow::{Context, Result, ensure};
use rorqual_tests::{
    Container, Machine, Run,
    docker::unique,
    eventually, eventually_ok, material,
    namespace::Namespace,
    stream::{self, Pattern, checksum},
    suite, tests,
};

/// Both ways, in bytes: many windows and segments.
const LARGE: usize = 32 << 20;

fn main() -> ExitCode {
    suite::main(
        1,
        Machine::start,
        tests![
            a_container_and_a_server_on_the_host_exchange_what_they_send_whole,
            local_names_are_known_in_every_network,
            a_name_nobody_has_is_answered_at_once,
            datagrams_of_every_size_come_back,
            the_gateway_answers_pings,
            a_server_that_is_not_there_refuses_the_connection,
            addresses_that_tell_a_machines_secrets_are_closed,
            images_go_to_and_come_from_a_registry_on_the_host,
            a_server_at_another_address_of_the_host_is_reached,
            the_hosts_localhost_is_closed_when_the_settings_say_so,
        ],
    )
}

/// A program of the host that ends with its test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn().with_context(|| format!("cannot start {command:?}"))?))
    }

    /// The test peer at a port of this computer.
    fn peer(machine: &Machine) -> Result<(Self, u16)> {
        let port = free_port()?;
        let mut command = Command::new(machine.programs().join("rorqual-test-peer"));
        command.args(["serve", &port.to_string()]);
        let server = Self::start(command)?;
        eventually("the peer listens", || stream::answers(([127, 0, 0, 1], port).into()).then_some(()))?;
        Ok((server, port))
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn a_container_and_a_server_on_the_host_exchange_what_they_send_whole(machine: &Machine) -> Result<()> {
    let (_server, port) = Server::peer(machine)?;
    let container = Container::sleeping(machine, "")?;
    let address = format!("host.docker.internal:{port}");
    let mut pattern = vec![0; LARGE];
    Pattern::default().fill(&mut pattern);
    let sum = checksum(&pattern);
    let count = LARGE.to_string();
    let downloaded = container.exec(&["/peer", "download", &address, &count])?;
    ensure!(downloaded == format!("{LARGE} {sum}"), "{downloaded}");
    // The server answers once it has seen the end of what is sent: half-close is carried through.
    let uploaded = container.exec(&["/peer", "upload", &address, &count])?;
    ensure!(uploaded == format!("{port} {LARGE} {sum}"), "{uploaded}");
    Ok(())
}

/// The IPv4 address a container finds for a name.
fn lookup(container: &Container<'_>, name: &str) -> Result<String> {
    let answer = container.exec(&["nslookup", name])?;
    let after_name = answer.split_once("Name:").map_or("", |(_, rest)| rest);
    let address = after_name.split_whitespace().find(|word| word.parse::<std::net::Ipv4Addr>().is_ok());
    address.map(str::to_owned).with_context(|| answer.clone())
}

fn local_names_are_known_in_every_network(machine: &Machine) -> Result<()> {
    let network = unique("net");
    machine.run(&format!("network create {network}"))?;
    let result = (|| {
        let default = Container::sleeping(machine, "")?;
        let own = Container::sleeping(machine, &format!("--network {network}"))?;
        let host_network = Container::sleeping(machine, "--network host")?;
        for container in [&default, &own, &host_network] {
            let host = lookup(container, "host.docker.internal")?;
            let gateway = lookup(container, "gateway.docker.internal")?;
            let machine_itself = lookup(container, "default.rorqual.internal")?;
            let routes = host_network.exec(&["ip", "route"])?;
            ensure!(routes.contains(&format!("default via {gateway}")), "{gateway}: {routes}");
            ensure!(host != gateway && host != machine_itself && gateway != machine_itself, "{host} {gateway}");
            // What is not there has no address, and is not asked of others.
            let exec = format!("exec {} nslookup nothing.docker.internal", container.name);
            ensure!(machine.attempt(&exec)?.text().contains("NXDOMAIN"), "{exec}");
        }
        let added = Container::sleeping(machine, "--add-host me:host-gateway")?;
        let hosts = added.exec(&["cat", "/etc/hosts"])?;
        ensure!(hosts.contains(&format!("{}\tme", lookup(&added, "host.docker.internal")?)), "{hosts}");
        Ok(())
    })();
    machine.docker(["network", "rm", "-f", &network]).run()?;
    result
}

fn a_name_nobody_has_is_answered_at_once(machine: &Machine) -> Result<()> {
    // Whether or not the host has a resolver that answers: an end comes, of the one or the other kind.
    let container = Container::sleeping(machine, "")?;
    let answer = machine.attempt(&format!("exec {} nslookup nobody.invalid", container.name))?;
    let text = format!("{}{}", answer.text(), answer.stderr);
    ensure!(text.contains("NXDOMAIN") || text.contains("SERVFAIL"), "{text}");
    Ok(())
}

fn datagrams_of_every_size_come_back(machine: &Machine) -> Result<()> {
    let server = UdpSocket::bind(("127.0.0.1", 0))?;
    let port = server.local_addr()?.port();
    // It ends with this process.
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = server.recv_from(&mut buffer) {
            let _ = server.send_to(&buffer[..length], from);
        }
    });
    let container = Container::sleeping(machine, "")?;
    let address = format!("host.docker.internal:{port}");
    // The larger ones are cut by the container's own network card and put together on the way.
    for bytes in ["0", "1", "1400", "9000", "60000"] {
        let answer = container.exec(&["/peer", "echo", &address, bytes])?;
        ensure!(answer == "same", "{bytes} bytes: {answer}");
    }
    Ok(())
}

fn the_gateway_answers_pings(machine: &Machine) -> Result<()> {
    let container = Container::sleeping(machine, "")?;
    for name in ["gateway.docker.internal", "host.docker.internal"] {
        let ping = container.exec(&["ping", "-c", "2", "-w", "20", name])?;
        ensure!(ping.contains(" 0% packet loss"), "{ping}");
    }
    Ok(())
}

fn a_server_that_is_not_there_refuses_the_connection(machine: &Machine) -> Result<()> {
    let container = Container::sleeping(machine, "")?;
    let url = format!("http://host.docker.internal:{}/", free_port()?);
    machine.attempt(&format!("exec {} wget -O- {url}", container.name))?.exits(1)?.complains("connection refused")?;
    Ok(())
}

fn addresses_that_tell_a_machines_secrets_are_closed(machine: &Machine) -> Result<()> {
    let container = Container::sleeping(machine, "")?;
    let fetch = format!("exec {} wget -O- http://169.254.169.254/", container.name);
    machine.attempt(&fetch)?.exits(1)?.complains("no route to host")?;
    Ok(())
}

fn images_go_to_and_come_from_a_registry_on_the_host(machine: &Machine) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut registry = material::unpack_registry(directory.path())?;
    let (port, settings) = (free_port()?, directory.path().join("registry.yml"));
    let data = directory.path().join("data");
    fs::write(
        &settings,
        format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            data.display()
        ),
    )?;
    registry.arg("serve").arg(&settings);
    let _registry = Server::start(registry)?;
    let image = format!("host.docker.internal:{port}/busy:1");
    machine.run(&format!("tag {} {image}", rorqual_tests::IMAGE))?;
    eventually_ok("the registry takes an image", || machine.run(&format!("push -q {image}")))?;
    machine.run(&format!("rmi {image}"))?;
    machine.run(&format!("pull -q {image}"))?;
    let said = machine.run(&format!("run --rm {image} echo from the registry"))?;
    ensure!(said == "from the registry", "{said}");
    machine.run(&format!("rmi {image}"))?;
    Ok(())
}

fn a_server_at_another_address_of_the_host_is_reached(machine: &Machine) -> Result<()> {
    let name = "a_server_at_another_address_of_the_host_is_reached";
    let Some(namespace) = Namespace::for_test(name, 199) else { return Ok(()) };
    let mut command = namespace.command();
    command.arg(machine.programs().join("rorqual-test-peer")).args(["serve", "80"]);
    let _server = Server::start(command)?;
    let address = format!("{}:80", namespace.address());
    let container = Container::sleeping(machine, "")?;
    let answer = eventually_ok("the server answers", || container.exec(&["/peer", "upload", &address, "1000"]))?;
    ensure!(answer.starts_with("80 1000 "), "{answer}");
    Ok(())
}

fn the_hosts_localhost_is_closed_when_the_settings_say_so(machine: &Machine) -> Result<()> {
    let (_server, port) = Server::peer(machine)?;
    let settings = machine.home().join("config.toml");
    let before = fs::read_to_string(&settings)?;
    fs::write(&settings, "[network]\nhost_access = false\nsubnet = \"10.213.200.0/24\"\n")?;
    machine.rorqual(["restart", "-q"]).run()?.success()?;
    let container = Container::sleeping(machine, "")?;
    let host = lookup(&container, "host.docker.internal")?;
    ensure!(host == "10.213.200.254", "the subnet is not as it was set: {host}");
    let fetch = format!("exec {} /peer upload {host}:{port} 1", container.name);
    let refused = machine.attempt(&fetch)?;
    ensure!(refused.status == 1 && refused.stderr.contains("No route to host"), "{refused}");
    container.exec(&["ping", "-c", "1", "-w", "20", "gateway.docker.internal"])?;
    fs::write(&settings, before)?;
    machine.rorqual(["restart", "-q"]).run()?.success()?;
    Ok(())
}
