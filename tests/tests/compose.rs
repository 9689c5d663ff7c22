//! Compose: a project from a file, started in the order of its health checks.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context, Result, ensure};
use rorqual_tests::{Execution, Machine, Run, suite, tests};

fn main() -> ExitCode {
    suite::main(
        1,
        Machine::start,
        tests![a_project_starts_in_the_order_of_health_and_goes_without_trace, a_broken_file_is_refused_with_its_place],
    )
}

const PROJECT: &str = r#"
services:
  store:
    image: test
    init: true
    command: ["sh", "-c", "sleep 3; date +%s > /data/ready; echo store is up; sleep 1000000"]
    healthcheck:
      test: ["CMD", "test", "-s", "/data/ready"]
      interval: 1s
      timeout: 10s
      retries: 60
    volumes: ["data:/data"]
  front:
    build: .
    init: true
    depends_on:
      store:
        condition: service_healthy
    environment:
      GREETING: hello from compose
    volumes: ["data:/data:ro"]
    command: ["sh", "-c", "test -s /data/ready && echo $$GREETING && ping -c 1 store >&2 && sleep 1000000"]
  tool:
    image: test
    profiles: ["tools"]
    command: ["true"]
volumes:
  data:
"#;

fn compose(machine: &Machine, directory: &Path, words: &str) -> Result<Execution> {
    let file = directory.join("compose.yaml");
    let file = file.to_str().context("the path of the project is not text")?;
    machine.docker(["compose", "-p", "whales", "-f", file].into_iter().chain(words.split_whitespace())).run()
}

fn a_project_starts_in_the_order_of_health_and_goes_without_trace(machine: &Machine) -> Result<()> {
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("compose.yaml"), PROJECT)?;
    fs::write(directory.path().join("Dockerfile"), "FROM test\nLABEL made=by-compose\n")?;
    let directory = directory.path();
    compose(machine, directory, "up -d --build --wait --wait-timeout 120")?.success()?;

    let services = compose(machine, directory, "ps --format json")?.success()?.json_lines()?;
    let state = |name: &str| services.iter().find(|service| service["Service"] == name).cloned().unwrap_or_default();
    ensure!(state("store")["Health"] == "healthy" && state("front")["State"] == "running", "{services:?}");
    ensure!(state("tool").is_null(), "a service of a profile nobody asked for was started");

    let logs = compose(machine, directory, "logs --no-color --no-log-prefix front")?.success()?;
    ensure!(logs.text().contains("hello from compose") && logs.text().contains("1 packets received"), "{logs}");
    let exec = compose(machine, directory, "exec -T front cat /data/ready")?.success()?;
    ensure!(exec.text().parse::<u64>().is_ok(), "{exec}");
    // Up again with nothing changed recreates nothing.
    let id = compose(machine, directory, "ps -q front")?.success()?.text();
    compose(machine, directory, "up -d")?.success()?;
    ensure!(compose(machine, directory, "ps -q front")?.success()?.text() == id);

    compose(machine, directory, "down -v --rmi local --timeout 5")?.success()?;
    for list in ["ps -aq", "network ls -q", "volume ls -q"] {
        let words: Vec<&str> = list.split(' ').chain(["--filter", "label=com.docker.compose.project=whales"]).collect();
        let left = machine.docker(words).output_text()?;
        ensure!(left.is_empty(), "docker {list} still shows {left}");
    }
    Ok(())
}

fn a_broken_file_is_refused_with_its_place(machine: &Machine) -> Result<()> {
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("compose.yaml"), "services:\n  a:\n    imagine: test\n")?;
    let up = compose(machine, directory.path(), "up -d")?;
    ensure!(up.status != 0 && up.stderr.contains("imagine"), "{up}");
    Ok(())
}
