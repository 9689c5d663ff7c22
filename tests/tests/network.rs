//! The machine's network card: containers reach the host and what the host reaches, by name and by address, and nothing
//! else.

use std::{
    fs,
    io::ErrorKind,
    net::{TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::{Command, ExitCode},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::libc::SIGTERM;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, listen, socket};
use rorqual_tests::{
    Container, Execution, Machine, Run, Server,
    docker::{Following, unique},
    eventually, eventually_ok, host_port, material,
    namespace::Namespace,
    stream::{Pattern, checksum},
    suite, tests,
};

/// Current location of Debian's apt mirror setting.
const DEBIAN_SOURCES: &str = "etc/apt/sources.list.d/debian.sources";
/// Bytes each way: many windows and segments.
const LARGE: usize = 32 << 20;

fn main() -> ExitCode {
    suite::main(
        1,
        Machine::start,
        tests![
            a_container_and_a_server_on_the_host_exchange_what_they_send_whole,
            local_names_are_known_in_every_network,
            an_unknown_name_is_answered_at_once,
            datagrams_of_every_size_come_back,
            the_gateway_answers_pings,
            a_server_that_is_not_there_refuses_the_connection,
            a_server_that_never_answers_times_out_and_blocks_nobody,
            addresses_that_reveal_a_machines_secrets_are_closed,
            images_go_to_and_come_from_a_registry_on_the_host,
            a_server_at_another_address_of_the_host_is_reached,
            a_lost_link_is_reported_and_connections_resume_when_it_returns,
            package_lists_come_from_this_computers_mirror,
            the_hosts_localhost_is_closed_when_the_settings_say_so,
        ],
    )
}

fn a_container_and_a_server_on_the_host_exchange_what_they_send_whole(machine: &Machine) -> Result<()> {
    let (_server, port) = Server::peer()?;
    let container = Container::sleeping(machine, "")?;
    let address = format!("host.docker.internal:{port}");
    let mut pattern = vec![0; LARGE];
    Pattern::default().fill(&mut pattern);
    let sum = checksum(&pattern);
    let count = LARGE.to_string();
    let downloaded = container.exec(&["/peer", "download", &address, &count])?;
    ensure!(downloaded == format!("{LARGE} {sum}"), "{downloaded}");
    // The server answers once it has seen the end of the input, so half-close is carried through.
    let uploaded = container.exec(&["/peer", "upload", &address, &count])?;
    ensure!(uploaded == format!("{port} {LARGE} {sum}"), "{uploaded}");
    Ok(())
}

/// The IPv4 address to which a container resolves a name.
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
            // An unknown local name has no address and is not forwarded to other resolvers.
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

fn an_unknown_name_is_answered_at_once(machine: &Machine) -> Result<()> {
    // With or without a working resolver on the host, the lookup ends one way or the other.
    let container = Container::sleeping(machine, "")?;
    let answer = machine.attempt(&format!("exec {} nslookup nobody.invalid", container.name))?;
    let text = format!("{}{}", answer.text(), answer.stderr);
    ensure!(text.contains("NXDOMAIN") || text.contains("SERVFAIL"), "{text}");
    Ok(())
}

fn datagrams_of_every_size_come_back(machine: &Machine) -> Result<()> {
    let server = UdpSocket::bind(("127.0.0.1", 0))?;
    let port = server.local_addr()?.port();
    // The thread ends with this process.
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = server.recv_from(&mut buffer) {
            let _ = server.send_to(&buffer[..length], from);
        }
    });
    let container = Container::sleeping(machine, "")?;
    let address = format!("host.docker.internal:{port}");
    // The container's network card fragments the larger ones, and they are reassembled on the way.
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
    let url = format!("http://host.docker.internal:{}/", host_port::free()?);
    machine.attempt(&format!("exec {} wget -O- {url}", container.name))?.exits(1)?.complains("connection refused")?;
    Ok(())
}

fn a_server_that_never_answers_times_out_and_blocks_nobody(machine: &Machine) -> Result<()> {
    // With its queue full, the host's kernel ignores every further SYN.
    let silent = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    listen(&silent, Backlog::new(0)?)?;
    let silent = TcpListener::from(silent);
    let port = silent.local_addr()?.port();
    let _queued = TcpStream::connect(("127.0.0.1", port))?;
    let address = ([127, 0, 0, 1], port).into();
    let tried = TcpStream::connect_timeout(&address, Duration::from_secs(2)).err().map(|error| error.kind());
    ensure!(tried == Some(ErrorKind::TimedOut), "the host's own attempt: {tried:?}");

    let container = Container::sleeping(machine, "")?;
    // Over IPv4, because nobody listens on IPv6, where the connection is refused.
    let host = lookup(&container, "host.docker.internal")?;
    // Neither a connection nor an error arrives until SIGTERM ends the wait.
    let waited = format!("exec {} timeout 5 /peer upload {host}:{port} 1", container.name);
    machine.attempt(&waited)?.exits(128 + SIGTERM)?;
    let (_server, port) = Server::peer()?;
    let answer = container.exec(&["/peer", "upload", &format!("host.docker.internal:{port}"), "1000"])?;
    ensure!(answer.starts_with(&format!("{port} 1000 ")), "{answer}");
    Ok(())
}

