//! Whether User Mode Linux can run here, found by trying what it needs from the host and executing its kernel.

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rorqual_vmm_protocol::Finding;

use super::memory;

/// Limit for the kernel to print its version, which it does at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tries what User Mode Linux needs; with `kernel` also that this kernel can be executed.
pub(in crate::guest) fn probe(kernel: Option<&Path>) -> Finding {
    match try_all(kernel) {
        Ok(reason) => Finding::usable(reason),
        Err(finding) => finding,
    }
}

fn try_all(kernel: Option<&Path>) -> Result<String, Finding> {
    if !cfg!(target_arch = "x86_64") {
        return Err(Finding::unusable("User Mode Linux runs on x86_64 only"));
    }
    try_ptrace().map_err(|error| {
        Finding::unusable(format!("this system does not let a process trace its own child ({error})"))
            .with_fix("allow ptrace (seccomp profile, kernel.yama.ptrace_scope below 3)")
    })?;
    let places: Vec<PathBuf> =
        ["/dev/shm", "/tmp"].into_iter().map(PathBuf::from).chain(env::var_os("TMPDIR").map(PathBuf::from)).collect();
    let place = places.iter().find(|place| memory::maps_executable(place).is_ok()).ok_or_else(|| {
        Finding::unusable("no place for guest memory: /dev/shm and /tmp are missing or mounted noexec")
            .with_fix("set TMPDIR to a directory that is not mounted noexec")
    })?;
    let works = format!("processes can be traced and guest memory can be in {}", place.display());
    match kernel {
        None => Ok(format!("{works}; no kernel was given to try")),
        Some(kernel) => {
            let version = try_kernel(kernel)
                .map_err(|error| Finding::unusable(format!("the kernel {} does not run: {error}", kernel.display())))?;
            Ok(format!("{works}; the kernel {version} runs"))
        }
    }
}

/// Traces a child and intercepts its system calls, as the kernel does with its user processes.
fn try_ptrace() -> io::Result<()> {
    // SAFETY: the child of the fork makes only async-signal-safe calls and leaves by _exit.
    let child = unsafe {
        let child = libc::fork();
        if child == 0 {
            if libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) != 0 {
                libc::_exit(1);
            }
            libc::raise(libc::SIGSTOP);
            libc::_exit(0);
        }
        child
    };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    let child = Pid::from_raw(child);
    let outcome = match waitpid(child, Some(WaitPidFlag::WUNTRACED))? {
        WaitStatus::Stopped(_, Signal::SIGSTOP) => {
            // SAFETY: a request on our own stopped child; it reads and writes no memory of ours.
            let answer = unsafe { libc::ptrace(libc::PTRACE_SYSEMU, child.as_raw(), 0, 0) };
            if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        }
        _ => Err(io::Error::from(io::ErrorKind::PermissionDenied)),
    };
    // The child may have ended by itself.
    if kill(child, Signal::SIGKILL).is_ok() {
        while let Ok(WaitStatus::Stopped(..) | WaitStatus::PtraceSyscall(_)) = waitpid(child, None) {}
    }
    outcome
}

fn try_kernel(kernel: &Path) -> Result<String, String> {
    let kernel = kernel.canonicalize().map_err(|error| error.to_string())?;
    let mut command = Command::new(&kernel);
    command.arg("--version").process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let begun = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if begun.elapsed() > PATIENCE => {
                // The result no longer matters.
                let _ = child.kill();
                let _ = child.wait();
                return Err("it printed no version within 5 seconds".to_owned());
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let mut version = String::new();
    if let Some(mut output) = child.stdout.take() {
        use std::io::Read;
        output.read_to_string(&mut version).map_err(|error| error.to_string())?;
    }
    if status.success() { Ok(version.trim().to_owned()) } else { Err(format!("it ended with {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_is_not_there_or_does_not_run_is_not_usable() {
        let missing = probe(Some(Path::new("/does/not/exist")));
        assert!(!missing.usable && missing.reason.contains("/does/not/exist"), "{missing:?}");
        assert!(!probe(Some(Path::new("/bin/false"))).usable);
    }
}
