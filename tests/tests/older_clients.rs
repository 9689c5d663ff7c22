//! Clients two generations older than the engine, as distributions ship them: they ask for an older version of the API.

use std::{fs, process::ExitCode};

use anyhow::{Result, ensure};
use rorqual_tests::{Execution, Machine, Run, material::older_clients, suite, tests};
use tempfile::TempDir;

fn main() -> ExitCode {
    suite::main(
        1,
        Machine::start,
        tests![
            the_client_is_older_than_the_engine,
            containers_run_and_exit_as_with_the_newest_client,
            images_are_built_with_and_without_buildx,
            a_project_of_compose_comes_and_goes,
        ],
    )
}

/// Docker 26 with its own plugins, for one machine.
struct Older<'a> {
    machine: &'a Machine,
    /// Its configuration and plugins.
    config: TempDir,
}

impl<'a> Older<'a> {
    fn of(machine: &'a Machine) -> Result<Self> {
        let config = tempfile::tempdir()?;
        let plugins = config.path().join("cli-plugins");
        fs::create_dir(&plugins)?;
        for plugin in ["docker-buildx", "docker-compose"] {
            std::os::unix::fs::symlink(older_clients()?.join(plugin), plugins.join(plugin))?;
        }
        Ok(Self { machine, config })
    }

    fn attempt(&self, line: &str) -> Result<Execution> {
        let mut docker = self.machine.client(&older_clients()?.join("docker"), line.split_whitespace());
        docker.env("DOCKER_CONFIG", self.config.path()).run()
    }

    fn run(&self, line: &str) -> Result<String> {
        Ok(self.attempt(line)?.success()?.text())
    }
}

fn the_client_is_older_than_the_engine(machine: &Machine) -> Result<()> {
    let older = Older::of(machine)?;
    let client = older.run("version --format {{.Client.Version}}")?;
    let server = older.run("version --format {{.Server.Version}}")?;
    ensure!(client.starts_with("26.") && !server.starts_with("26."), "client {client}, engine {server}");
    Ok(())
}

fn containers_run_and_exit_as_with_the_newest_client(machine: &Machine) -> Result<()> {
    let older = Older::of(machine)?;
    ensure!(older.run("run --rm test echo hello")? == "hello");
    older.attempt("run --rm test no-such-program")?.exits(127)?;
    older.attempt("run --rm test /etc/passwd")?.exits(126)?;
    older.attempt("run --rm --memory 1 test true")?.exits(125)?;
    older.run("run -d --init --name aged test sleep 1000000")?;
    ensure!(older.run("exec aged echo inside")? == "inside");
    ensure!(older.run("ps --filter name=aged --format {{.State}}")? == "running");
    ensure!(older.run("stats --no-stream --format {{.Name}} aged")? == "aged");
    ensure!(older.run("inspect --format {{.HostConfig.Runtime}} aged")? == "crun");
    ensure!(!older.run("inspect --format {{.NetworkSettings.IPAddress}} aged")?.is_empty());
    let copied = older.config.path().join("passwd");
    older.run(&format!("cp aged:/etc/passwd {}", copied.display()))?;
    ensure!(fs::read_to_string(copied)?.starts_with("root:"));
    older.run("rm -f aged")?;
    Ok(())
}

fn images_are_built_with_and_without_buildx(machine: &Machine) -> Result<()> {
    let older = Older::of(machine)?;
    let directory = tempfile::tempdir()?;
    let context = directory.path().display();
    fs::write(directory.path().join("Dockerfile"), "FROM test\nRUN echo built > /built\nCMD [\"cat\", \"/built\"]\n")?;
    older.run(&format!("buildx build -q -t older-built {context}"))?;
    ensure!(older.run("run --rm older-built")? == "built");
    older.run(&format!("build -q -t older-built-again {context}"))?;
    ensure!(older.run("images -q older-built-again")?.len() == 12);
    older.run("rmi older-built older-built-again")?;
    Ok(())
}

fn a_project_of_compose_comes_and_goes(machine: &Machine) -> Result<()> {
    let older = Older::of(machine)?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("compose.yaml");
    fs::write(&file, "services:\n  one:\n    image: test\n    init: true\n    command: [\"sleep\", \"1000000\"]\n")?;
    let compose = |words: &str| older.run(&format!("compose -p aged -f {} {words}", file.display()));
    compose("up -d")?;
    ensure!(compose("exec -T one echo inside")? == "inside");
    ensure!(compose("ps --format {{.State}}")? == "running");
    compose("down --timeout 5")?;
    ensure!(older.run("ps -aq --filter label=com.docker.compose.project=aged")?.is_empty());
    Ok(())
}