fn addresses_that_reveal_a_machines_secrets_are_closed(machine: &Machine) -> Result<()> {
    let container = Container::sleeping(machine, "")?;
    let fetch = format!("exec {} wget -O- http://169.254.169.254/", container.name);
    machine.attempt(&fetch)?.exits(1)?.complains("no route to host")?;
    Ok(())
}

fn images_go_to_and_come_from_a_registry_on_the_host(machine: &Machine) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut registry = material::unpack_registry(directory.path())?;
    let (port, settings) = (host_port::free()?, directory.path().join("registry.yml"));
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

/// The test peer at port 80 of a namespace of its own; `None`, with the reason printed, where that is impossible.
fn namespace_for(test: &str, third_octet: u8) -> Result<Option<(Server, Namespace)>> {
    let Some(namespace) = Namespace::for_test(test, third_octet) else { return Ok(None) };
    Ok(Some((Server::peer_in(&namespace)?, namespace)))
}

fn a_lost_link_is_reported_and_connections_resume_when_it_returns(machine: &Machine) -> Result<()> {
    // Enough data that the link goes down in the middle.
    const BYTES: usize = 256 << 20;
    let name = "a_lost_link_is_reported_and_connections_resume_when_it_returns";
    let Some((_server, namespace)) = namespace_for(name, 198)? else { return Ok(()) };
    let address = format!("{}:80", namespace.address());
    let container = Container::sleeping(machine, "")?;
    eventually_ok("the server answers", || container.exec(&["/peer", "upload", &address, "1"]))?;
    let count = BYTES.to_string();
    let download = Following::start(machine.docker(["exec", &container.name, "/peer", "download", &address, &count]))?;
    let link = namespace.link();
    let received = || -> Result<usize> {
        Ok(fs::read_to_string(format!("/sys/class/net/{link}/statistics/rx_bytes"))?.trim().parse()?)
    };
    eventually("the download has begun", || received().ok().filter(|bytes| *bytes > 1 << 20))?;
    Command::new("ip").args(["link", "set", &link, "down"]).run()?.success()?;
    let before = received()?;
    ensure!(before < BYTES, "the download was over before the link went away");
    let refused = machine.attempt(&format!("exec {} /peer upload {address} 1", container.name))?;
    ensure!(refused.status == 1 && refused.stderr.contains("No route to host"), "{refused}");
    ensure!(received()? == before, "something came over a link that is down");

    Command::new("ip").args(["link", "set", &link, "up"]).run()?.success()?;
    let mut pattern = vec![0; BYTES];
    Pattern::default().fill(&mut pattern);
    let whole = format!("{BYTES} {}", checksum(&pattern));
    let said = download.next_line()?;
    ensure!(said == whole, "{said}, not {whole}");
    Ok(())
}

fn a_server_at_another_address_of_the_host_is_reached(machine: &Machine) -> Result<()> {
    let name = "a_server_at_another_address_of_the_host_is_reached";
    let Some((_server, namespace)) = namespace_for(name, 199)? else { return Ok(()) };
    let address = format!("{}:80", namespace.address());
    let container = Container::sleeping(machine, "")?;
    let answer = eventually_ok("the server answers", || container.exec(&["/peer", "upload", &address, "1000"]))?;
    ensure!(answer.starts_with("80 1000 "), "{answer}");
    Ok(())
}

/// A container of this computer's Debian, with its apt settings, fetches the package lists as this computer does.
fn package_lists_come_from_this_computers_mirror(machine: &Machine) -> Result<()> {
    let name = "package_lists_come_from_this_computers_mirror";
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let Some(codename) = codename.filter(|_| Path::new("/etc/apt").is_dir()) else {
        suite::skip(name, "this computer has no packages of Debian");
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let root = directory.path().join("root.tar");
    let mut make = Command::new("mmdebstrap");
    make.args(["--quiet", "--variant=apt", "--include=ca-certificates", codename]).arg(&root);
    if let Err(error) = make.run().and_then(Execution::success) {
        suite::skip(name, &format!("this computer reaches no package mirror itself: {error:#}"));
        return Ok(());
    }
    let image = unique("debian");
    machine.run(&format!("import {} {image}", root.display()))?;
    let result = (|| {
        let container = Container::named(machine);
        machine.run(&format!("run -d --init --name {} {image} sleep 1000000", container.name))?;
        let settings = ["etc/apt/apt.conf", "etc/apt/apt.conf.d", "etc/apt/sources.list", DEBIAN_SOURCES]
            .into_iter()
            .filter(|file| Path::new("/").join(file).exists());
        let packed = Command::new("tar").args(["-C", "/", "-c"]).args(settings).run()?.success()?;
        let to = format!("{}:/", container.name);
        machine.docker(["cp", "-", &to]).run_with_input(&packed.stdout)?.success()?;
        container.exec(&["sh", "-c", "rm -rf /var/lib/apt/lists/*"])?;
        let updated = container.exec(&["apt-get", "update", "--error-on=any"])?;
        ensure!(updated.contains("Fetched ") && updated.contains("Reading package lists"), "{updated}");
        let lists = container.exec(&["apt-cache", "policy", "busybox"])?;
        ensure!(lists.contains("Candidate: 1:"), "no package is known: {lists}");
        Ok(())
    })();
    machine.run(&format!("rmi -f {image}"))?;
    result
}

fn the_hosts_localhost_is_closed_when_the_settings_say_so(machine: &Machine) -> Result<()> {
    let (_server, port) = Server::peer()?;
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
