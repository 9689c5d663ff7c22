//! The command line and the machine's life cycle: start, stop, status, logs, shell, doctor, context.

use std::{fs, os::unix::fs::FileTypeExt, process::ExitCode};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rorqual_tests::{
    Container, Machine, Run, command::finish, docker::Following, eventually, processes,
    pseudo_terminal::PseudoTerminal, suite, tests,
};

fn main() -> ExitCode {
    suite::main(
        1,
        Machine::start,
        tests![
            starting_a_running_machine_does_nothing_and_says_so,
            status_shows_what_runs_and_why,
            every_log_has_lines,
            a_followed_log_continues,
            the_shell_passes_input_output_and_status_on,
            the_shell_has_a_terminal_that_is_put_back,
            doctor_finds_a_working_accelerator,
            the_docker_context_leads_to_the_machine_and_back,
            the_environment_leads_a_client_to_the_machine,
            a_restart_starts_containers_with_a_restart_policy,
            an_interrupted_start_stops_the_machine,
            every_command_reports_a_stopped_machine,
            quitting_the_daemon_keeps_the_machine_and_can_stop_it,
            two_starts_at_once_see_the_same_machine,
            wrong_arguments_exit_2_and_errors_have_a_json_form,
        ],
    )
}

fn starting_a_running_machine_does_nothing_and_says_so(machine: &Machine) -> Result<()> {
    let before = machine.status()?;
    let lines = machine.rorqual(["start", "--json"]).run()?.success()?.json_lines()?;
    let done = &lines.last().context("no answer")?["done"];
    ensure!(done["machine"]["state"] == "running" && done["machine"]["vmm_process"] == before["vmm_process"], "{done}");
    Ok(())
}

fn status_shows_what_runs_and_why(machine: &Machine) -> Result<()> {
    let status = machine.status()?;
    ensure!(status["name"] == "default" && status["state"] == "running", "{status}");
    ensure!(["uml", "kvm"].iter().any(|name| status["accelerator"] == *name), "{status}");
    for text in ["accelerator_reason", "kernel_release", "image_version"] {
        ensure!(status[text].as_str().is_some_and(|text| !text.is_empty()), "{text} is empty: {status}");
    }
    for number in ["cpus", "memory_bytes", "disk_bytes", "disk_allocated_bytes", "vmm_process", "ready_after_ms"] {
        ensure!(status[number].as_u64().is_some_and(|number| number > 0), "{number} is 0: {status}");
    }
    ensure!(
        status["disk_allocated_bytes"].as_u64() < status["disk_bytes"].as_u64(),
        "the disk is not sparse: {status}"
    );
    ensure!(status["docker_socket"] == machine.docker_socket().display().to_string(), "{status}");
    let table = machine.rorqual(["status"]).output_text()?;
    for word in ["running", "accelerator", "memory", "disk", "uptime", "docker.sock"] {
        ensure!(table.contains(word), "{word} is missing in\n{table}");
    }
    let version = machine.rorqual(["version", "--json"]).run()?.success()?.json()?;
    ensure!(
        version["image"] == status["image_version"] && version["daemon"]["version"] == version["version"],
        "{version}"
    );
    Ok(())
}

fn every_log_has_lines(machine: &Machine) -> Result<()> {
    for (source, word) in [
        ("kernel", "boot:"),
        ("agent", "containerd"),
        ("containerd", "containerd"),
        ("dockerd", "API listen"),
        ("vmm", ""),
        ("daemon", ""),
    ] {
        let log = machine.rorqual(["logs", source]).output_text()?;
        ensure!(!log.is_empty() && log.contains(word), "{word:?} is missing in the log of {source}:\n{log}");
    }
    let tail = machine.rorqual(["logs", "dockerd", "--tail", "2"]).output_text()?;
    ensure!(tail.lines().count() == 2, "{tail}");
    let lines = machine.rorqual(["logs", "kernel", "--tail", "3", "--json"]).run()?.success()?.json_lines()?;
    ensure!(lines.len() == 3 && lines.iter().all(|line| line["source"] == "kernel"), "{lines:?}");
    Ok(())
}

