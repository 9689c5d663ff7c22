//! The User Mode Linux kernel for products that are not monitors: started by the monitor's own supervisor, with the
//! arguments, the library and the processor that the monitor gives it (`vmm/src/guest/uml`).

use std::{
    io::{BufRead, BufReader, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, ensure};
use nix::unistd::getuid;
use rorqual_tests::child::OwnChild;

use crate::options::Options;

/// Memory of each guest.
pub(crate) const MEMORY_MIB: u64 = 768;
/// Further kernel parameters of every guest.
const ARGUMENTS: [&str; 6] = ["umid=m", "con=null", "con0=fd:0,fd:1", "quiet", "seccomp=auto", "panic=1"];

/// The kernel's program.
pub(crate) fn program(options: &Options) -> PathBuf {
    options.image.join("uml/linux")
}

/// A running kernel; dropping it ends it.
pub(crate) struct Kernel {
    child: OwnChild,
    /// The supervisor's further output is not read, but it must be able to write it.
    _reports: BufReader<UnixStream>,
}

impl Kernel {
    /// Fails if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.child.check()
    }
}

/// Starts it with the network card described by `cards`. Its console is `kernel.log` in `directory`.
pub(crate) fn start(options: &Options, directory: &Path, cards: &[String], command_line: &str) -> Result<Kernel> {
    let (ours, theirs) = UnixStream::pair()?;
    let kernel = program(options);
    let log = directory.join("kernel.log");
    let input = Stdio::from(OwnedFd::from(theirs));
    let child = OwnChild::start_with_input("the kernel", Path::new("unshare"), &log, input, |command| {
        // As the monitor does: the rest of the guest ends with the first process of its namespace.
        command.args(["--pid", "--fork", "--kill-child"]);
        if !getuid().is_root() {
            command.args(["--user", "--map-current-user"]);
        }
        command.arg("--").arg(&options.monitor).args(["supervise", "--channel", "0", "--directory"]);
        command.arg(options.image.join("uml")).arg("--").arg(&kernel);
        command.arg(format!("mem={MEMORY_MIB}M")).arg(format!("initrd={}", directory.join("initramfs").display()));
        command.arg(format!("uml_dir={}", directory.display())).args(ARGUMENTS).args(cards);
        command.args(command_line.split_whitespace());
        command.env_clear().envs([("TMPDIR", "/dev/shm"), ("PATH", "/usr/sbin:/usr/bin:/bin"), ("HOME", "/")]);
    })?;
    let mut reports = BufReader::new(ours);
    // See `vmm/src/guest/uml/supervisor.rs`.
    reports.get_mut().write_all(b"g")?;
    let mut report = String::new();
    reports.read_line(&mut report).context("the kernel's supervisor reported nothing")?;
    ensure!(report.contains("started"), "the kernel is not started: {report}");
    Ok(Kernel { child, _reports: reports })
}
