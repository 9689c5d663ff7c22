//! The compared monitors, and one guest of one of them.

use std::{
    fs::{self, File},
    os::{fd::AsFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{AddressFamily, Backlog, SockFlag, SockType, VsockAddr, bind, listen, socket},
};

/// Memory of each guest, in MiB.
pub(crate) const MEMORY_MIB: u64 = 1024;
/// The port of the host that the agent calls.
const NOTICE_PORT: u32 = 1024;
const GUEST: u32 = 3;
/// Further kernel parameters of every guest: those of `rorqual-vmm`, as far as the machine has such devices.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=1";

/// The monitor that runs the guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Monitor {
    Rorqual,
    Microvm,
    Q35,
}

impl Monitor {
    /// Rorqual first: the others are compared with it.
    pub(crate) const ALL: [Self; 3] = [Self::Rorqual, Self::Microvm, Self::Q35];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rorqual => "rorqual",
            Self::Microvm => "microvm",
            Self::Q35 => "q35",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Rorqual => "rorqual-vmm",
            Self::Microvm | Self::Q35 => "qemu-system-x86_64",
        }
    }
}

/// A disk of a guest.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) serial: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) read_only: bool,
}

/// The files of a guest.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    pub(crate) command_line: String,
    pub(crate) disks: Vec<Disk>,
}

/// The socket at which the agent's call arrives.
enum Notices {
    Unix(UnixListener),
    Vsock(std::os::fd::OwnedFd),
}

/// A running guest; dropping it kills its monitor.
pub(crate) struct Running {
    child: Child,
    directory: PathBuf,
    notices: Notices,
    /// When the monitor was executed.
    pub(crate) begun: Instant,
}

impl Running {
    /// Starts it in `directory`, which is emptied.
    pub(crate) fn start(monitor: Monitor, guest: &Guest, directory: &Path) -> Result<Self> {
        fs::remove_dir_all(directory).ok();
        fs::create_dir_all(directory.join("console"))?;
        File::create(directory.join("console/console.log"))?;
        let notices = match monitor {
            Monitor::Rorqual => Notices::Unix(UnixListener::bind(directory.join(format!("vsock.sock_{NOTICE_PORT}")))?),
            Monitor::Microvm | Monitor::Q35 => Notices::Vsock(vsock_listener().context("cannot listen on vsock")?),
        };
        let mut command = Command::new(monitor.program());
        match monitor {
            Monitor::Rorqual => rorqual(&mut command, guest, directory)?,
            Monitor::Microvm => microvm(&mut command, guest, directory),
            Monitor::Q35 => q35(&mut command, guest, directory),
        }
        let log = File::create(directory.join("monitor.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let begun = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", monitor.program()))?;
        Ok(Self { child, directory: directory.to_owned(), notices, begun })
    }

