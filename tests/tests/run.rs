//! `docker run`: exit statuses, streams, terminals, signals, environment.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    process::ExitCode,
    thread,
};

use anyhow::{Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rorqual_tests::{
    Container, Execution, IMAGE, Machine, Run,
    command::finish,
    eventually,
    pseudo_terminal::PseudoTerminal,
    stream::{checksum, expected_checksum},
    suite, tests,
};

fn main() -> ExitCode {
    suite::main(
        2,
        Machine::start,
        tests![
            the_exit_status_is_that_of_the_command,
            a_command_that_cannot_run_exits_126_or_127_and_a_bad_request_125,
            a_command_that_fails_to_begin_exits_255_and_says_why,
            a_system_call_nobody_knows_is_not_implemented,
            the_answers_of_a_seccomp_profile_are_its_own,
            both_runtimes_run_and_say_what_they_can_do,
            a_killed_container_exits_137,
            both_output_streams_arrive_apart,
            standard_input_environment_user_and_directory_reach_the_command,
            a_terminal_is_one_in_the_container,
            a_signal_to_the_client_reaches_the_command,
            an_init_process_reaps_and_forwards,
            a_large_output_arrives_whole,
        ],
    )
}

fn the_exit_status_is_that_of_the_command(machine: &Machine) -> Result<()> {
    machine.attempt("run --rm test true")?.exits(0)?;
    machine.attempt("run --rm test false")?.exits(1)?;
    machine.docker(["run", "--rm", IMAGE, "sh", "-c", "exit 42"]).run()?.exits(42)?;
    Ok(())
}

fn a_command_that_cannot_run_exits_126_or_127_and_a_bad_request_125(machine: &Machine) -> Result<()> {
    machine
        .docker(["run", "--rm", IMAGE, "sh", "-c", "/etc/passwd"])
        .run()?
        .exits(126)?
        .complains("permission denied")?;
    machine.docker(["run", "--rm", IMAGE, "sh", "-c", "no-such-program"]).run()?.exits(127)?;
    // Where the runtime itself cannot start the command, the client takes 126 and 127 from the runtime's words.
    for file in ["/etc/passwd", "/etc"] {
        machine.attempt(&format!("run --rm test {file}"))?.exits(126)?.complains("permission denied")?;
    }
    for program in ["no-such-program", "/no/such/program"] {
        machine.attempt(&format!("run --rm test {program}"))?.exits(127)?.complains(program)?;
    }
    machine.attempt("run --rm --memory 1 test true")?.exits(125)?;
    Ok(())
}

fn a_command_that_fails_to_begin_exits_255_and_says_why(machine: &Machine) -> Result<()> {
    let directory = tempfile::tempdir()?;
    for (name, content, reason) in [
        ("script", "#!/no/such/shell\n", "exec /script: no such file or directory"),
        ("text", "no program at all", "exec /text: exec format error"),
    ] {
        let file = directory.path().join(name);
        fs::write(&file, content)?;
        fs::set_permissions(&file, Permissions::from_mode(0o755))?;
        let container = Container::named(machine);
        machine.run(&format!("create --name {} test /{name}", container.name))?;
        machine.run(&format!("cp {} {}:/{name}", file.display(), container.name))?;
        let execution = machine.attempt(&format!("start -a {}", container.name))?.exits(255)?;
        ensure!(execution.stderr.trim() == reason, "{execution}");
    }
    Ok(())
}

fn a_system_call_nobody_knows_is_not_implemented(machine: &Machine) -> Result<()> {
    // C libraries try a newer system call first and fall back on ENOSYS, but not on EPERM.
    ensure!(machine.run("run --rm test /peer system-call 9999")? == "ENOSYS");
    // One that the engine's profile knows and forbids (keyctl) is another matter.
    ensure!(machine.run("run --rm test /peer system-call 250")? == "EPERM");
    Ok(())
}

fn the_answers_of_a_seccomp_profile_are_its_own(machine: &Machine) -> Result<()> {
    let directory = tempfile::tempdir()?;
    // The runtime keeps compiled profiles. These two differ in the answer alone.
    for (number, name) in [(1, "EPERM"), (38, "ENOSYS")] {
        let file = directory.path().join(name);
        let rule = format!(r#"{{"names": ["keyctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": {number}}}"#);
        fs::write(&file, format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}"#))?;
        let run = format!("run --rm --security-opt seccomp={} test /peer system-call 250", file.display());
        ensure!(machine.run(&run)? == name, "{name}");
    }
    Ok(())
}

fn both_runtimes_run_and_say_what_they_can_do(machine: &Machine) -> Result<()> {
    for runtime in ["crun", "runc"] {
        ensure!(machine.run(&format!("run --rm --runtime {runtime} test echo done"))? == "done");
        let features = format!("{{{{index .Runtimes.{runtime}.Status \"org.opencontainers.runtime-spec.features\"}}}}");
        let features = machine.docker(["info", "--format", &features]).output_text()?;
        ensure!(features.contains("ociVersionMax"), "the features of {runtime} are {features:?}");
    }
    let version = "{{range .Server.Components}}{{.Name}} {{.Version}};{{end}}";
    let version = machine.docker(["version", "--format", version]).output_text()?;
    ensure!(version.contains(";crun 1."), "docker version names the components {version:?}");
    Ok(())
}

fn a_killed_container_exits_137(machine: &Machine) -> Result<()> {
    let container = Container::sleeping(machine, "")?;
    thread::scope(|scope| {
        let wait = scope.spawn(|| machine.run(&format!("wait {}", container.name)));
        machine.run(&format!("kill {}", container.name))?;
        let status = wait.join().unwrap_or_else(|_| anyhow::bail!("docker wait panicked"))?;
        ensure!(status == "137", "docker wait printed {status}");
        Ok(())
    })
}

fn both_output_streams_arrive_apart(machine: &Machine) -> Result<()> {
    let execution = machine.docker(["run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2"]).run()?.success()?;
    ensure!(execution.text() == "out", "{execution}");
    ensure!(execution.stderr.trim() == "err", "{execution}");
    Ok(())
}

fn standard_input_environment_user_and_directory_reach_the_command(machine: &Machine) -> Result<()> {
    let input: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let script = "echo $COLOR; pwd; id -u; id -g; hostname; sha256sum | cut -d' ' -f1";
    let execution = machine
        .docker([
            "run",
            "--rm",
            "-i",
            "-e",
            "COLOR=blue and green",
            "-w",
            "/data",
            "-u",
            "1000:1000",
            "--hostname",
            "box",
        ])
        .args([IMAGE, "sh", "-c", script])
        .run_with_input(&input)?
        .success()?;
    let expected = format!("blue and green\n/data\n1000\n1000\nbox\n{}", checksum(&input));
    ensure!(execution.text() == expected, "{execution}");
    Ok(())
}

fn a_terminal_is_one_in_the_container(machine: &Machine) -> Result<()> {
    let mut terminal = PseudoTerminal::start(machine.docker(["run", "--rm", "-it", IMAGE, "sh"]), 101, 37)?;
    terminal.expect("# ")?;
    terminal.type_text("tty; stty size; echo end-of-$((40+2))\r")?;
    let screen = terminal.expect("end-of-42\r\n")?;
    ensure!(screen.contains("/dev/pts/0") && screen.contains("37 101"), "{screen}");
    // Ctrl-C goes to the command in the container, not to the client.
    terminal.type_text("sh -c 'trap \"echo inter''rupted; exit\" INT; echo g''o; while :; do sleep 1; done'\r")?;
    terminal.expect("go\r\n")?;
    terminal.type_text("\u{3}")?;
    terminal.expect("interrupted\r\n")?;
    terminal.type_text("exit 7\r")?;
    let (_, status) = terminal.finish()?;
    ensure!(status == 7, "exited with {status}");
    Ok(())
}

fn a_signal_to_the_client_reaches_the_command(machine: &Machine) -> Result<()> {
    let container = Container::named(machine);
    let script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 1; done";
    let mut command = machine.docker(["run", "--name", &container.name, IMAGE, "sh", "-c", script]);
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn()?;
    let process = Pid::from_raw(i32::try_from(child.id())?);
    eventually("the container is ready", || {
        machine.run(&format!("logs {}", container.name)).ok().filter(|log| log.contains("ready"))
    })?;
    kill(process, Signal::SIGTERM)?;
    let execution = finish(child, "docker run".to_owned())?.exits(9)?;
    ensure!(execution.text() == "ready\ncaught", "{execution}");
    Ok(())
}

fn an_init_process_reaps_and_forwards(machine: &Machine) -> Result<()> {
    let container = Container::run(machine, "--init", &["sh", "-c", "(sleep 0.2 &) ; exec sleep 1000000"])?;
    eventually("the orphan is reaped", || {
        let list = container.exec(&["ps", "-o", "stat,args"]).ok()?;
        let orphan = |line: &str| line.starts_with('Z') || line.ends_with(" sleep 0.2");
        (!list.lines().any(orphan)).then_some(())
    })?;
    // A process 1 without a handler would ignore SIGTERM and be killed (137) after the grace period.
    machine.run(&format!("stop {}", container.name))?;
    ensure!(container.inspect(".State.ExitCode")? == "143", "{}", container.inspect(".State.ExitCode")?);
    Ok(())
}

fn a_large_output_arrives_whole(machine: &Machine) -> Result<()> {
    const SIZE: u64 = 8 << 20;
    let execution: Execution = machine.attempt(&format!("run --rm {IMAGE} /peer send {SIZE}"))?.success()?;
    ensure!(execution.stdout.len() as u64 == SIZE, "{} bytes arrived", execution.stdout.len());
    ensure!(checksum(&execution.stdout) == expected_checksum(SIZE), "the bytes are others");
    Ok(())
}
