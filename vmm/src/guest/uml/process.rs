//! The supervisor and, through it, the guest kernel: started in namespaces of their own, and waited for.

use std::ffi::{CString, OsString};
use std::fs;
use std::io::{self, BufRead, BufReader, PipeReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getgid, getuid};
use tracing::{debug, warn};

use super::supervisor::{GO, Report};
use crate::confinement;
use crate::guest::GuestEnd;

/// Descriptor on which the supervisor finds its socket.
const CHANNEL_FD: i32 = 3;

/// A running supervisor, and through it the guest kernel with all its processes.
#[derive(Debug)]
pub(super) struct GuestProcess {
    supervisor: Pid,
    reports: BufReader<UnixStream>,
}

/// The part of the file system that a guest kernel uses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Files<'a> {
    /// Its program and libraries: its working directory.
    pub(super) directory: &'a Path,
    /// Where it creates its sockets.
    pub(super) runtime: &'a Path,
    /// Where it creates the file that is its memory.
    pub(super) memory: &'a Path,
    /// Its initial file system.
    pub(super) initramfs: &'a Path,
}

impl GuestProcess {
    /// Starts the kernel `program` with `arguments`, which refer to `files`. The returned pipe carries what it prints.
    ///
    /// # Errors
    /// The system's, and the supervisor's report when the kernel cannot be executed.
    pub(super) fn start(program: &Path, arguments: &[String], files: &Files<'_>) -> io::Result<(Self, PipeReader)> {
        let (ours, theirs) = UnixStream::pair()?;
        let (console, output) = io::pipe()?;
        let mut words: Vec<OsString> =
            vec!["rorqual-vmm".into(), "supervise".into(), "--directory".into(), files.directory.into()];
        if confinement::is_on() {
            words.push("--confine".into());
            for directory in [files.runtime, files.memory] {
                words.extend(["--own".into(), directory.into()]);
            }
            words.extend(["--read".into(), files.initramfs.into()]);
        }
        words.extend(["--channel".into(), CHANNEL_FD.to_string().into(), "--".into(), program.into()]);
        words.extend(arguments.iter().map(OsString::from));
        let environment = environment(files.memory);
        let image = Image { words: strings(words)?, environment: strings(environment)? };
        let supervisor = image.start(&theirs.into(), &output.into())?;
        let mut guest = Self { supervisor, reports: BufReader::new(ours) };
        guest.reports.get_mut().write_all(&[GO])?;
        match guest.next_report()? {
            Some(Report::Started) => Ok((guest, console)),
            Some(Report::Failed(reason)) => Err(io::Error::other(reason)),
            other => Err(io::Error::other(format!("its supervisor ended early ({other:?})"))),
        }
    }

    /// Process ID of the supervisor. Killing it ends every process of the guest.
    pub(super) fn supervisor(&self) -> Pid {
        self.supervisor
    }

    /// Waits until the guest has ended and none of its processes is left.
    pub(super) fn wait(mut self) -> GuestEnd {
        let end = match self.next_report() {
            Ok(Some(Report::Exited(status))) => GuestEnd::Exited(status),
            Ok(Some(Report::Signalled(signal))) => GuestEnd::Signalled(signal),
            Ok(_) | Err(_) => GuestEnd::SupervisorKilled,
        };
        // The first process of a namespace ends after all others in it.
        while let Err(Errno::EINTR) = waitpid(self.supervisor, None) {}
        end
    }

    fn next_report(&mut self) -> io::Result<Option<Report>> {
        let mut line = String::new();
        if self.reports.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&line)?))
    }
}

/// The supervisor's environment: only what the guest kernel needs.
fn environment(memory: &Path) -> Vec<OsString> {
    let mut temporary = OsString::from("TMPDIR=");
    temporary.push(memory);
    vec![temporary, "PATH=/usr/bin:/bin".into(), "HOME=/".into()]
}

fn strings(words: Vec<OsString>) -> io::Result<Vec<CString>> {
    words.into_iter().map(|word| CString::new(word.into_vec()).map_err(io::Error::other)).collect()
}

/// What is executed, prepared before the fork: only system calls are allowed after it.
struct Image {
    words: Vec<CString>,
    environment: Vec<CString>,
}

impl Image {
    fn start(&self, channel: &OwnedFd, output: &OwnedFd) -> io::Result<Pid> {
        let namespaces = [libc::CLONE_NEWPID, libc::CLONE_NEWUSER | libc::CLONE_NEWPID];
        let wanted = if getuid().is_root() { &namespaces[..] } else { &namespaces[1..] };
        for &flags in wanted {
            match self.clone_with(flags, channel, output) {
                Ok(process) => {
                    if flags & libc::CLONE_NEWUSER != 0 {
                        map_own_ids(process).inspect_err(|_| {
                            let _ = kill(process, Signal::SIGKILL);
                        })?;
                    }
                    return Ok(process);
                }
                Err(error) => debug!(flags, "no namespaces for the guest's processes: {error}"),
            }
        }
        warn!("this system allows no process namespaces, so the guest's processes are killed one by one at its end");
        self.clone_with(0, channel, output)
    }

    fn clone_with(&self, namespaces: i32, channel: &OwnedFd, output: &OwnedFd) -> io::Result<Pid> {
        let mut words: Vec<*const libc::c_char> = self.words.iter().map(|word| word.as_ptr()).collect();
        words.push(std::ptr::null());
        let mut environment: Vec<*const libc::c_char> = self.environment.iter().map(|word| word.as_ptr()).collect();
        environment.push(std::ptr::null());
        let (channel, output) = (channel.as_raw_fd(), output.as_raw_fd());
        let flags = libc::c_long::from(namespaces | libc::SIGCHLD);
        // SAFETY: without CLONE_VM this is a fork: the child has a copy of this memory and runs on its own copy of
        // this stack. It makes only async-signal-safe calls, on pointers prepared above that are alive, ends each
        // array with a null pointer, and leaves by execve or _exit.
        let process = unsafe {
            let process = libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0);
            if process == 0 {
                // Our descriptors are all above 2, so no dup2 overwrites what the other needs, unless output is 3.
                if libc::dup2(output, 1) == 1 && redirect(channel) {
                    libc::execve(c"/proc/self/exe".as_ptr(), words.as_ptr(), environment.as_ptr());
                }
                libc::_exit(127);
            }
            process
        };
        if process < 0 { Err(io::Error::last_os_error()) } else { Ok(Pid::from_raw(process as i32)) }
    }
}

/// Puts the socket where the supervisor expects it, open across exec.
///
/// # Safety
/// For the child of a fork only: it replaces descriptor [`CHANNEL_FD`], whatever it is.
unsafe fn redirect(channel: i32) -> bool {
    // SAFETY: system calls on numbers; the caller gives up the replaced descriptor.
    unsafe {
        if channel == CHANNEL_FD {
            libc::fcntl(CHANNEL_FD, libc::F_SETFD, 0) == 0
        } else {
            libc::dup2(channel, CHANNEL_FD) == CHANNEL_FD
        }
    }
}

/// Keeps the numbers of the process's user and group in its user namespace.
fn map_own_ids(process: Pid) -> io::Result<()> {
    let (user, group) = (getuid(), getgid());
    fs::write(format!("/proc/{process}/setgroups"), "deny")?;
    fs::write(format!("/proc/{process}/uid_map"), format!("{user} {user} 1"))?;
    fs::write(format!("/proc/{process}/gid_map"), format!("{group} {group} 1"))
}
