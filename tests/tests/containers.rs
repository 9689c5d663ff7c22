//! Operations on containers besides running them.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    process::{ExitCode, Stdio},
};

use anyhow::{Context, Result, ensure};
use rorqual_tests::{
    Container, Machine, Run,
    command::finish,
    docker::{Following, unique},
    eventually,
    pseudo_terminal::PseudoTerminal,
    stream::checksum,
    suite, tests,
};

fn main() -> ExitCode {
    suite::main(
        2,
        Machine::start,
        tests![
            logs_follow_until_the_container_ends,
            attach_joins_both_streams_and_takes_the_exit_status,
            exec_runs_with_its_own_user_environment_and_status,
            a_terminal_of_exec_follows_the_window_size,
            cp_carries_files_and_directories_both_ways,
            top_stats_inspect_and_diff_describe_a_container,
            update_rename_and_pause_change_a_running_container,
            commit_export_and_import_keep_the_files,
            events_arrive_as_they_happen,
            restart_policies_start_a_failed_container_again,
            a_container_whose_shim_is_killed_ends_and_starts_again,
        ],
    )
}

fn logs_follow_until_the_container_ends(machine: &Machine) -> Result<()> {
    let container =
        Container::run(machine, "-i", &["sh", "-c", "echo one; echo two >&2; read line; echo $line; echo three"])?;
    let follow = Following::start(machine.docker(["logs", "-f", &container.name]))?;
    ensure!(follow.next_line()? == "one");
    let tail = machine.attempt(&format!("logs --tail 1 {}", container.name))?.success()?;
    ensure!(tail.text() + tail.stderr.trim() == "two" || tail.text() == "one", "{tail}");
    // A line of input ends it while the log is followed.
    machine.docker(["attach", &container.name]).run_with_input(b"typed\n")?;
    let (rest, status) = follow.finish()?;
    ensure!(status == 0 && rest == ["typed", "three"], "{status} {rest:?}");
    let dated = machine.run(&format!("logs --timestamps --since 1h {}", container.name))?;
    ensure!(dated.lines().all(|line| line.starts_with("20") && line.contains('T')), "{dated}");
    Ok(())
}

