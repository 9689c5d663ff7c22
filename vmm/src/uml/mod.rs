//! The accelerator `uml`: User Mode Linux, the guest kernel as a process of the host.
//!
//! Threads: per device one that waits for the kernel to connect and one that relays; one that copies the console; one that
//! waits for the end. All report to the machine over one channel of [`Event`]s.

mod console;
mod mconsole;
mod memory;
pub mod probe;
mod process;
pub mod supervisor;

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::Pid;
use tracing::{debug, error};
use vhost::vhost_user::Listener;

pub use self::process::GuestEnd;
use self::process::{Files, GuestProcess};
use crate::attachment::relay::relay;
use crate::attachment::vhost_user::VhostUserAttachment;
use crate::config::Config;
use crate::confinement::paths::Paths;
use crate::confinement::{self, Thread};
use crate::console::GuestConsole;
use crate::error::{ErrorCode, Failure};
use crate::machine::{Event, GuestDevice};

/// Directory of the kernel's own within the runtime directory (`umid`).
const UMID: &str = "m";
/// How long after the start a stop waits for the kernel to be able to hear of it.
const MCONSOLE_WITHIN: Duration = Duration::from_secs(10);
const MCONSOLE_RETRY: Duration = Duration::from_millis(20);

/// A started guest.
#[derive(Debug)]
pub struct UmlGuest {
    supervisor: Pid,
    runtime: PathBuf,
    started: Instant,
    mconsole: Mutex<()>,
}

impl UmlGuest {
    /// Starts the kernel with its devices. Reports [`Event::Connected`] when it runs, and its end.
    pub fn start(
        config: &Config,
        devices: Vec<GuestDevice>,
        console: &GuestConsole,
        events: &Sender<Event>,
    ) -> Result<Self, Failure> {
        let memory = memory::directory(config.memory_mib, config.directory())?;
        let kernel = canonical("the kernel", &config.kernel.path)?;
        let initramfs = canonical("the initial file system", &config.kernel.initramfs)?;
        let runtime = make_runtime_directory(config.directory())?;
        let directory = kernel.parent().unwrap_or(Path::new("/")).to_owned();
        // Before the first thread. All of them inherit what the supervisor needs, and it writes the supervisor's user namespace; the kernel is left less.
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
            // Debian's kernel measures at each boot which way of computing RAID checksums is fastest, which is half of the boot.
            // Without it the first way is taken for XOR; only btrfs's RAID 5 and 6 have none then, which nothing in a guest uses.
            "initcall_blacklist=raid6_select_algo,calibrate_xor_blocks".to_owned(),
            "panic=1".to_owned(),
        ];
        let mut attached = Vec::new();
        for (number, device) in devices.into_iter().enumerate() {
            let device = attach(&runtime, number, device, events)?;
            arguments.push(device.argument.clone());
            attached.push(device);
        }
        arguments.extend(config.kernel.command_line.split_whitespace().map(str::to_owned));

        let files = Files { directory: &directory, runtime: &runtime, memory: &memory, initramfs: &initramfs };
        let (process, output) = GuestProcess::start(&kernel, &arguments, &files).map_err(|error| {
            Failure::new(
                ErrorCode::AcceleratorUnusable,
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
            // Its last words are part of what is told about its end.
            if console.join().is_err() {
                error!("the thread that copies the console has failed");
            }
            attached.into_iter().for_each(Attached::finish);
            let _ = events.send(Event::Ended(end));
        })?;
        Ok(guest)
    }

    /// Asks the guest to power off, as by its power button (SIGINT to its init).
    pub fn press_power_button(&self) -> Result<(), Failure> {
        let _one_at_a_time = self.mconsole.lock().unwrap_or_else(PoisonError::into_inner);
        let (socket, own) = (self.runtime.join(UMID).join("mconsole"), self.runtime.join("stop"));
        loop {
            match mconsole::command(&socket, &own, "cad") {
                Ok(_) => return Ok(()),
                // A kernel that has just been started does not listen yet.
                Err(error) if self.started.elapsed() < MCONSOLE_WITHIN => {
                    debug!("the guest cannot be asked yet: {error}");
                    thread::sleep(MCONSOLE_RETRY);
                }
                Err(error) => return Err(Failure::internal("ask the guest to power off", error)),
            }
        }
    }

    /// Ends every process of the guest at once.
    pub fn kill(&self) {
        if let Err(error) = kill(self.supervisor, Signal::SIGKILL) {
            debug!("the guest had ended already: {error}");
        }
    }

