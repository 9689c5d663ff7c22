//! Faults: no committed data is lost, nothing is left behind, and every message names the fix.

use std::{
    fs,
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, ExitCode, Stdio},
};

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rorqual_tests::{
    Container, Execution, IMAGE, Machine, Run,
    command::finish,
    docker::{Following, unique},
    eventually,
    processes::{self, Process},
    suite, tests,
};

fn main() -> ExitCode {
    suite::main(
        1,
        Machine::start,
        tests![
            a_corrupt_image_file_is_named_and_nothing_starts,
            an_unknown_key_of_the_configuration_is_named_with_its_line,
            a_bad_value_of_the_configuration_is_named_with_its_line,
            of_two_daemons_started_at_once_one_serves,
            commands_that_need_a_daemon_at_once_start_one,
            missing_space_for_the_disk_is_reported_before_anything_starts,
            a_full_disk_fails_the_writer_and_not_the_engine,
            records_survive_kill_9_of_the_docker_engine,
            records_survive_kill_9_of_the_daemon_and_the_container_keeps_running,
            records_survive_kill_9_of_the_kernel,
            records_survive_kill_9_of_the_monitor_and_no_process_is_left,
        ],
    )
}

/// A start that must fail with an exit status and a stable code; returns its message and advice.
fn refused(machine: &Machine, status: i32, code: &str) -> Result<(String, String)> {
    let start = machine.rorqual(["start", "--json"]).run()?.exits(status)?;
    let error = start.stderr.lines().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        line.get("error").cloned()
    });
    let error = error.with_context(|| format!("no JSON error: {start}"))?;
    ensure!(error["code"] == code, "the code is not {code}: {error}");
    let left: Vec<Process> =
        processes::of_home(machine.home()).into_iter().filter(|process| !process.is_daemon()).collect();
    ensure!(left.is_empty(), "a refused start left {left:?}");
    let text = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
    Ok((text("message"), text("fix")))
}

fn a_corrupt_image_file_is_named_and_nothing_starts(machine: &Machine) -> Result<()> {
    let copy = tempfile::tempdir()?;
    copy_tree(machine.image(), copy.path())?;
    let victim = copy.path().join("root.erofs");
    flip_a_byte_in_the_middle(&victim)?;
    let other = Machine::prepare()?;
    let start = other.rorqual(["start", "--json"]).env("RORQUAL_IMAGE", copy.path()).run()?.exits(1)?;
    let start = start.complains("image-damaged")?.complains("root.erofs")?.complains("make image")?;
    ensure!(start.stderr.contains("sha256"), "{start}");
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn flip_a_byte_in_the_middle(path: &Path) -> Result<()> {
    let mut permissions = fs::metadata(path)?.permissions();
    permissions.set_mode(0o600);
    fs::set_permissions(path, permissions)?;
    let mut file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let middle = file.metadata()?.len() / 2;
    let mut byte = [0];
    file.seek(SeekFrom::Start(middle))?;
    file.read_exact(&mut byte)?;
    file.seek(SeekFrom::Start(middle))?;
    file.write_all(&[byte[0] ^ 0xff])?;
    Ok(())
}

fn an_unknown_key_of_the_configuration_is_named_with_its_line(_: &Machine) -> Result<()> {
    let other = Machine::prepare()?;
    let text = "# mine\n[machine]\ncpus = 1\nmemmory_mib = 1024\n";
    fs::write(other.home().join("config.toml"), text)?;
    let (message, _) = refused(&other, 5, "config-invalid")?;
    ensure!(message.contains("config.toml:4") && message.contains("memmory_mib"), "{message}");
    ensure!(fs::read_to_string(other.home().join("config.toml"))? == text, "the file was changed");
    // After the file is fixed, nothing else is needed: the daemon accepts it without starting a machine.
    fs::write(other.home().join("config.toml"), text.replace("memmory", "memory"))?;
    other.rorqual(["status", "--json"]).run()?.exits(3)?;
    Ok(())
}

fn a_bad_value_of_the_configuration_is_named_with_its_line(_: &Machine) -> Result<()> {
    for (text, line, word) in [
        ("[machine]\n\nmemory_mib = \"lots\"\n", 3, "memory_mib"),
        ("[machine]\ncpus = 0\n", 2, "cpus"),
        ("[machine]\naccelerator = \"warp\"\n", 2, "warp"),
        ("[machine\n", 1, ""),
    ] {
        let other = Machine::prepare()?;
        fs::write(other.home().join("config.toml"), text)?;
        let (message, _) = refused(&other, 5, "config-invalid")?;
        ensure!(message.contains(&format!("config.toml:{line}")) && message.contains(word), "{text:?}: {message}");
    }
    Ok(())
}

fn spawn(machine: &Machine, arguments: &[&str]) -> Result<Child> {
    let mut command = machine.rorqual(arguments.iter().copied());
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
}

fn daemons(machine: &Machine) -> Vec<Process> {
    processes::of_home(machine.home()).into_iter().filter(Process::is_daemon).collect()
}

fn of_two_daemons_started_at_once_one_serves(_: &Machine) -> Result<()> {
    let other = Machine::prepare()?;
    let mut both = [spawn(&other, &["daemon"])?, spawn(&other, &["daemon"])?];
    let loser = eventually("one of them gives up", || {
        both.iter_mut().position(|child| child.try_wait().ok().flatten().is_some())
    })?;
    let [first, second] = both;
    let (loser, mut winner) = if loser == 0 { (first, second) } else { (second, first) };
    let loser = finish(loser, "rorqual daemon".to_owned())?;
    ensure!(loser.status != 0, "{loser}");
    let loser = loser.complains("already")?;
    ensure!(loser.stderr.contains(&winner.id().to_string()), "the other daemon is not named: {loser}");
    let serving = eventually("the other one serves", || other.daemon_process().ok().flatten())?;
    ensure!(u32::try_from(serving)? == winner.id());
    other.rorqual(["quit", "-q"]).run()?.success()?;
    ensure!(winner.wait()?.success());
    Ok(())
}

fn commands_that_need_a_daemon_at_once_start_one(_: &Machine) -> Result<()> {
    let other = Machine::prepare()?;
    let all = (0..8).map(|_| spawn(&other, &["status", "--json"])).collect::<Result<Vec<_>>>()?;
    for child in all {
        let status = finish(child, "rorqual status --json".to_owned())?.exits(3)?.json()?;
        ensure!(status["state"] == "stopped", "{status}");
    }
    ensure!(daemons(&other).len() == 1, "{:?}", daemons(&other));
    Ok(())
}

/// A small file system, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("rqs").tempdir()?;
        mount(
            Some("tmpfs"),
            directory.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some(format!("size={size},mode=700").as_str()),
        )?;
        Ok(Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(self.0.path(), MntFlags::MNT_DETACH).ok();
    }
}

