//! A guest kernel as a process, from its start to its end.
//!
//! Threads: one per device that waits for the kernel to connect and one that relays its messages; one that copies the
//! console; one that waits for the end.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rorqual_vmm_protocol::{Failure, FailureCode};
use tracing::{debug, error};

use super::device::{Attached, attach};
use super::process::{Files, GuestProcess};
use super::thread::spawn;
use super::{console, mconsole, memory, supervisor};
use crate::confinement::paths::Paths;
use crate::confinement::{self, Thread};
use crate::guest::{Event, Guest, Start};

/// The kernel's own directory within the runtime directory (`umid`).
const UMID: &str = "m";
/// Time after the start within which the kernel may be unable to answer its management console.
const MCONSOLE_WITHIN: Duration = Duration::from_secs(10);
const MCONSOLE_RETRY: Duration = Duration::from_millis(20);
/// The kernel's measure of its delay loop (`lpj=`), that of a processor with 4 GHz. Without it the kernel counts turns
/// for several ticks of 10 ms at each boot. On a slower processor a delay takes longer than asked, which is allowed.
const LOOPS_PER_JIFFY: &str = "lpj=40000000";

/// A started guest.
#[derive(Debug)]
pub(super) struct UmlGuest {
    supervisor: Pid,
    runtime: PathBuf,
    started: Instant,
    mconsole: Mutex<()>,
}

impl UmlGuest {
    /// Starts the kernel with its devices.
    pub(super) fn start(start: Start<'_>) -> Result<Self, Failure> {
        let Start { config, command_line, devices, console, events, network: _ } = start;
        let memory = memory::directory(config.memory_mib, config.directory())?;
        let kernel = canonical("the kernel", &config.kernel.path)?;
        let initramfs = canonical("the initial file system", &config.kernel.initramfs)?;
        let runtime = make_runtime_directory(config.directory())?;
        let directory = kernel.parent().unwrap_or(Path::new("/")).to_owned();
        // Before the first thread, so that all threads inherit what the supervisor needs and what writes its user
        // namespace. The kernel gets less.
        let files = Paths::of(config).own(&memory).readable(&initramfs).executable_itself().writable("/proc");
        confinement::restrict_paths(&supervisor::needs(files, &directory))?;
        console.serve()?;
        let mut arguments = vec![
            format!("mem={}M", config.memory_mib),
            format!("initrd={}", initramfs.display()),
            format!("uml_dir={}", runtime.display()),
            format!("umid={UMID}"),
            "con=null".to_owned(),
            "con0=fd:0,fd:1".to_owned(),
            "quiet".to_owned(),
            // Processes of the guest hand their system calls over by a seccomp filter, which takes half of the time
            // ptrace takes. Where the host refuses such filters the kernel uses ptrace.
            "seccomp=auto".to_owned(),
            "panic=1".to_owned(),
            LOOPS_PER_JIFFY.to_owned(),
        ];
        let mut attached = Vec::new();
        for (number, device) in devices.into_iter().enumerate() {
            let device = attach(&runtime, number, device, events)?;
            arguments.push(device.argument.clone());
            attached.push(device);
        }
        arguments.extend(command_line.split_whitespace().map(str::to_owned));

        let files = Files { directory: &directory, runtime: &runtime, memory: &memory, initramfs: &initramfs };
        let (process, output) = GuestProcess::start(&kernel, &arguments, &files).map_err(|error| {
            Failure::new(
                FailureCode::AcceleratorUnusable,
                format!("cannot start the guest kernel {}: {error}", kernel.display()),
            )
        })?;
        let supervisor = process.supervisor();
        let guest = Self { supervisor, runtime, started: Instant::now(), mconsole: Mutex::new(()) };
        let console = console::copy(output, console).inspect_err(|_| guest.kill())?;
        let events = events.clone();
        spawn("guest-end", move || {
            confinement::enter(Thread::GuestEnd);
            let end = process.wait();
            // The last lines of the console are part of the explanation of the end.
            if console.join().is_err() {
                error!("the thread that copies the console has failed");
            }
            attached.into_iter().for_each(Attached::finish);
            let _ = events.send(Event::Ended(end));
        })?;
        Ok(guest)
    }
}

impl Guest for UmlGuest {
    fn press_power_button(&self) -> Result<(), Failure> {
        let _one_at_a_time = self.mconsole.lock().unwrap_or_else(PoisonError::into_inner);
        let (socket, own) = (self.runtime.join(UMID).join("mconsole"), self.runtime.join("stop"));
        loop {
            match mconsole::command(&socket, &own, "cad") {
                Ok(_) => return Ok(()),
                // A kernel that has just been started does not listen yet.
                Err(error) if self.started.elapsed() < MCONSOLE_WITHIN => {
                    debug!("the guest kernel does not answer yet: {error}");
                    thread::sleep(MCONSOLE_RETRY);
                }
                Err(error) => return Err(Failure::internal("ask the guest to power off", error)),
            }
        }
    }

    fn kill(&self) {
        if let Err(error) = kill(self.supervisor, Signal::SIGKILL) {
            debug!("the guest had ended already: {error}");
        }
    }

    fn clean_up(&self) {
        if let Err(error) = fs::remove_dir_all(&self.runtime) {
            debug!(directory = %self.runtime.display(), "the runtime directory stays: {error}");
        }
    }
}

fn canonical(what: &str, path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(|error| Failure::of_file(&format!("find {what}"), path, &error))
}

/// Creates a private directory for sockets. A killed monitor's is removed first: its control socket is dead. A
/// directory that others may read is not the monitor's (a machine in `/` would remove the system's `/run`) and stays.
fn make_runtime_directory(machine: &Path) -> Result<PathBuf, Failure> {
    let machine = canonical("the machine's directory", machine)?;
    let runtime = machine.join("run");
    let failed = |error| Failure::of_file("create the runtime directory", &runtime, &error);
    if let Ok(there) = fs::symlink_metadata(&runtime)
        && (!there.is_dir() || there.permissions().mode() & 0o777 != 0o700)
    {
        let message = format!("{} exists and is not a runtime directory of the monitor", runtime.display());
        return Err(
            Failure::new(FailureCode::ConfigInvalid, message).with_fix("give the machine a directory of its own")
        );
    }
    match fs::remove_dir_all(&runtime) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    fs::DirBuilder::new().mode(0o700).create(&runtime).map_err(failed)?;
    Ok(runtime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_directory_is_replaced_and_a_directory_of_others_is_not() {
        let machine = tempfile::tempdir().unwrap();
        let runtime = make_runtime_directory(machine.path()).unwrap();
        fs::write(runtime.join("left-over.sock"), "").unwrap();
        make_runtime_directory(machine.path()).unwrap();
        assert!(!runtime.join("left-over.sock").exists());
        fs::write(runtime.join("precious"), "").unwrap();
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(make_runtime_directory(machine.path()).unwrap_err().code, FailureCode::ConfigInvalid);
        assert!(runtime.join("precious").exists());
    }
}
