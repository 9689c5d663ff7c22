//! The first process of a guest of `make bench-kvm`, in place of the agent (`rdinit=/bench-init`): the same for every
//! monitor.
//!
//! It prints `bench-init` on the console, which marks "init". With `bench=fio` on the kernel's command line it then
//! loads the boot modules, as the agent does, mounts the disk `fio` and measures the disk `data`; it prints fio's
//! report as one line. bench-init never ends: the benchmark ends the monitor.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::{
    mount::{MsFlags, mount},
    unistd::{chdir, chroot},
};
use rorqual_tests::{
    guest::{load_modules, mount_kernel},
    wait::within,
};

/// Requests that bypass the guest's page cache, on the whole disk. The fixed seed makes every run request the same
/// blocks.
const GLOBAL: &str = "[global]\nfilename=/dev/DISK\ndirect=1\nioengine=libaio\nthread=1\nnorandommap=1\nrandseed=1\n\
    time_based=1\nruntime=2\nramp_time=500ms\nstonewall\n";
const JOBS: &str = "[read 4k]\nrw=randread\nbs=4k\niodepth=16\n[write 4k]\nrw=randwrite\nbs=4k\niodepth=16\n\
    [read 1m]\nrw=read\nbs=1m\niodepth=4\n[write 1m]\nrw=write\nbs=1m\niodepth=4\n";

fn main() {
    if process::id() != 1 {
        println!("bench-init: the first process of a guest of make bench-kvm; it does nothing as any other");
        return;
    }
    match begin() {
        Ok(mut console) => {
            if asked_for_fio()
                && let Err(error) = fio(&mut console)
            {
                writeln!(console, "bench-init failed: {error:#}").ok();
            }
        }
        // Without a console there is nowhere to report this; the benchmark times out.
        Err(error) => drop(error),
    }
    loop {
        thread::park();
    }
}

fn begin() -> Result<File> {
    for (kind, at) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        mount_kernel(kind, at)?;
        if kind == "devtmpfs" {
            say_begun()?;
        }
    }
    Ok(OpenOptions::new().write(true).open("/dev/console")?)
}

fn say_begun() -> Result<()> {
    Ok(OpenOptions::new().write(true).open("/dev/console")?.write_all(b"bench-init\n")?)
}

fn asked_for_fio() -> bool {
    fs::read_to_string("/proc/cmdline").is_ok_and(|line| line.split_whitespace().any(|word| word == "bench=fio"))
}

fn fio(console: &mut File) -> Result<()> {
    load_modules()?;
    writeln!(console, "bench-init: modules are loaded")?;
    let disk = |serial| within(Duration::from_secs(20), || find(serial)).with_context(|| format!("no disk {serial}"));
    let (tools, data) = (disk("fio")?, disk("data")?);
    fs::create_dir_all("/fio")?;
    mount(Some(&tools), "/fio", Some("erofs"), MsFlags::MS_RDONLY, None::<&str>)
        .context("cannot mount the disk fio")?;
    mount(Some("/dev"), "/fio/dev", None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    mount(Some("/proc"), "/fio/proc", None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    mount(Some("tmpfs"), "/fio/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    chroot("/fio")?;
    chdir("/")?;
    let name = data.file_name().context("a disk without a name")?.to_string_lossy();
    fs::write("/tmp/jobs", GLOBAL.replace("DISK", &name) + JOBS)?;
    writeln!(console, "bench-init: fio begins")?;
    let arguments = ["--eta=never", "--output-format=json", "--output=/tmp/report", "/tmp/jobs"];
    let status = Command::new("/usr/bin/fio")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("cannot start fio")?;
    ensure!(status.success(), "fio ended with {status}");
    let report: serde_json::Value = serde_json::from_slice(&fs::read("/tmp/report")?).context("fio's report")?;
    let jobs = report["jobs"].as_array().context("fio reports no jobs")?;
    let figures: Vec<_> = jobs
        .iter()
        .map(|job| {
            let side =
                if job["jobname"].as_str().is_some_and(|name| name.starts_with("read")) { "read" } else { "write" };
            serde_json::json!({"name": job["jobname"], "iops": job[side]["iops"], "bytes": job[side]["bw_bytes"]})
        })
        .collect();
    writeln!(console, "bench-fio {}", serde_json::Value::from(figures))?;
    Ok(())
}

/// The disk with this serial.
fn find(serial: &str) -> Option<PathBuf> {
    let disks = fs::read_dir("/sys/block").ok()?.flatten();
    let mut wanted = disks.filter(|disk| {
        fs::read_to_string(disk.path().join("serial"))
            .is_ok_and(|found| found.trim_matches(['\0', '\n', ' ']) == serial)
    });
    Some(Path::new("/dev").join(wanted.next()?.file_name()))
}
