//! The process between the monitor and the guest kernel.
//!
//! User Mode Linux is a main process and one traced process per guest address space. The supervisor is the first
//! process of a PID namespace around them: when it ends, the system kills all of them. It ends with the kernel's main
//! process, when the monitor kills it, and when the monitor dies (parent death signal). Where the host forbids
//! namespaces it is a child subreaper instead and kills the kernel's process group; the kernel then gets a parent death
//! signal of its own.
//!
//! One socket connects it to the monitor: it waits for [`GO`], then sends [`Report`]s, a JSON object per line.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};
use serde::{Deserialize, Serialize};

use crate::confinement;
use crate::confinement::paths::Paths;

/// What the monitor writes once the namespace is ready.
pub const GO: u8 = b'g';

/// What the supervisor reports to the monitor.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// The kernel has been started.
    Started,
    /// The kernel could not be started, for this reason.
    Failed(String),
    /// Its main process exited with this status.
    Exited(i32),
    /// A signal ended its main process.
    Signalled(i32),
}

/// Runs `program` in `directory` until it ends. Standard output becomes its standard output and error. It may use
/// `files` and what [`needs`] adds, or the whole file system.
///
/// # Errors
/// The system's before the kernel was started, and the socket's.
pub fn supervise(
    mut channel: UnixStream,
    directory: &Path,
    files: Option<&Paths>,
    program: &Path,
    arguments: &[String],
) -> io::Result<()> {
    SigSet::empty().thread_set_mask()?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    close_inherited();
    prctl::set_no_new_privs()?;
    let alone = getpid() == Pid::from_raw(1);
    if !alone {
        prctl::set_child_subreaper(true)?;
    }
    // Fails if the monitor died before the death signal was set.
    let mut go = [0];
    channel.read_exact(&mut go)?;

    if let Some(files) = files {
        confinement::confine_guest_kernel(&needs(files.clone(), directory)).map_err(io::Error::other)?;
    }
    let main = match start(directory, program, arguments) {
        Ok(main) => main,
        Err(error) => return send(&mut channel, &Report::Failed(error.to_string())),
    };
    send(&mut channel, &Report::Started)?;
    let end = wait_for(main)?;
    if !alone {
        end_group(main);
    }
    send(&mut channel, &end)
}

/// Keeps descriptors that the monitor inherited from its parent from the guest kernel.
fn close_inherited() {
    // SAFETY: only marks descriptors close-on-exec. A kernel without the call leaves them open, which harms nothing of
    // ours.
    unsafe { libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) };
}

/// Adds what every kernel of User Mode Linux needs: its program and libraries, /proc for facts about itself and the
/// host, /dev/null, and entropy. The processes it traces are in the same Landlock domain. The monitor is not, so they
/// cannot trace or signal it. Terminals are the user's and stay closed; the kernel prints `check_one_sigio failed`
/// about that.
pub(super) fn needs(files: Paths, directory: &Path) -> Paths {
    files.executable(directory).readable("/proc").readable("/dev/random").writable("/dev/null")
}

fn start(directory: &Path, program: &Path, arguments: &[String]) -> io::Result<Pid> {
    let output = io::stdout();
    let console = || -> io::Result<Stdio> {
        use std::os::fd::AsFd;
        Ok(output.as_fd().try_clone_to_owned()?.into())
    };
    let mut command = Command::new(program);
    // On a fatal error the kernel signals its process group, which must be its own.
    command.args(arguments).current_dir(directory).process_group(0);
    command.stdin(Stdio::null()).stdout(console()?).stderr(console()?);
    // SAFETY: prctl and the calls about processors are async-signal-safe and touch no memory but the child's stack.
    unsafe {
        command.pre_exec(|| {
            stay_on_one_processor();
            Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)
        })
    };
    let child = command.spawn()?;
    Ok(Pid::from_raw(child.id().cast_signed()))
}

/// Keeps this process, and those it will start, on the processor it runs on.
///
/// The kernel and the processes it traces take turns thousands of times a second, so only one of them ever runs. The
/// host's scheduler would put them on different processors when more than one is idle. Each turn would then wake a
/// sleeping processor, and a container would take 2.5 times as long to start. The scheduler chose the current processor
/// a moment ago, so it is most likely an idle one.
fn stay_on_one_processor() {
    let Ok(here) = sched_getcpu() else { return };
    let mut only = CpuSet::new();
    // Where the system refuses, the machine is slower, not broken.
    if only.set(here).is_ok() {
        let _ = sched_setaffinity(Pid::from_raw(0), &only);
    }
}

/// Reaps processes until `main` ends.
fn wait_for(main: Pid) -> io::Result<Report> {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(process, status)) if process == main => return Ok(Report::Exited(status)),
            Ok(WaitStatus::Signaled(process, signal, _)) if process == main => {
                return Ok(Report::Signalled(signal as i32));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Kills what the kernel's main process left, and waits until it has ended. For supervisors without a namespace.
fn end_group(main: Pid) {
    while killpg(main, Signal::SIGKILL).is_ok() {
        match waitpid(None, Some(WaitPidFlag::__WALL)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

fn send(channel: &mut UnixStream, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    channel.write_all(&line)
}
