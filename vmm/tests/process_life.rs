//! A machine's processes end with it, however it ends. Runs the real guest image: build it with `make image` first, or
//! name one in `RORQUAL_IMAGE`.

// A test's helpers may unwrap as the test itself may: the panic is its failure message.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Limit for the start of a guest kernel.
const PATIENCE: Duration = Duration::from_mins(1);

fn image() -> PathBuf {
    if let Some(image) = std::env::var_os("RORQUAL_IMAGE") {
        return image.into();
    }
    // The test runs from `<target>/<profile>/deps/`.
    let program = std::env::current_exe().unwrap();
    let images = program.ancestors().nth(3).unwrap().join("images");
    let mut versions: Vec<PathBuf> = fs::read_dir(&images)
        .unwrap_or_else(|error| panic!("no guest image in {} ({error}): run `make image`", images.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("manifest.json").exists())
        .collect();
    versions.sort();
    versions.pop().unwrap_or_else(|| panic!("no guest image in {}: run `make image`", images.display()))
}

struct Machine {
    directory: TempDir,
    monitor: Child,
    ready: Value,
    /// Processes of the guest that [`Machine::wait_for_guest_processes`] saw.
    guest: Vec<i32>,
}

/// Name of the host's process of a guest's process, as `/proc/PID/comm` has it.
const STUB: &str = "uml-userspace\n";

/// Processes of a guest that the kernel `parent` has started.
fn children(parent: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{parent}/task")) else { return Vec::new() };
    let of_task = |task: io::Result<fs::DirEntry>| fs::read_to_string(task.ok()?.path().join("children")).ok();
    let all: String = tasks.filter_map(of_task).collect::<Vec<_>>().join(" ");
    let stub = |process: &i32| fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name == STUB);
    all.split_whitespace().filter_map(|process| process.parse().ok()).filter(stub).collect()
}

impl Machine {
    fn start() -> Self {
        let machine = Self::start_in(tempfile::tempdir().unwrap(), &json!({}));
        assert_eq!(machine.ready, json!({"ready": true}));
        machine
    }