fn missing_space_for_the_disk_is_reported_before_anything_starts(_: &Machine) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        suite::skip(
            "missing_space_for_the_disk_is_reported_before_anything_starts",
            "mounting a small disk needs root",
        );
        return Ok(());
    }
    let disk = SmallDisk::mount("24m")?;
    let other = Machine::prepare_in(disk.0.path())?;
    let (message, fix) = refused(&other, 1, "disk-space-low")?;
    ensure!(message.contains(&disk.0.path().display().to_string()), "{message}");
    ensure!(fix.contains("RORQUAL_HOME"), "{fix}");
    let doctor = other.rorqual(["doctor", "--json"]).run()?.exits(1)?.json()?;
    let checks = doctor["checks"].as_array().cloned().unwrap_or_default();
    let space = checks.iter().find(|check| check["id"] == "disk-space").context("no check of the disk's space")?;
    ensure!(space["verdict"] == "problem" && space["fix"] != "", "{space}");
    Ok(())
}

fn a_full_disk_fails_the_writer_and_not_the_engine(_: &Machine) -> Result<()> {
    let other = Machine::prepare()?;
    fs::write(other.home().join("config.toml"), "[machine]\ndisk_gib = 1\n")?;
    other.rorqual(["start", "-q"]).run()?.success()?;
    other.load_image()?;
    let volume = unique("v");
    let script = "dd if=/dev/zero of=/data/filler bs=1M; sync; df -k /data | tail -1";
    let fill = other.docker(["run", "--rm", "-v", &format!("{volume}:/data"), IMAGE, "sh", "-c", script]).run()?;
    let fill = fill.success()?.complains("no space left on device")?;
    ensure!(fill.text().contains("100%"), "{fill}");
    // The engine answers, and reports the same when it needs space itself.
    other.run("version")?;
    other.run("ps -a")?;
    other.run(&format!("volume rm -f {volume}"))?;
    ensure!(other.run(&format!("run --rm {IMAGE} echo alive"))? == "alive");
    Ok(())
}

/// A container that writes to a volume and prints each record after fsync has returned.
struct Writer<'a> {
    machine: &'a Machine,
    container: Container<'a>,
    volume: String,
    log: Following,
}

impl<'a> Writer<'a> {
    /// Starts one and waits until it has written for a while.
    fn start(machine: &'a Machine) -> Result<Self> {
        let volume = unique("records");
        let container =
            Container::run(machine, &format!("--init -v {volume}:/data"), &["/peer", "records", "/data/log"])?;
        let log = Following::start(machine.docker(["logs", "-f", &container.name]))?;
        log.wait_for("record 50", |line| line == "50")?;
        Ok(Self { machine, container, volume, log })
    }