fn attach_joins_both_streams_and_takes_the_exit_status(machine: &Machine) -> Result<()> {
    let script = "read line; echo \"heard $line\"; echo aside >&2; exit 5";
    let container = Container::run(machine, "-i", &["sh", "-c", script])?;
    let mut command = machine.docker(["attach", &container.name]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Keeps the input open: its end would make Docker detach the client.
    child.stdin.as_mut().context("no standard input")?.write_all(b"hello\n")?;
    let attach = finish(child, "docker attach".to_owned())?.exits(5)?;
    ensure!(attach.text() == "heard hello" && attach.stderr.trim() == "aside", "{attach}");
    Ok(())
}

fn exec_runs_with_its_own_user_environment_and_status(machine: &Machine) -> Result<()> {
    let container = Container::sleeping(machine, "-e BASE=inherited")?;
    let name = container.name.as_str();
    let script = "echo $BASE $OWN; id -un; pwd; exit 3";
    let exec =
        machine.docker(["exec", "-e", "OWN=given", "-u", "user", "-w", "/tmp", name, "sh", "-c", script]).run()?;
    let exec = exec.exits(3)?;
    ensure!(exec.text() == "inherited given\nuser\n/tmp", "{exec}");
    // The engine writes the reason to the command's output.
    for (program, status, reason) in [("no-such-program", 127, "not found"), ("/etc/passwd", 126, "permission denied")]
    {
        let refused = machine.docker(["exec", name, program]).run()?.exits(status)?;
        ensure!(refused.text().contains(reason), "{refused}");
    }
    let input = vec![7; 3_000_000];
    let exec = machine.docker(["exec", "-i", name, "sha256sum"]).run_with_input(&input)?.success()?;
    ensure!(exec.text().starts_with(&checksum(&input)), "{exec}");
    machine.docker(["exec", "-d", name, "touch", "/tmp/detached"]).run()?.success()?;
    eventually("the detached command has run", || container.exec(&["ls", "/tmp/detached"]).ok())?;
    machine.run(&format!("stop {name}"))?;
    machine.docker(["exec", name, "true"]).run()?.exits(1)?.complains("is not running")?;
    Ok(())
}

fn a_terminal_of_exec_follows_the_window_size(machine: &Machine) -> Result<()> {
    let container = Container::sleeping(machine, "")?;
    let mut terminal = PseudoTerminal::start(machine.docker(["exec", "-it", &container.name, "sh"]), 90, 30)?;
    terminal.expect("# ")?;
    terminal.type_text("trap 'echo size $(stty size)' WINCH; echo size $(stty size)\r")?;
    terminal.expect("size 30 90")?;
    terminal.resize(123, 45)?;
    // The new size travels on a connection of its own, so poll until it arrives.
    eventually("the new size reaches the container", || {
        terminal.type_text("echo now $(stty size) end\r").ok()?;
        let screen = terminal.expect(" end\r\n").ok()?;
        screen.contains("now 45 123").then_some(())
    })?;
    terminal.type_text("exit 4\r")?;
    let (_, status) = terminal.finish()?;
    ensure!(status == 4, "exited with {status}");
    Ok(())
}

fn cp_carries_files_and_directories_both_ways(machine: &Machine) -> Result<()> {
    let container = Container::create(machine, "", &["true"])?;
    let directory = tempfile::tempdir()?;
    let tree = directory.path().join("tree");
    fs::create_dir_all(tree.join("deep/deeper"))?;
    fs::write(tree.join("deep/deeper/file"), "content\n")?;
    let large: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(tree.join("large"), &large)?;
    fs::write(tree.join("script"), "#!/bin/sh\n")?;
    fs::set_permissions(tree.join("script"), fs::Permissions::from_mode(0o751))?;
    std::os::unix::fs::symlink("large", tree.join("link"))?;

    let (from, back) = (tree.display().to_string(), directory.path().join("back").display().to_string());
    let inside = format!("{}:/data/tree", container.name);
    machine.docker(["cp", &from, &inside]).run()?.success()?;
    machine.docker(["cp", &inside, &back]).run()?.success()?;
    let back = directory.path().join("back");
    ensure!(fs::read_to_string(back.join("deep/deeper/file"))? == "content\n");
    ensure!(fs::read(back.join("large"))? == large, "the large file changed on its way");
    ensure!(fs::metadata(back.join("script"))?.permissions().mode() & 0o777 == 0o751);
    ensure!(fs::read_link(back.join("link"))?.to_str() == Some("large"));

    let one = directory.path().join("one").display().to_string();
    machine.docker(["cp", &format!("{inside}/deep/deeper/file"), &one]).run()?.success()?;
    ensure!(fs::read_to_string(&one)? == "content\n");
    machine.docker(["cp", &format!("{}:/nowhere", container.name), &one]).run()?.exits(1)?;
    Ok(())
}

fn top_stats_inspect_and_diff_describe_a_container(machine: &Machine) -> Result<()> {
    let container = Container::sleeping(machine, "--memory 64m --label color=blue")?;
    let name = container.name.as_str();
    container.exec(&["touch", "/data/new"])?;
    let top = machine.run(&format!("top {name}"))?;
    ensure!(top.contains("sleep 1000000"), "{top}");
    let stats = machine.docker(["stats", "--no-stream", "--format", "{{json .}}", name]).run()?.success()?.json()?;
    let memory = stats["MemUsage"].as_str().unwrap_or_default();
    ensure!(memory.ends_with("/ 64MiB") && !memory.starts_with("0B"), "{stats}");
    let inspect = machine.run(&format!("inspect {name}"))?;
    let inspect: serde_json::Value = serde_json::from_str(&inspect)?;
    ensure!(inspect[0]["State"]["Running"] == true && inspect[0]["Config"]["Labels"]["color"] == "blue", "{inspect}");
    ensure!(inspect[0]["HostConfig"]["Memory"] == 64 << 20, "{inspect}");
    let diff = machine.run(&format!("diff {name}"))?;
    ensure!(diff.lines().any(|line| line == "A /data/new"), "{diff}");
    let listed = machine.docker(["ps", "--filter", "label=color=blue", "--format", "{{.Names}}"]).output_text()?;
    ensure!(listed == name, "{listed}");
    Ok(())
}

fn update_rename_and_pause_change_a_running_container(machine: &Machine) -> Result<()> {
    let script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.2; done";
    let container = Container::run(machine, "--init --memory 64m", &["sh", "-c", script])?;
    let name = container.name.as_str();
    machine.run(&format!("update --memory 96m --memory-swap 96m {name}"))?;
    ensure!(container.exec(&["cat", "/sys/fs/cgroup/memory.max"])? == (96 << 20).to_string());

    machine.run(&format!("pause {name}"))?;
    ensure!(container.inspect(".State.Status")? == "paused");
    // Another container that counts as fast is the clock: while its log grows by five lines, the paused one's stays as
    // it is. A line written before the pause may still be on its way to the log, so two lines pass first.
    let clock = Container::run(machine, "", &["sh", "-c", script])?;
    let lines = |container: &str| Some(machine.run(&format!("logs {container}")).ok()?.lines().count());
    let grown = |by: usize| {
        let begin = lines(&clock.name).context("the other container has no log")?;
        eventually("the other container counts", || lines(&clock.name).filter(|count| *count >= begin + by))
    };
    grown(2)?;
    let before = lines(name);
    grown(5)?;
    let after = lines(name);
    ensure!(before.is_some() && before == after, "it progressed from {before:?} to {after:?} lines while paused");
    machine.run(&format!("unpause {name}"))?;
    eventually("it resumes", || lines(name).filter(|count| Some(*count) > after))?;

    let other = Container::named(machine);
    machine.run(&format!("rename {name} {}", other.name))?;
    ensure!(other.inspect(".State.Status")? == "running");
    machine.attempt(&format!("inspect {name}"))?.exits(1)?;
    Ok(())
}

fn commit_export_and_import_keep_the_files(machine: &Machine) -> Result<()> {
    let container = Container::create(machine, "", &["true"])?;
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("kept"), "kept\n")?;
    let file = directory.path().join("kept").display().to_string();
    machine.docker(["cp", &file, &format!("{}:/data/kept", container.name)]).run()?.success()?;
    let (committed, imported) = (unique("committed"), unique("imported"));
    machine
        .docker(["commit", "--change", "CMD [\"cat\", \"/data/kept\"]", &container.name, &committed])
        .run()?
        .success()?;
    let tar = machine.attempt(&format!("export {}", container.name))?.success()?.stdout;
    machine.docker(["import", "-", &imported]).run_with_input(&tar)?.success()?;
    ensure!(machine.run(&format!("run --rm {committed}"))? == "kept");
    ensure!(machine.run(&format!("run --rm {imported} /bin/cat /data/kept"))? == "kept");
    machine.run(&format!("rmi {committed} {imported}"))?;
    Ok(())
}