    fn start_in(directory: TempDir, changes: &Value) -> Self {
        let image = image();
        let here = directory.path();
        let data = here.join("data.img");
        if !data.exists() {
            File::create(&data).unwrap().set_len(1 << 30).unwrap();
        }
        let mut config = json!({
            "version": 1, "name": "test", "accelerator": "uml",
            "kernel": {"path": image.join("uml/linux"), "initramfs": image.join("uml/initramfs.img"),
                       "command_line": "rorqual.machine=test"},
            "cpus": 1, "memory_mib": 256,
            "block": [{"id": "root", "path": image.join("root.erofs"), "read_only": true},
                      {"id": "data", "path": data, "read_only": false}],
            "vsock": {"guest_cid": 3, "socket": here.join("vsock.sock")},
            "console_log": here.join("console.log"), "control_socket": here.join("control.sock"),
        });
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let document = here.join("vmm.json");
        fs::write(&document, config.to_string()).unwrap();
        // The parent has left a file open.
        let mut monitor = Command::new("/bin/sh")
            .args(["-c", r#"exec "$0" "$@" 9</etc/passwd"#, env!("CARGO_BIN_EXE_rorqual-vmm")])
            .args(["run", "--ready-fd", "1", "--config"])
            .arg(document)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(monitor.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { directory, monitor, ready: serde_json::from_str(&line).unwrap(), guest: Vec::new() }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn connect(&self) -> BufReader<UnixStream> {
        BufReader::new(UnixStream::connect(self.path().join("control.sock")).unwrap())
    }

    fn ask(&self, request: &Value) -> Value {
        converse(&mut self.connect(), request)
    }

    /// Waits for the event of the machine's end.
    fn watch(&self) -> thread::JoinHandle<Value> {
        let mut connection = self.connect();
        assert_eq!(converse(&mut connection, &json!({"command": "watch"})), json!({"ok": {}}));
        thread::spawn(move || {
            let event = read(&mut connection);
            let mut rest = String::new();
            assert_eq!(connection.read_line(&mut rest).unwrap(), 0);
            event
        })
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.monitor.wait().unwrap().code()
    }

    /// Process IDs and command lines of the monitor, the supervisor and the kernel, found by the machine's private
    /// directory.
    fn processes(&self) -> Vec<(i32, String)> {
        let mark = self.path().join("run").display().to_string();
        let entries = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let process: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let words = fs::read(format!("/proc/{process}/cmdline")).ok()?;
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            words.contains(&mark).then_some((process, words))
        });
        entries.collect()
    }

    /// The kernel's main process: the supervisor's child.
    fn kernel(&self) -> i32 {
        let all = self.processes();
        let supervisor = all.iter().find(|(_, words)| words.contains("supervise")).unwrap().0;
        let parent = |process: i32| -> Option<i32> {
            let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
            status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
        };
        all.iter().map(|(process, _)| *process).find(|process| parent(*process) == Some(supervisor)).unwrap()
    }

    /// Waits until the guest has processes of its own, which are the kernel's children, and remembers them.
    fn wait_for_guest_processes(&mut self) {
        let kernel = self.kernel();
        wait_until("the guest has processes", || children(kernel).len() >= 2);
        self.guest = children(kernel);
    }

    fn assert_nothing_is_left(&self) {
        let guest = |process: &i32| fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name == STUB);
        wait_until("no process is left", || self.processes().is_empty() && !self.guest.iter().any(guest));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Most tests have ended it already.
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn converse(connection: &mut BufReader<UnixStream>, request: &Value) -> Value {
    connection.get_mut().write_all(format!("{request}\n").as_bytes()).unwrap();
    read(connection)
}

fn read(connection: &mut BufReader<UnixStream>) -> Value {
    let mut line = String::new();
    connection.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

fn kill_9(process: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[test]
fn kill_9_of_the_monitor_ends_every_process_and_the_next_start_works() {
    let mut machine = Machine::start();
    machine.wait_for_guest_processes();
    kill_9(machine.monitor.id().cast_signed());
    assert_eq!(machine.exit_code(), None);
    machine.assert_nothing_is_left();
    let directory = std::mem::replace(&mut machine.directory, tempfile::tempdir().unwrap());
    // The dead sockets and the lock do not prevent it.
    let again = Machine::start_in(directory, &json!({}));
    assert_eq!(again.ready, json!({"ready": true}));
}

#[test]
fn kill_9_of_the_guest_kernel_is_a_crash_with_nothing_left() {
    let mut machine = Machine::start();
    machine.wait_for_guest_processes();
    let watcher = machine.watch();
    kill_9(machine.kernel());
    let event = watcher.join().unwrap();
    assert_eq!((&event["event"], &event["reason"]), (&json!("exited"), &json!("crashed")), "{event}");
    assert!(event["detail"].as_str().unwrap().contains("SIGKILL"), "{event}");
    assert_eq!(machine.exit_code(), Some(1));
    machine.assert_nothing_is_left();
}

#[test]
fn kill_9_of_the_supervisor_is_a_crash_with_nothing_left() {
    let mut machine = Machine::start();
    machine.wait_for_guest_processes();
    let watcher = machine.watch();
    let supervisor = machine.processes().into_iter().find(|(_, words)| words.contains("supervise")).unwrap().0;
    kill_9(supervisor);
    assert_eq!(watcher.join().unwrap()["reason"], "crashed");
    assert_eq!(machine.exit_code(), Some(1));
    machine.assert_nothing_is_left();
}

#[test]
fn a_kill_by_request_ends_the_machine_and_leaves_no_sockets() {
    let mut machine = Machine::start();
    machine.wait_for_guest_processes();
    let watcher = machine.watch();
    assert_eq!(machine.ask(&json!({"command": "state"}))["ok"]["state"], "running");
    assert_eq!(machine.ask(&json!({"command": "kill"})), json!({"ok": {}}));
    assert_eq!(watcher.join().unwrap(), json!({"event": "exited", "reason": "killed", "detail": ""}));
    assert_eq!(machine.exit_code(), Some(0));
    machine.assert_nothing_is_left();
    for name in ["control.sock", "vsock.sock", "run"] {
        assert!(!machine.path().join(name).exists(), "{name}");
    }
}

#[test]
fn a_second_monitor_of_the_same_machine_is_refused_and_the_first_lives_on() {
    let mut machine = Machine::start();
    let first = machine.ask(&json!({"command": "state"}));
    let directory = std::mem::replace(&mut machine.directory, tempfile::tempdir().unwrap());
    let mut second = Machine::start_in(directory, &json!({}));
    assert_eq!(second.ready["error"]["code"], "socket-in-use");
    assert_eq!(second.exit_code(), Some(1));
    let other = json!({"control_socket": second.path().join("other.sock")});
    let directory = std::mem::replace(&mut second.directory, tempfile::tempdir().unwrap());
    let mut third = Machine::start_in(directory, &other);
    assert_eq!(third.ready["error"]["code"], "file-locked");
    assert_eq!(third.exit_code(), Some(1));
    let still = third.ask(&json!({"command": "state"}));
    assert_eq!((&still["ok"]["process"], &still["ok"]["state"]), (&first["ok"]["process"], &json!("running")));
}

/// The kernel's view of each thread of a process: name, and lines of its status.
fn threads(process: u32) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    // A thread may end meanwhile.
    let thread = |task: PathBuf| {
        Some((fs::read_to_string(task.join("comm")).ok()?, fs::read_to_string(task.join("status")).ok()?))
    };
    tasks.filter_map(|task| thread(task.unwrap().path())).collect()
}

fn field(status: &str, name: &str) -> String {
    status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
}

#[test]
fn every_thread_of_a_running_monitor_is_confined_and_so_is_the_guest_kernel() {
    const NONE: &str = "0000000000000000";
    let mut machine = Machine::start();
    machine.wait_for_guest_processes();
    let confinement = machine.ask(&json!({"command": "state"}))["ok"]["confinement"].clone();
    assert_eq!(confinement["seccomp"], true, "{confinement}");
    assert!(confinement["landlock"].is_null() || confinement["landlock"].as_str().unwrap().starts_with("abi "));
    let confined = |status: &str| {
        field(status, "Seccomp:") == "2"
            && field(status, "NoNewPrivs:") == "1"
            && field(status, "CapPrm:") == NONE
            && field(status, "CapEff:") == NONE
    };
    let process = machine.monitor.id();
    assert!(threads(process).len() > 10);
    // The thread of a device's rings enters its filter when the guest first uses the device.
    wait_until("every thread is confined", || threads(process).iter().all(|(_, status)| confined(status)));
    let kernel = fs::read_to_string(format!("/proc/{}/status", machine.kernel())).unwrap();
    assert_eq!((field(&kernel, "NoNewPrivs:"), field(&kernel, "CapEff:")), ("1".to_owned(), NONE.to_owned()));
    // It still has what it needs from the host, such as its source of entropy.
    let mut open = fs::read_dir(format!("/proc/{}/fd", machine.kernel())).unwrap();
    assert!(open.any(|entry| fs::read_link(entry.unwrap().path()).is_ok_and(|file| file == Path::new("/dev/random"))));
}

#[test]
fn confinement_can_be_turned_off_and_state_says_so() {
    let machine = Machine::start_in(tempfile::tempdir().unwrap(), &json!({"confinement": "off"}));
    assert_eq!(machine.ready, json!({"ready": true}));
    let state = machine.ask(&json!({"command": "state"}));
    assert_eq!(state["ok"]["confinement"], json!({"seccomp": false, "landlock": null}));
    assert!(threads(machine.monitor.id()).iter().all(|(_, status)| field(status, "Seccomp:") == "0"));
}

#[test]
fn a_monitor_keeps_no_descriptor_it_was_not_given_and_passes_none_on() {
    let machine = Machine::start();
    let process = machine.monitor.id();
    let mut seen = 0;
    for entry in fs::read_dir(format!("/proc/{process}/fd")).unwrap() {
        let number: u32 = entry.unwrap().file_name().to_str().unwrap().parse().unwrap();
        // A connection may end meanwhile.
        let Ok(file) = fs::read_link(format!("/proc/{process}/fd/{number}")) else { continue };
        assert_ne!(file, Path::new("/etc/passwd"), "descriptor {number} was inherited");
        let Ok(flags) = fs::read_to_string(format!("/proc/{process}/fdinfo/{number}")) else { continue };
        let flags = u32::from_str_radix(&field(&flags, "flags:"), 8).unwrap();
        // O_CLOEXEC
        assert!(number < 3 || flags & 0o2_000_000 != 0, "descriptor {number} ({}) passes an exec", file.display());
        seen += 1;
    }
    assert!(seen > 10);
}

#[test]
fn a_machine_that_cannot_start_says_why_by_code() {
    let refused = |changes: Value, code: &str, status: i32| {
        let mut machine = Machine::start_in(tempfile::tempdir().unwrap(), &changes);
        assert_eq!(machine.ready["error"]["code"], code, "{}", machine.ready);
        assert_eq!(machine.exit_code(), Some(status));
        machine.assert_nothing_is_left();
        assert!(!machine.path().join("control.sock").exists());
    };
    refused(json!({"colour": "blue"}), "config-invalid", 2);
    refused(json!({"memory_mib": 1 << 20}), "no-memory", 1);
    refused(json!({"block": [{"id": "root", "path": "/does/not/exist", "read_only": true}]}), "file-missing", 1);
    let kernel = |path: &str| json!({"kernel": {"path": path, "initramfs": image().join("uml/initramfs.img")}});
    refused(kernel("/does/not/exist"), "file-missing", 1);
    refused(kernel("/bin/false"), "accelerator-unusable", 1);
}
