//! Names resolve as on the host: through resolvers of this suite, which the machine finds in a resolv.conf of its own.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    path::PathBuf,
    process::{Command, ExitCode},
    sync::OnceLock,
};

use anyhow::{Context, Result, ensure};
use rorqual_tests::{
    Container, Machine, Run,
    docker::unique,
    resolver::{MANY, Resolver},
    suite, tests,
};

/// The resolvers of this suite, and the resolv.conf that lists them.
static SERVED: OnceLock<Served> = OnceLock::new();

#[derive(Debug)]
struct Served {
    file: PathBuf,
    first: Resolver,
    _second: Resolver,
    /// Accepts questions and answers none.
    _silent: UdpSocket,
}

fn main() -> ExitCode {
    suite::main(
        1,
        start,
        tests![
            names_are_those_of_the_host_in_every_network,
            an_answer_too_long_for_a_datagram_comes_by_tcp,
            names_unknown_to_the_host_are_unknown,
            a_changed_resolver_of_the_host_is_used_at_once,
            a_resolver_that_is_silent_or_gone_is_skipped,
        ],
    )
}

/// A loopback address that no other process of these tests uses.
fn loopback(last: u8) -> Ipv4Addr {
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high, low, last)
}

fn resolv_conf(resolvers: &[u8]) -> String {
    let named: Vec<String> = resolvers.iter().map(|last| format!("nameserver {}\n", loopback(*last))).collect();
    format!("search corp.test\n{}", named.concat())
}

/// A machine whose daemon sees another `/etc/resolv.conf`, in a mount namespace of its own. This needs root; otherwise
/// the tests are skipped.
fn start() -> Result<Machine> {
    if !nix::unistd::getuid().is_root() {
        return Machine::start();
    }
    let machine = Machine::prepare()?;
    let served = Served {
        file: machine.home().join("resolv.conf"),
        first: Resolver::start(loopback(1), 1)?,
        _second: Resolver::start(loopback(2), 2)?,
        _silent: UdpSocket::bind((loopback(3), 53))?,
    };
    fs::write(&served.file, resolv_conf(&[1]))?;
    let mut start = Command::new("unshare");
    start.args(["--mount", "--propagation", "private", "sh", "-c"]);
    start.arg("mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"").arg(&served.file);
    let rorqual = machine.rorqual(["start", "-q"]);
    start.arg(rorqual.get_program()).args(rorqual.get_args());
    for (name, value) in rorqual.get_envs() {
        match value {
            Some(value) => start.env(name, value),
            None => start.env_remove(name),
        };
    }
    SERVED.set(served).ok().context("the suite was started twice")?;
    machine.started_by(start)
}

fn served(test: &str) -> Option<&'static Served> {
    let served = SERVED.get();
    if served.is_none() {
        suite::skip(test, "another resolv.conf needs root");
    }
    served
}

/// The addresses of a name, as the C library in a container resolves it.
fn addresses(container: &Container, name: &str) -> Result<Vec<String>> {
    Ok(container.exec(&["/peer", "addresses", name])?.lines().map(str::to_owned).collect())
}

fn names_are_those_of_the_host_in_every_network(machine: &Machine) -> Result<()> {
    if served("names_are_those_of_the_host_in_every_network").is_none() {
        return Ok(());
    }
    let network = unique("net");
    machine.run(&format!("network create {network}"))?;
    let result = (|| {
        for options in [String::new(), format!("--network {network}"), "--network host".to_owned()] {
            let container = Container::sleeping(machine, &options)?;
            ensure!(addresses(&container, "where.test")? == ["192.0.2.1"], "{options}");
            // Through the host's search domain.
            ensure!(addresses(&container, "printer")? == ["192.0.2.1"], "{options}");
        }
        Ok(())
    })();
    machine.docker(["network", "rm", "-f", &network]).run()?;
    result
}

fn an_answer_too_long_for_a_datagram_comes_by_tcp(machine: &Machine) -> Result<()> {
    let Some(served) = served("an_answer_too_long_for_a_datagram_comes_by_tcp") else { return Ok(()) };
    let container = Container::sleeping(machine, "")?;
    let (_, before) = served.first.asked();
    let found = addresses(&container, "many.test")?;
    let expected: Vec<String> = (0..MANY).map(|last| format!("198.51.100.{last}")).collect();
    ensure!(found.len() == expected.len() && expected.iter().all(|address| found.contains(address)), "{found:?}");
    let (_, after) = served.first.asked();
    ensure!(after > before, "it was not asked by TCP");
    Ok(())
}

fn names_unknown_to_the_host_are_unknown(machine: &Machine) -> Result<()> {
    let Some(served) = served("names_unknown_to_the_host_are_unknown") else { return Ok(()) };
    let container = Container::sleeping(machine, "")?;
    for (name, reason) in
        [("gone.test", "Name or service not known"), ("empty.test", "No address associated with hostname")]
    {
        let (before, _) = served.first.asked();
        let execution = machine.attempt(&format!("exec {} /peer addresses {name}", container.name))?;
        ensure!(execution.status == 1 && execution.stderr.contains(reason), "{name}: {execution}");
        ensure!(served.first.asked().0 > before, "{name}: the host's resolver was not asked");
    }
    Ok(())
}

fn a_changed_resolver_of_the_host_is_used_at_once(machine: &Machine) -> Result<()> {
    let Some(served) = served("a_changed_resolver_of_the_host_is_used_at_once") else { return Ok(()) };
    let container = Container::sleeping(machine, "")?;
    ensure!(addresses(&container, "where.test")? == ["192.0.2.1"]);
    let changed = (|| {
        fs::write(&served.file, resolv_conf(&[2]))?;
        addresses(&container, "where.test")
    })();
    fs::write(&served.file, resolv_conf(&[1]))?;
    ensure!(changed? == ["192.0.2.2"], "the change was not followed");
    ensure!(addresses(&container, "where.test")? == ["192.0.2.1"], "nor back");
    Ok(())
}

fn a_resolver_that_is_silent_or_gone_is_skipped(machine: &Machine) -> Result<()> {
    let Some(served) = served("a_resolver_that_is_silent_or_gone_is_skipped") else { return Ok(()) };
    let container = Container::sleeping(machine, "")?;
    // Nobody listens at the fourth.
    let found = (|| {
        fs::write(&served.file, resolv_conf(&[3, 4, 1]))?;
        addresses(&container, "where.test")
    })();
    fs::write(&served.file, resolv_conf(&[1]))?;
    ensure!(found? == ["192.0.2.1"]);
    Ok(())
}
