//! A thousand published ports at once. dockerd takes minutes to open and close them, so this suite runs nightly.

use std::{
    io::{Read, Write},
    net::Shutdown,
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Result, ensure};
use rorqual_tests::{
    Container, IMAGE, Machine,
    command::finish_within,
    host_port::{free_tcp, v4},
    stream, suite, tests,
};

/// How long one docker command may take.
const PATIENCE: Duration = Duration::from_mins(15);

fn main() -> ExitCode {
    suite::main(1, Machine::start, tests![a_thousand_ports_answer_at_once])
}

/// Runs docker where a thousand ports are opened or closed: dockerd runs several processes for each.
fn patient(machine: &Machine, words: &[&str]) -> Result<()> {
    let mut command = machine.docker(words.iter().copied());
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    finish_within(PATIENCE, child, words.join(" "))?.success()?;
    Ok(())
}

fn a_thousand_ports_answer_at_once(machine: &Machine) -> Result<()> {
    let ports = 1000;
    let first = free_tcp(ports)?;
    let last = first + ports - 1;
    let inside = format!("20000-{}", 19_999 + ports);
    let container = Container::named(machine);
    let range = format!("127.0.0.1:{first}-{last}:{inside}");
    let run = ["run", "-d", "--init", "--name", &container.name, "-p", &range, IMAGE, "/peer", "serve", &inside];
    patient(machine, &run)?;
    container.wait_for_log("listening")?;
    let mut streams = (first..=last).map(|port| stream::connect(v4(port))).collect::<Result<Vec<_>>>()?;
    for connection in &mut streams {
        connection.write_all(b"?")?;
        connection.shutdown(Shutdown::Write)?;
    }
    for (index, mut connection) in (0_u16..).zip(streams) {
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        ensure!(answer.starts_with(&format!("{} 1 ", 20_000 + index)), "port {} answered {answer:?}", first + index);
    }
    patient(machine, &["stop", &container.name])?;
    let open: Vec<u16> = (first..=last).filter(|port| !stream::is_refused(v4(*port))).collect();
    ensure!(open.is_empty(), "still open after docker stop: {open:?}");
    Ok(())
}
