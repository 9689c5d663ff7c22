//! The first baseline: the same guest image under plain QEMU with its translator (TCG), two processors, QEMU's own
//! disks and our vsock device.

use std::{
    fs::{self, File},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rorqual_tests::{Machine, Run, child::OwnChild, eventually};

use crate::{
    bridge,
    engine::{BootStep, Client, Engine, steps_in},
    material::IMAGE,
};

/// The size Rorqual gives it.
const DATA_DISK: u64 = 64 << 30;

/// Deadline for a guest to reach its Docker API, translated on a busy host.
const BOOT_DEADLINE: Duration = Duration::from_secs(400);

/// A guest under QEMU.
#[derive(Debug)]
pub(crate) struct Qemu {
    version: String,
    vmm: PathBuf,
    image: PathBuf,
    client: Client,
    running: Option<(OwnChild, OwnChild)>,
    directory: PathBuf,
}

impl Qemu {
    /// A blank data disk; nothing runs yet. Image and programs are those of `machine`.
    pub(crate) fn prepare(machine: &Machine) -> Result<Self> {
        let version = Command::new("qemu-system-x86_64").arg("--version").output_text();
        let version = version.context("QEMU is not installed (make packages-bench installs it)")?;
        let version = version.split_whitespace().nth(3).unwrap_or("?").to_owned();
        // In the machine's directory, which is always removed at the end.
        let directory = machine.home().join("tcg");
        fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        File::create(directory.join("data.img"))?.set_len(DATA_DISK).context("cannot make a data disk")?;
        let socket = directory.join("docker.sock");
        bridge::lead_to_docker(&socket, directory.join("vsock.sock"))?;
        let client = Client::new(machine.image(), &directory, socket)?;
        let (vmm, image) = (machine.programs().join("rorqual-vmm"), machine.image().to_owned());
        Ok(Self { version, vmm, image, client, running: None, directory })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn start_vsock_device(&self) -> Result<OwnChild> {
        let (listen, uds) = (self.path("device.sock"), self.path("vsock.sock"));
        for socket in [&listen, &uds] {
            // Left by the previous boot.
            fs::remove_file(socket).ok();
        }
        let device = OwnChild::start("the vsock device", &self.vmm, &self.path("device.log"), |command| {
            command.args(["device", "vsock", "--guest-cid", "3", "--listen"]).arg(&listen).arg("--uds").arg(&uds);
        })?;
        // QEMU does not retry.
        eventually("the vsock device listens", || listen.exists().then_some(()))?;
        Ok(device)
    }

    fn start_qemu(&self) -> Result<OwnChild> {
        let text = |path: PathBuf| path.display().to_string();
        let disk = |id: &str, path: PathBuf, options: &str| {
            let drive = format!("if=none,id={id},format=raw,{options},file={}", path.display());
            ["-drive".to_owned(), drive, "-device".to_owned(), format!("virtio-blk-pci,drive={id},serial={id}")]
        };
        OwnChild::start("QEMU", Path::new("qemu-system-x86_64"), &self.path("qemu.log"), |command| {
            command
                .args(["-nodefaults", "-no-reboot", "-display", "none"])
                .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048"])
                .args(["-object", "memory-backend-memfd,id=m,size=2G,share=on", "-machine", "memory-backend=m"])
                .args(["-kernel", &text(self.image.join("kvm/vmlinux"))])
                .args(["-initrd", &text(self.image.join("kvm/initramfs.img"))])
                .args(["-append", "console=ttyS0 quiet rorqual.machine=default"])
                .args(disk("root", self.image.join("root.erofs"), "readonly=on"))
                .args(disk("data", self.path("data.img"), "discard=unmap"))
                .args(["-chardev", &format!("socket,id=c,path={}", text(self.path("device.sock")))])
                .args(["-device", "vhost-user-vsock-pci,chardev=c"])
                .args(["-object", "rng-random,id=r,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=r"])
                .args(["-serial", &format!("file:{}", text(self.path("console.log")))]);
        })
    }

    /// Waits for the agent's second notice, that the Docker API answers.
    fn wait_for_engine(&self, notices: &mpsc::Receiver<()>, qemu: &mut OwnChild) -> Result<()> {
        let begin = Instant::now();
        let mut seen = 0;
        while seen < 2 {
            match notices.recv_timeout(Duration::from_secs(1)) {
                Ok(()) => seen += 1,
                Err(_) => qemu.check().with_context(|| format!("see {}", self.path("console.log").display()))?,
            }
            if begin.elapsed() > BOOT_DEADLINE {
                bail!("no Docker API in the guest within {} s", BOOT_DEADLINE.as_secs());
            }
        }
        Ok(())
    }
}

impl Engine for Qemu {
    fn name(&self) -> &'static str {
        "tcg"
    }

    fn description(&self) -> String {
        format!("same image, QEMU {} TCG (2 CPUs)", self.version)
    }

    fn start(&mut self) -> Result<()> {
        let notice = self.path("vsock.sock_1024");
        fs::remove_file(&notice).ok();
        let listener = UnixListener::bind(&notice).with_context(|| format!("cannot listen at {}", notice.display()))?;
        let (sender, notices) = mpsc::channel();
        thread::spawn(move || {
            for _ in listener.incoming().flatten().take(2) {
                sender.send(()).ok();
            }
        });
        let device = self.start_vsock_device()?;
        let mut qemu = self.start_qemu()?;
        self.wait_for_engine(&notices, &mut qemu)?;
        self.running = Some((qemu, device));
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        let Some((mut qemu, device)) = self.running.take() else { return Ok(()) };
        // Acts as the power button: the guest's init stops the engine, syncs and powers off.
        let power_button = ["run", "-d", "--rm", "--privileged", "--pid=host", IMAGE, "kill", "-INT", "1"];
        self.docker(&power_button).run()?.success()?;
        qemu.wait()?;
        drop(device);
        Ok(())
    }

    fn docker(&self, arguments: &[&str]) -> Command {
        self.client.command(arguments)
    }

    fn boot_steps(&self) -> Result<Vec<BootStep>> {
        let log = self.path("console.log");
        Ok(steps_in(&fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?))
    }
}