fn events_arrive_as_they_happen(machine: &Machine) -> Result<()> {
    let container = Container::named(machine);
    let filter = format!("container={}", container.name);
    let events = Following::start(machine.docker(["events", "--filter", &filter, "--format", "{{.Action}}"]))?;
    // The stream does not announce its start, so create and remove containers until an event arrives.
    eventually("the first event", || {
        container.create_with("create", "", &["true"]).ok()?.success().ok()?;
        let heard = events.lines_so_far().iter().any(|line| line == "create");
        if !heard {
            machine.run(&format!("rm {}", container.name)).ok()?;
        }
        heard.then_some(())
    })?;
    machine.run(&format!("start -a {}", container.name))?;
    machine.run(&format!("rm {}", container.name))?;
    for action in ["start", "die", "destroy"] {
        events.wait_for(action, |line| line == action)?;
    }
    Ok(())
}

fn restart_policies_start_a_failed_container_again(machine: &Machine) -> Result<()> {
    let failing = Container::run(machine, "--restart on-failure:2", &["false"])?;
    let always = Container::run(machine, "--restart always --init", &["sh", "-c", "echo begun; sleep 1000000"])?;
    eventually("both retries are used up", || {
        let state = failing.inspect(".RestartCount}} {{.State.Status").ok()?;
        (state == "2 exited").then_some(())
    })?;
    // The main process exits as in a crash; only docker stop keeps it down.
    let kill = machine.docker(["exec", &always.name, "sh", "-c", "kill -9 $(pidof sleep)"]).run()?;
    // The end of the container's first process may end the shell before it returns.
    ensure!([0, 137].contains(&kill.status), "{kill}");
    eventually("it is back", || {
        let begun = machine.run(&format!("logs {}", always.name)).ok()?.lines().count();
        (begun >= 2 && always.inspect(".State.Status").ok()? == "running").then_some(())
    })?;
    machine.run(&format!("stop {}", always.name))?;
    ensure!(always.inspect(".State.Status")? == "exited");
    Ok(())
}

fn a_container_whose_shim_is_killed_ends_and_starts_again(machine: &Machine) -> Result<()> {
    let container = Container::sleeping(machine, "")?;
    let id = container.inspect(".Id")?;
    let process = container.inspect(".State.Pid")?;
    let shell = |script: &str| machine.rorqual(["shell", "--", "sh", "-c", script]).run();
    shell(&format!("pkill -9 -f '[c]ontainerd-shim-runc-v2 .*{id}'"))?.success()?;
    eventually("the container has ended", || (container.inspect(".State.Running").ok()? == "false").then_some(()))?;
    // Its process, which the shim would have ended, is gone as well.
    eventually("its process has ended", || shell(&format!("test -d /proc/{process}")).ok()?.exits(1).ok())?;
    machine.run(&format!("start {}", container.name))?;
    ensure!(container.exec(&["echo", "again"])? == "again");
    Ok(())
}