fn a_followed_log_continues(machine: &Machine) -> Result<()> {
    let log = Following::start(machine.rorqual(["logs", "kernel", "-f", "--tail", "1"]))?;
    log.next_line()?;
    machine.rorqual(["shell", "--", "sh", "-c", "echo '<2>a-line-of-the-test' > /dev/kmsg"]).run()?.success()?;
    log.wait_for("what was written", |line| line.contains("a-line-of-the-test"))?;
    Ok(())
}

fn the_shell_passes_input_output_and_status_on(machine: &Machine) -> Result<()> {
    machine.rorqual(["shell", "--", "true"]).run()?.success()?;
    let shell = machine.rorqual(["shell", "--", "sh", "-c", "cat; echo aside >&2; exit 42"]);
    let mut shell = shell;
    let execution = shell.run_with_input(b"through\n")?.exits(42)?;
    ensure!(execution.text() == "through" && execution.stderr.trim() == "aside", "{execution}");
    machine.rorqual(["shell", "--", "sh", "-c", "kill -9 $$"]).run()?.exits(137)?;
    machine.rorqual(["shell", "--", "no-such-program"]).run()?.exits(125)?.complains("no-such-program")?;
    let json = machine.rorqual(["shell", "--json", "--", "uname", "-r"]).run()?.success()?.json()?;
    let release = json["stdout"].as_str().unwrap_or_default().trim().to_owned();
    ensure!(json["exit_status"] == 0 && machine.status()?["kernel_release"] == release, "{json}");
    Ok(())
}

fn the_shell_has_a_terminal_that_is_put_back(machine: &Machine) -> Result<()> {
    let mut terminal = PseudoTerminal::start(machine.rorqual(["shell"]), 88, 31)?;
    terminal.expect("# ")?;
    terminal.type_text("stty size; echo pid-$((4*2))\r")?;
    let screen = terminal.expect("pid-8\r\n")?;
    ensure!(screen.contains("31 88"), "{screen}");
    ensure!(!terminal.is_cooked()?, "the terminal is not raw during the shell");
    terminal.resize(120, 50)?;
    eventually("the new size reaches the guest", || {
        terminal.type_text("echo now $(stty size) end\r").ok()?;
        terminal.expect(" end\r\n").ok()?.contains("now 50 120").then_some(())
    })?;
    // It restores the terminal even if a signal ends it.
    kill(Pid::from_raw(terminal.process()), Signal::SIGTERM)?;
    eventually("the terminal is put back", || terminal.is_cooked().ok().filter(|cooked| *cooked))?;

    let mut terminal = PseudoTerminal::start(machine.rorqual(["shell"]), 80, 24)?;
    terminal.expect("# ")?;
    terminal.type_text("exit 6\r")?;
    eventually("the terminal is put back", || terminal.is_cooked().ok().filter(|cooked| *cooked))?;
    let (_, status) = terminal.finish()?;
    ensure!(status == 6, "exited with {status}");
    Ok(())
}

fn doctor_finds_a_working_accelerator(machine: &Machine) -> Result<()> {
    let doctor = machine.rorqual(["doctor", "--json"]).run()?;
    let report = doctor.json()?;
    let checks = report["checks"].as_array().context("no checks")?;
    ensure!(doctor.status == i32::from(report["sound"] != true), "{doctor}");
    for id in ["kvm", "uml", "image", "disk-space", "config"] {
        let check =
            checks.iter().find(|check| check["id"] == id).with_context(|| format!("no check {id}: {report}"))?;
        ensure!(check["finding"] != "", "{check}");
    }
    let fine = |id: &str| checks.iter().any(|check| check["id"] == id && check["verdict"] != "problem");
    ensure!((fine("kvm") || fine("uml")) && fine("image"), "{report}");
    for check in checks.iter().filter(|check| check["verdict"] == "problem") {
        ensure!(check["fix"] != "", "a problem without a fix: {check}");
    }
    Ok(())
}

