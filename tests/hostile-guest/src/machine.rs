//! A machine for one case: its files, its monitor, and their remains at the end.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cases::{BAD_WORD, Case, Ending, GOOD_WORD};
use crate::kernel::vmlinux;

/// Deadline of a case, on the slowest processor.
const PATIENCE: Duration = Duration::from_mins(3);
/// Most bytes the console may take on the host: the log and its predecessor, 16 MiB each.
const MAX_CONSOLE_BYTES: u64 = 32 << 20;

struct Machine {
    directory: TempDir,
    monitor: Child,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It has ended unless the case failed.
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
    }
}

fn failed<E: std::fmt::Display>(action: &str) -> impl Fn(E) -> String {
    move |error| format!("cannot {action}: {error}")
}

impl Machine {
    fn start(program: &Path, script: &[u8]) -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(failed("make a directory"))?;
        let here = directory.path();
        let write = |name: &str, bytes: &[u8]| fs::write(here.join(name), bytes).map_err(failed("write a file"));
        write("vmlinux", &vmlinux())?;
        write("script", script)?;
        for (name, word) in [("bad.img", BAD_WORD), ("good.img", GOOD_WORD)] {
            let mut image = word.to_le_bytes().to_vec();
            image.resize(0x1_0000, 0);
            write(name, &image)?;
        }
        let disk = |id: &str| json!({"id": id, "path": here.join(format!("{id}.img")), "read_only": false});
        let config = json!({
            "version": 1, "name": "hostile", "accelerator": "kvm",
            "kernel": {"path": here.join("vmlinux"), "initramfs": here.join("script")},
            "cpus": 1, "memory_mib": 64, "block": [disk("bad"), disk("good")],
            "vsock": {"guest_cid": 3, "socket": here.join("vsock.sock")},
            "console_log": here.join("console.log"), "control_socket": here.join("control.sock"),
        });
        write("vmm.json", config.to_string().as_bytes())?;
        let log = File::create(here.join("vmm.log")).map_err(failed("make the log"))?;
        let monitor = Command::new(program)
            .args(["run", "--config"])
            .arg(here.join("vmm.json"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(failed("start the monitor"))?;
        Ok(Self { directory, monitor })
    }

    fn read(&self, name: &str) -> String {
        fs::read(self.directory.path().join(name))
            .map_or_else(|_| String::new(), |text| String::from_utf8_lossy(&text).into_owned())
    }

    /// Waits until the monitor has ended or `done` returns true.
    fn wait(&mut self, mut done: impl FnMut(&Self) -> bool) -> Result<Option<ExitStatus>, String> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.monitor.try_wait().map_err(failed("wait for the monitor"))? {
                return Ok(Some(status));
            }
            if done(self) {
                return Ok(None);
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("the machine had not ended after {PATIENCE:?}"));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn ask(&self, request: &Value) -> Result<Value, String> {
        let socket =
            UnixStream::connect(self.directory.path().join("control.sock")).map_err(failed("reach the monitor"))?;
        let mut line = String::new();
        (&socket).write_all(format!("{request}\n").as_bytes()).map_err(failed("ask the monitor"))?;
        BufReader::new(&socket).read_line(&mut line).map_err(failed("hear the monitor"))?;
        serde_json::from_str(&line).map_err(failed("understand the monitor"))
    }

    fn console_bytes(&self) -> u64 {
        let bytes = |name| fs::metadata(self.directory.path().join(name)).map_or(0, |file| file.len());
        bytes("console.log") + bytes("console.log.1")
    }
}

pub(crate) fn run(monitor: &Path, case: &Case) -> Result<(), String> {
    let mut machine = Machine::start(monitor, &case.script())?;
    judge(&mut machine, case).map_err(|reason| {
        let console = machine.read("console.log");
        let (log, start) = (machine.read("vmm.log"), console.len().saturating_sub(2000));
        format!("{reason}\n--- monitor\n{log}--- console\n{}", String::from_utf8_lossy(&console.as_bytes()[start..]))
    })
}

fn judge(machine: &mut Machine, case: &Case) -> Result<(), String> {
    let must = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    if case.ending == Ending::Killed {
        let misbehaves = |machine: &Machine| machine.read("console.log").contains("MISBEHAVING");
        must(machine.wait(misbehaves)?.is_none(), "the machine ended by itself")?;
        // A guest that hangs must not make the monitor hang.
        must(machine.ask(&json!({"command": "state"}))?["ok"]["state"] == "running", "the monitor does not answer")?;
        must(machine.ask(&json!({"command": "kill"}))? == json!({"ok": {}}), "the monitor does not kill")?;
    }
    let status = machine.wait(|_| false)?.ok_or("the machine did not end")?;
    let (log, console) = (machine.read("vmm.log"), machine.read("console.log"));
    must(console.contains("MISBEHAVING"), "the guest did not come as far as its misbehaviour")?;
    must(!log.contains("panicked"), "the monitor panicked")?;
    let stopped: Vec<&str> = log.lines().filter(|line| line.contains("the device has stopped")).collect();
    if let Some((_, name)) = case.stops {
        must(
            stopped.len() == 1 && stopped[0].contains(name),
            "the log does not report that the one device has stopped",
        )?;
        must(console.contains("STOPPED"), "the guest did not see that the device has stopped")?;
    } else if case.name != "rings-over-each-other" {
        must(stopped.is_empty(), "a device has stopped")?;
    }
    let expected = match case.ending {
        Ending::PowerOff => {
            must(console.contains("GOOD DISK ANSWERS"), "the good disk did not answer afterwards")?;
            must(console.contains("SURVIVED"), "the bad disk did not answer after a reset")?;
            ("PowerOff", 0)
        }
        Ending::Reset => ("Reset", 0),
        Ending::Killed => ("Killed", 0),
        Ending::Crash(word) => (word, 1),
    };
    must(log.contains(expected.0), &format!("the log lacks {:?}", expected.0))?;
    must(status.code() == Some(expected.1), &format!("the monitor ended with {status}, not {}", expected.1))?;
    must(machine.console_bytes() <= MAX_CONSOLE_BYTES, "the console's log is too long")?;
    for name in ["control.sock", "vsock.sock"] {
        must(!machine.directory.path().join(name).exists(), "a socket was left")?;
    }
    Ok(())
}