    /// Removes what the guest left in the file system. To be called after its end.
    pub fn clean_up(&self) {
        if let Err(error) = fs::remove_dir_all(&self.runtime) {
            debug!(directory = %self.runtime.display(), "the runtime directory stays: {error}");
        }
    }
}

fn canonical(what: &str, path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(|error| Failure::of_file(&format!("find {what}"), path, &error))
}

/// A new, private directory for sockets. One left by a monitor that was killed is removed: its control socket is dead. One that others may
/// read is somebody else's (a machine in `/` would remove the system's `/run`) and stays.
fn make_runtime_directory(machine: &Path) -> Result<PathBuf, Failure> {
    let machine = canonical("the machine's directory", machine)?;
    let runtime = machine.join("run");
    let failed = |error| Failure::of_file("make the runtime directory", &runtime, &error);
    if let Ok(there) = fs::symlink_metadata(&runtime)
        && (!there.is_dir() || there.permissions().mode() & 0o777 != 0o700)
    {
        let message =
            format!("{} is not the monitor's own; give the machine a directory of its own", runtime.display());
        return Err(Failure::new(ErrorCode::ConfigInvalid, message));
    }
    match fs::remove_dir_all(&runtime) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    fs::DirBuilder::new().mode(0o700).create(&runtime).map_err(failed)?;
    Ok(runtime)
}

/// A device on its way to the guest: the thread that waits for the kernel and then relays, and what ends the waiting.
#[derive(Debug)]
struct Attached {
    argument: String,
    listener: UnixListener,
    thread: thread::JoinHandle<()>,
}

impl Attached {
    /// Waits until the device has done what the guest had asked of it. The guest is gone already.
    fn finish(self) {
        // A kernel that ended early has not connected, and will not.
        if let Err(error) = shutdown(self.listener.as_raw_fd(), Shutdown::Both) {
            debug!("a device's socket had ended: {error}");
        }
        if self.thread.join().is_err() {
            error!("the thread of a device has failed");
        }
    }
}

/// Serves a device on a socket of its own.
fn attach(runtime: &Path, number: usize, device: GuestDevice, events: &Sender<Event>) -> Result<Attached, Failure> {
    let GuestDevice { id, device, notice } = device;
    let kind = device.device_type();
    let failed = |error: &dyn std::fmt::Display| Failure::internal(&format!("attach device {id}"), error);
    let mut attachment = VhostUserAttachment::new(&id, device).map_err(|error| failed(&error))?;
    let inner = runtime.join(format!("b{number}"));
    let mut listener = Listener::new(&inner, true).map_err(|error| failed(&error))?;
    let backend = UnixStream::connect(&inner).map_err(|error| failed(&error))?;
    attachment.accept(&mut listener).map_err(|error| failed(&error))?;
    drop(listener);

    let outer = runtime.join(format!("d{number}"));
    let listener = UnixListener::bind(&outer).map_err(|error| failed(&error))?;
    let kernel = listener.try_clone().map_err(|error| failed(&error))?;
    let events = events.clone();
    let thread = spawn(&format!("connect-{id}"), move || {
        confinement::enter(Thread::Relay);
        let Ok((frontend, _)) = kernel.accept() else { return };
        let _ = events.send(Event::Connected);
        let name = id.clone();
        let relaying = spawn(&format!("relay-{id}"), move || {
            if let Err(error) = relay(&frontend, &backend, &notice) {
                error!(device = %name, "the device has lost the guest: {error}");
            }
            // The device goes when its attachment does; that takes both its connections' ends.
            drop(backend);
            if let Err(error) = attachment.wait() {
                error!(device = %name, "{error}");
            }
        });
        // A kernel that connects again has started over: User Mode Linux resets by executing itself.
        if kernel.accept().is_ok() {
            let _ = events.send(Event::Reset);
        }
        match relaying.map(thread::JoinHandle::join) {
            Ok(Ok(())) => {}
            Ok(Err(_)) => error!(device = %id, "the thread that relays has failed"),
            Err(failure) => error!(device = %id, "{failure}"),
        }
    })?;
    Ok(Attached { argument: format!("virtio_uml.device={}:{kind}", outer.display()), listener, thread })
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<thread::JoinHandle<()>, Failure> {
    // Linux shows 15 characters of a thread's name.
    let name: String = name.chars().take(15).collect();
    thread::Builder::new().name(name).spawn(body).map_err(|error| Failure::internal("start a thread", error))
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
        assert_eq!(make_runtime_directory(machine.path()).unwrap_err().code, ErrorCode::ConfigInvalid);
        assert!(runtime.join("precious").exists());
    }
}