    /// Number of records known to be on disk.
    fn records_so_far(&self) -> u64 {
        self.log.lines_so_far().iter().filter_map(|line| line.parse().ok()).max().unwrap_or(50)
    }

    /// Verifies that every printed record is in the file, whole and in order, and that the engine runs containers.
    fn check(&self, printed: u64) -> Result<()> {
        let log = self.machine.run(&format!("run --rm -v {}:/data {IMAGE} cat /data/log", self.volume))?;
        let lines: Vec<&str> = log.lines().collect();
        ensure!(lines.len() as u64 >= printed, "{printed} records were printed, but the file has {}", lines.len());
        for (number, line) in (1..=printed).zip(&lines) {
            ensure!(*line == format!("record {number} of the test"), "record {number} is {line:?}");
        }
        Ok(())
    }
}

/// The process that `fits`; of several, the topmost.
fn one<'p>(processes: &'p [Process], what: &str, fits: impl Fn(&Process) -> bool) -> Result<&'p Process> {
    let found: Vec<&Process> = processes.iter().filter(|process| fits(process)).collect();
    ensure!(!found.is_empty(), "no process is {what} among {processes:#?}");
    // Of several, the one whose parent is not among them: the kernel, not a process of its guest.
    let top = found.iter().find(|process| !found.iter().any(|other| other.id == process.parent));
    top.copied().with_context(|| format!("no process is the first {what}"))
}

fn records_survive_kill_9_of_the_docker_engine(machine: &Machine) -> Result<()> {
    let writer = Writer::start(machine)?;
    machine.rorqual(["shell", "--", "sh", "-c", "kill -9 $(pidof dockerd)"]).run()?.success()?;
    eventually("the engine is back by itself", || machine.run("version").ok())?;
    let printed = writer.records_so_far();
    machine.run(&format!("rm -f {}", writer.container.name))?;
    writer.check(printed)
}

fn records_survive_kill_9_of_the_daemon_and_the_container_keeps_running(machine: &Machine) -> Result<()> {
    let writer = Writer::start(machine)?;
    let before = processes::of_home(machine.home());
    let daemon = one(&before, "the daemon", Process::is_daemon)?;
    daemon.kill();
    let status = eventually("a new daemon has found the machine", || {
        machine.status().ok().filter(|status| status["state"] == "running")
    })?;
    let monitor = one(&before, "the monitor", Process::is_vmm)?;
    ensure!(status["vmm_process"] == monitor.id, "another machine runs: {status}");
    let printed = writer.records_so_far();
    ensure!(writer.container.inspect(".State.Status")? == "running");
    let later = Following::start(machine.docker(["logs", "-f", &writer.container.name]))?;
    later.wait_for("further records", |line| line.parse::<u64>().is_ok_and(|number| number > printed))?;
    machine.run(&format!("rm -f {}", writer.container.name))?;
    writer.check(printed)
}

fn records_survive_kill_9_of_the_kernel(machine: &Machine) -> Result<()> {
    let accelerator = machine.status()?["accelerator"].clone();
    if accelerator != "uml" {
        suite::skip("records_survive_kill_9_of_the_kernel", "this machine's kernel is no process");
        return Ok(());
    }
    let writer = Writer::start(machine)?;
    let before = processes::of_home(machine.home());
    one(&before, "the kernel", Process::is_uml)?.kill();
    ends_without_trace(machine, "crashed")?;
    let printed = writer.records_so_far();
    machine.rorqual(["start", "-q"]).run()?.success()?;
    writer.check(printed)
}

fn records_survive_kill_9_of_the_monitor_and_no_process_is_left(machine: &Machine) -> Result<()> {
    let writer = Writer::start(machine)?;
    let before = processes::of_home(machine.home());
    one(&before, "the monitor", Process::is_vmm)?.kill();
    ends_without_trace(machine, "")?;
    let printed = writer.records_so_far();
    // No manual cleanup is needed: a docker command reports why it failed, and a start works.
    let version: Execution = machine.attempt("version")?;
    ensure!(version.status != 0, "{version}");
    machine.rorqual(["start", "-q"]).run()?.success()?;
    writer.check(printed)?;
    machine.rorqual(["doctor", "-q"]).run()?;
    Ok(())
}

/// Every process of the machine ends, and the status reports an unexpected end.
fn ends_without_trace(machine: &Machine, why: &str) -> Result<()> {
    eventually("every process of the machine has ended", || {
        processes::of_home(machine.home()).iter().all(Process::is_daemon).then_some(())
    })?;
    let status = eventually("the daemon has seen the end", || {
        machine.status().ok().filter(|status| status["state"] == "failed")
    })?;
    let message = status["message"].as_str().unwrap_or_default();
    ensure!(!message.is_empty() && message.contains(why), "{status}");
    machine.rorqual(["status"]).run()?.exits(3)?;
    Ok(())
}