fn the_docker_context_leads_to_the_machine_and_back(machine: &Machine) -> Result<()> {
    let config = machine.docker_config().join("config.json");
    fs::write(&config, "{\n  \"psFormat\": \"table {{.Names}}\",\n  \"auths\": {}\n}\n")?;
    let docker = |words: &str| {
        let mut command = machine.docker(words.split(' '));
        command.env_remove("DOCKER_HOST");
        command
    };
    // The start created it and changed nothing else.
    let inspect = docker("context inspect rorqual").run()?.success()?.json()?;
    let socket = format!("unix://{}", machine.docker_socket().display());
    ensure!(inspect[0]["Endpoints"]["docker"]["Host"] == socket, "{inspect}");
    ensure!(docker("context show").output_text()? == "default");
    docker("--context rorqual version").run()?.success()?;

    let shown = machine.rorqual(["context", "show", "--json"]).run()?.success()?.json()?;
    ensure!(shown["state"] == "ours" && shown["in_use"] == false, "{shown}");
    machine.rorqual(["context", "use"]).run()?.success()?;
    ensure!(docker("context show").output_text()? == "rorqual");
    docker("version").run()?.success()?;
    let text = fs::read_to_string(&config)?;
    ensure!(text.starts_with("{\n  \"psFormat\"") && text.contains("\"auths\""), "{text}");

    machine.rorqual(["context", "remove"]).run()?.success()?;
    ensure!(docker("context show").output_text()? == "default");
    docker("context inspect rorqual").run()?.exits(1)?;
    ensure!(!fs::read_to_string(&config)?.contains("currentContext"));

    fs::write(&config, "{ damaged")?;
    machine.rorqual(["context", "use"]).run()?.exits(5)?.complains("config.json")?;
    ensure!(fs::read_to_string(&config)? == "{ damaged");
    fs::remove_file(&config)?;
    Ok(())
}

fn the_environment_leads_a_client_to_the_machine(machine: &Machine) -> Result<()> {
    let line = machine.rorqual(["env"]).output_text()?;
    let script = format!("{line}; echo $DOCKER_HOST; {}", machine.rorqual(["env", "--unset"]).output_text()?);
    let host = std::process::Command::new("sh").args(["-c", &script]).output_text()?;
    ensure!(host == format!("unix://{}", machine.docker_socket().display()), "{host}");
    ensure!(fs::metadata(machine.docker_socket())?.file_type().is_socket());
    Ok(())
}

fn a_restart_starts_containers_with_a_restart_policy(machine: &Machine) -> Result<()> {
    let keeps = Container::sleeping(machine, "--restart unless-stopped")?;
    let stays = Container::sleeping(machine, "")?;
    let before = machine.status()?;
    let lines = machine.rorqual(["restart", "--json"]).run()?.success()?.json_lines()?;
    let steps: Vec<&str> = lines.iter().filter_map(|line| line["step"].as_str()).collect();
    for step in ["power-off", "machine", "kernel", "engine"] {
        ensure!(steps.contains(&step), "{step} is missing in {steps:?}");
    }
    ensure!(lines.iter().any(|line| line["step"] == "engine" && line["took_ms"].is_u64()), "{lines:?}");
    let after = machine.status()?;
    ensure!(after["state"] == "running" && after["vmm_process"] != before["vmm_process"], "{after}");
    eventually("it runs again", || keeps.inspect(".State.Status").ok().filter(|state| state == "running"))?;
    // Stopped in order instead of killed: SIGTERM reached it.
    ensure!(stays.inspect(".State.Status}} {{.State.ExitCode")? == "exited 143");
    Ok(())
}

fn an_interrupted_start_stops_the_machine(machine: &Machine) -> Result<()> {
    machine.rorqual(["stop", "-q"]).run()?.success()?;
    let mut command = machine.rorqual(["start", "--json"]);
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn()?;
    let interrupted = Pid::from_raw(i32::try_from(child.id())?);
    let stdout = child.stdout.take().context("no standard output")?;
    // The first step was printed, so the start is in progress.
    let mut stdout = std::io::BufReader::new(stdout);
    let mut first = String::new();
    std::io::BufRead::read_line(&mut stdout, &mut first)?;
    kill(interrupted, Signal::SIGINT)?;
    finish(child, "rorqual start".to_owned())?.exits(130)?.complains("cancelled")?;
    ensure!(machine.status()?["state"] == "stopped", "{}", machine.status()?);
    let left: Vec<_> = processes::of_home(machine.home()).into_iter().filter(|process| !process.is_daemon()).collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    machine.rorqual(["start", "-q"]).run()?.success()?;
    machine.run("version")?;
    Ok(())
}