    /// The monitor's process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// The console's file so far.
    pub(crate) fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.directory.join("console/console.log")).unwrap_or_default()).into_owned()
    }

    /// The folder that contains only the console's file.
    pub(crate) fn console_folder(&self) -> PathBuf {
        self.directory.join("console")
    }

    /// The control socket of `rorqual-vmm`.
    pub(crate) fn control(&self) -> PathBuf {
        self.directory.join("control.sock")
    }

    /// Waits for the agent's call; returns the time since the monitor's start.
    pub(crate) fn wait_for_agent(&mut self, patience: Duration) -> Result<Duration> {
        let descriptor = match &self.notices {
            Notices::Unix(listener) => listener.as_fd().try_clone_to_owned()?,
            Notices::Vsock(listener) => listener.try_clone()?,
        };
        self.wait_readable(&descriptor, patience).context("the agent has not called")?;
        Ok(self.begun.elapsed())
    }

    /// Waits until a descriptor is readable, while the monitor runs.
    pub(crate) fn wait_readable(&mut self, descriptor: &impl AsFd, patience: Duration) -> Result<()> {
        loop {
            if poll(&mut [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)], PollTimeout::from(500u16))? > 0 {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the monitor has ended ({status}): {}", self.words());
            }
            ensure!(self.begun.elapsed() < patience, "not within {} s: {}", patience.as_secs(), self.words());
        }
    }

    /// Waits for the monitor's end.
    pub(crate) fn wait_for_end(&mut self, patience: Duration) -> Result<()> {
        let ended = rorqual_tests::wait::within(patience, || self.child.try_wait().ok().flatten());
        ended.map(drop).with_context(|| format!("the monitor does not end: {}", self.words()))
    }

    fn words(&self) -> String {
        let log = fs::read_to_string(self.directory.join("monitor.log")).unwrap_or_default();
        format!("--- its log\n{log}\n--- the console\n{}", self.console())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn vsock_listener() -> Result<std::os::fd::OwnedFd> {
    use std::os::fd::AsRawFd;
    let listener = socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(listener.as_raw_fd(), &VsockAddr::new(libc::VMADDR_CID_ANY, NOTICE_PORT))?;
    listen(&listener, Backlog::new(16)?)?;
    Ok(listener)
}

fn rorqual(command: &mut Command, guest: &Guest, directory: &Path) -> Result<()> {
    let disk = |disk: &Disk| serde_json::json!({"id": disk.serial, "path": disk.path, "read_only": disk.read_only});
    let configuration = serde_json::json!({
        "version": 1, "name": "bench", "accelerator": "kvm", "cpus": 1, "memory_mib": MEMORY_MIB,
        "kernel": {"path": guest.kernel, "initramfs": guest.initramfs, "command_line": guest.command_line},
        "block": guest.disks.iter().map(disk).collect::<Vec<_>>(),
        "vsock": {"guest_cid": GUEST, "socket": directory.join("vsock.sock")},
        "console_log": directory.join("console/console.log"), "control_socket": directory.join("control.sock"),
    });
    let path = directory.join("vmm.json");
    fs::write(&path, configuration.to_string())?;
    command.arg("run").arg("--config").arg(path);
    Ok(())
}

/// Arguments of both QEMU machines; `bus` is how their virtio devices attach.
fn qemu(command: &mut Command, guest: &Guest, directory: &Path, bus: &str) {
    let console = directory.join("console/console.log");
    command
        .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-cpu", "host", "-smp", "1"])
        .args(["-m", &MEMORY_MIB.to_string(), "-serial", &format!("file:{}", console.display())])
        .arg("-kernel")
        .arg(&guest.kernel)
        .arg("-initrd")
        .arg(&guest.initramfs)
        // A thread of its own, as each of our devices has.
        .args(["-object", "iothread,id=io"])
        .args(["-device", &format!("vhost-vsock-{bus},guest-cid={GUEST}")]);
    for Disk { serial, path, read_only } in &guest.disks {
        let read_only = if *read_only { "on" } else { "off" };
        let drive =
            format!("if=none,id={serial},format=raw,readonly={read_only},discard=unmap,file={}", path.display());
        let device = format!("virtio-blk-{bus},drive={serial},serial={serial},iothread=io");
        command.args(["-drive", &drive, "-device", &device]);
    }
}

/// As little as possible: no timer or interrupt controller of a PC, and the fastest firmware. ACPI stays on, since
/// Debian's kernel finds devices no other way; so does the clock, without which that kernel waits for 20,000 reads.
fn microvm(command: &mut Command, guest: &Guest, directory: &Path) {
    command.args(["-M", "microvm,accel=kvm,acpi=on,pit=off,pic=off,rtc=on,x-option-roms=off", "-bios", "qboot.rom"]);
    command.args(["-global", "virtio-mmio.force-legacy=false"]);
    qemu(command, guest, directory, "device");
    command.args(["-append", &format!("{COMMAND_LINE} pci=off {}", guest.command_line)]);
}

fn q35(command: &mut Command, guest: &Guest, directory: &Path) {
    command.args(["-M", "q35,accel=kvm"]);
    qemu(command, guest, directory, "pci");
    command.args(["-append", &format!("{COMMAND_LINE} {}", guest.command_line)]);
}
