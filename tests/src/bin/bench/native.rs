//! The second baseline: Debian's dockerd, run by hand on the host's own kernel, from the packages of the guest image,
//! in mount, network and process namespaces of its own.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;
use rorqual_tests::{Machine, child::OwnChild};

use crate::engine::{BootStep, Client, Engine};

const START_DEADLINE: Duration = Duration::from_mins(1);

/// Settings as in the guest, except for the port proxy: Debian's is cut from the image, and ours needs the agent.
const DOCKERD: &str = r#"{"containerd": "/run/containerd/containerd.sock", "default-runtime": "runc",
"features": {"buildkit": true}, "hosts": ["unix:///run/docker.sock"], "pidfile": "/run/docker.pid",
"storage-driver": "overlay2", "userland-proxy": false}
"#;

const CONTAINERD: &str = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
    [grpc]\n  address = \"/run/containerd/containerd.sock\"\n";

/// Arguments: the unpacked packages, our directory. Ends when its standard input does.
const SCRIPT: &str = r#"set -e
tree=$1 own=$2 root=$2/root
mount --make-rprivate /
ip link set lo up
mount --bind "$tree" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
# A host that has both versions of control groups, with controllers in each, shows version 1 alone.
umount "$root/sys/fs/cgroup/unified" 2>/dev/null || true
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount --bind "$own/run" "$root/run"
mount --bind "$own/docker-data" "$root/var/lib/docker"
mount --bind "$own/containerd-data" "$root/var/lib/containerd"
firewall=
chroot "$root" iptables -t nat -L -n >/dev/null 2>&1 || firewall=--iptables=false
echo "$firewall" > "$own/firewall"
chroot "$root" containerd --config /run/containerd.toml 2> "$own/containerd.log" &
containerd=$!
NOTIFY_SOCKET=/run/notify.sock chroot "$root" dockerd --config-file /run/dockerd.json $firewall 2> "$own/dockerd.log" &
dockerd=$!
read -r _ || true
kill -TERM $dockerd
wait $dockerd || true
kill -TERM $containerd
wait $containerd || true
"#;

/// dockerd and containerd on the host.
#[derive(Debug)]
pub(crate) struct Native {
    tree: PathBuf,
    client: Client,
    notices: UnixDatagram,
    running: Option<OwnChild>,
    directory: PathBuf,
}

impl Native {
    /// Directories and settings; nothing runs yet. The packages are those `images/build` unpacked for the image of
    /// `machine`.
    pub(crate) fn prepare(machine: &Machine) -> Result<Self> {
        if !geteuid().is_root() {
            bail!("needs root");
        }
        let images = machine.image().parent().context("the image has no directory beside it")?;
        let tree = images.join(".work/tree");
        if !tree.join("usr/sbin/dockerd").is_file() {
            bail!("the unpacked packages are missing: {} (make image leaves them)", tree.display());
        }
        // In the machine's directory, which is always removed at the end.
        let directory = machine.home().join("native");
        fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let own = directory.as_path();
        for name in ["root", "run", "docker-data", "containerd-data"] {
            fs::create_dir(own.join(name))?;
        }
        fs::write(own.join("run/dockerd.json"), DOCKERD)?;
        fs::write(own.join("run/containerd.toml"), CONTAINERD)?;
        let notices = UnixDatagram::bind(own.join("run/notify.sock")).context("cannot listen for dockerd's notice")?;
        notices.set_read_timeout(Some(Duration::from_millis(500)))?;
        let client = Client::new(machine.image(), own, own.join("run/docker.sock"))?;
        Ok(Self { tree, client, notices, running: None, directory })
    }

    /// Waits until dockerd reports that it is ready, as it does to systemd.
    fn wait_for_notice(&self, child: &mut OwnChild) -> Result<()> {
        let begin = Instant::now();
        let mut notice = [0; 4096];
        loop {
            if let Ok(length) = self.notices.recv(&mut notice)
                && notice[..length].starts_with(b"READY=1")
            {
                return Ok(());
            }
            let log = || fs::read_to_string(self.directory.join("dockerd.log")).unwrap_or_default();
            child.check().with_context(log)?;
            if begin.elapsed() > START_DEADLINE {
                bail!("dockerd was not ready within {} s: {}", START_DEADLINE.as_secs(), log());
            }
        }
    }
}

impl Engine for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn description(&self) -> String {
        let firewall = fs::read_to_string(self.directory.join("firewall")).unwrap_or_default();
        let firewall = if firewall.trim().is_empty() { "" } else { ", without iptables: the host's kernel has none" };
        format!("Debian's dockerd on the host's kernel{firewall}")
    }

    fn start(&mut self) -> Result<()> {
        let own = &self.directory;
        let namespaces = ["-m", "-n", "-p", "--fork", "--kill-child", "sh", "-c", SCRIPT, "sh"];
        let mut child = OwnChild::start("dockerd", Path::new("unshare"), &own.join("script.log"), |command| {
            command.args(namespaces).arg(&self.tree).arg(own);
        })?;
        self.wait_for_notice(&mut child)?;
        self.running = Some(child);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        if let Some(mut child) = self.running.take() {
            child.wait()?;
        }
        Ok(())
    }

    fn docker(&self, arguments: &[&str]) -> Command {
        self.client.command(arguments)
    }

    fn boot_steps(&self) -> Result<Vec<BootStep>> {
        Ok(Vec::new())
    }
}