fn every_command_reports_a_stopped_machine(machine: &Machine) -> Result<()> {
    machine.rorqual(["stop", "-q"]).run()?.success()?;
    let lines = machine.rorqual(["stop", "--json"]).run()?.success()?.json_lines()?;
    ensure!(lines.last().is_some_and(|line| line["done"]["machine"]["state"] == "stopped"), "{lines:?}");
    let status = machine.rorqual(["status", "--json"]).run()?.exits(3)?.json()?;
    ensure!(status["state"] == "stopped" && status["vmm_process"] == 0, "{status}");
    machine.rorqual(["shell", "--", "true"]).run()?.exits(125)?.complains("rorqual start")?;
    let logs = machine.rorqual(["logs", "dockerd", "--json"]).run()?.exits(3)?;
    ensure!(logs.stderr.contains("\"machine-not-running\""), "{logs}");
    // Files on this computer can still be read.
    ensure!(machine.rorqual(["logs", "kernel"]).output_text()?.contains("boot:"));
    let docker = machine.attempt("version")?;
    ensure!(docker.status != 0 && !docker.stderr.is_empty(), "{docker}");
    machine.rorqual(["start", "-q"]).run()?.success()?;
    Ok(())
}

fn quitting_the_daemon_keeps_the_machine_and_can_stop_it(machine: &Machine) -> Result<()> {
    machine.rorqual(["start", "-q"]).run()?.success()?;
    let container = Container::sleeping(machine, "")?;
    let before = machine.status()?;
    machine.rorqual(["quit"]).run()?.success()?;
    eventually("the daemon has ended", || machine.daemon_process().ok()?.is_none().then_some(()))?;
    let left = processes::of_home(machine.home());
    ensure!(left.iter().any(processes::Process::is_vmm), "the machine went with the daemon");
    ensure!(machine.rorqual(["logs", "daemon", "--tail", "1"]).output_text()?.lines().count() == 1);
    let after = machine.status()?;
    ensure!(after["vmm_process"] == before["vmm_process"] && after["state"] == "running", "{after}");
    ensure!(container.inspect(".State.Status")? == "running");

    machine.rorqual(["quit", "--stop-machines"]).run()?.success()?;
    eventually("nothing is left", || processes::of_home(machine.home()).is_empty().then_some(()))?;
    ensure!(!machine.docker_socket().exists() || machine.attempt("version")?.status != 0);
    Ok(())
}

fn two_starts_at_once_see_the_same_machine(machine: &Machine) -> Result<()> {
    machine.rorqual(["stop", "-q"]).run()?.success()?;
    let start = || {
        let mut command = machine.rorqual(["start", "--json"]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn()
    };
    let mut processes = Vec::new();
    for child in [start()?, start()?] {
        let lines = finish(child, "rorqual start --json".to_owned())?.success()?.json_lines()?;
        let done = lines.last().context("no answer")?["done"]["machine"].clone();
        ensure!(done["state"] == "running", "{done}");
        processes.push(done["vmm_process"].clone());
    }
    ensure!(processes[0] == processes[1], "{processes:?}");
    Ok(())
}

fn wrong_arguments_exit_2_and_errors_have_a_json_form(machine: &Machine) -> Result<()> {
    for words in ["frobnicate", "start --accelerator warp", "logs nobody", "--machine ../up status", "logs --tail 0"] {
        machine.rorqual(words.split(' ')).run()?.exits(2)?;
        let execution = machine.rorqual(words.split(' ').chain(["--json"])).run()?.exits(2)?;
        let error: serde_json::Value = serde_json::from_str(execution.stderr.trim())?;
        ensure!(error["error"]["code"].is_string() && error["error"]["message"].is_string(), "{error}");
        ensure!(error["error"].get("fix").is_some_and(|fix| fix.is_string() || fix.is_null()), "{error}");
    }
    machine.rorqual(["--help"]).run()?.success()?;
    for shell in ["bash", "zsh", "fish"] {
        ensure!(machine.rorqual(["completions", shell]).output_text()?.contains("doctor"));
    }
    ensure!(machine.rorqual(["man"]).output_text()?.contains(".TH"));
    Ok(())
}
