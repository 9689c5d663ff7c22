//! A running product: how it attaches to the kernel, and its way into the guest.

use std::{
    fs,
    io::{self, BufRead, BufReader, IoSlice, Write},
    net::{Ipv4Addr, TcpListener},
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{ControlMessage, MsgFlags, Shutdown, sendmsg, shutdown};
use rorqual_tests::{child::OwnChild, eventually, host_port};

use crate::{
    kernel::{self, Kernel},
    options::Options,
    product::{GVPROXY_MTU, Product},
};

/// The address of gvproxy's own lease.
const GVPROXY_MAC: &str = "5a:94:ef:e4:0c:ee";

/// A host port that leads to a guest port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WayIn {
    pub(crate) host: u16,
    pub(crate) guest: u16,
}

/// A running product with its guest's kernel; dropping it ends both.
pub(crate) struct Running {
    product: Product,
    directory: PathBuf,
    /// The kernel must end first.
    kernel: Option<Kernel>,
    gateway: OwnChild,
    _relay: Option<OwnChild>,
    /// Rorqual's published ports.
    _doors: Vec<Door>,
}

impl Running {
    /// Starts it in `directory`, with the kernel parameters `command_line`.
    pub(crate) fn start(
        product: Product,
        options: &Options,
        directory: &Path,
        command_line: &str,
        ways: &[WayIn],
    ) -> Result<Self> {
        match product {
            Product::Rorqual => rorqual(options, directory, command_line, ways),
            Product::Passt => passt(options, directory, command_line, ways),
            Product::Gvproxy => gvproxy(options, directory, command_line, ways),
            Product::Loopback => anyhow::bail!("the loopback address has no guest"),
        }
        .with_context(|| format!("--- logs of {} and its guest\n{}", product.name(), words(directory)))
    }

    /// Fails if one of its processes has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.gateway.check()?;
        self.kernel.as_mut().map_or(Ok(()), Kernel::check)
    }

    /// The logs of the product and its guest.
    pub(crate) fn words(&self) -> String {
        format!("--- logs of {} and its guest\n{}", self.product.name(), words(&self.directory))
    }

    /// Anonymous resident memory of the gateway's process, in bytes. Its mapping of guest memory is not anonymous.
    pub(crate) fn memory(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.gateway.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib: f64 = line.and_then(|line| line.split_whitespace().next()).context("no RssAnon")?.parse()?;
        Ok(kib * 1024.0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kernel.take();
    }
}

/// The last lines of every log.
fn words(directory: &Path) -> String {
    let logs = ["gateway.log", "relay.log", "kernel.log", "console/console.log"];
    let tail = |name: &str| {
        let text = String::from_utf8_lossy(&fs::read(directory.join(name)).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        format!("{name}:\n{}\n", lines[lines.len().saturating_sub(20)..].join("\n"))
    };
    logs.map(tail).concat()
}

/// The monitor as the daemon starts it, without the daemon.
fn rorqual(options: &Options, directory: &Path, command_line: &str, ways: &[WayIn]) -> Result<Running> {
    let control = directory.join("control.sock");
    let configuration = serde_json::json!({
        "version": 1, "name": "bench", "accelerator": "uml", "cpus": 1, "memory_mib": kernel::MEMORY_MIB,
        "kernel": {
            "path": kernel::program(options), "initramfs": directory.join("initramfs"), "command_line": command_line,
        },
        "net": {"subnet": "198.19.64.0/24", "host_access": true, "block_link_local": true},
        "console_log": directory.join("console/console.log"), "control_socket": control,
    });
    let path = directory.join("vmm.json");
    fs::write(&path, configuration.to_string())?;
    let mut gateway = OwnChild::start("rorqual-vmm", &options.monitor, &directory.join("gateway.log"), |command| {
        command.arg("run").arg("--config").arg(&path);
    })?;
    eventually("the monitor answers", || {
        if gateway.check().is_err() {
            return Some(Err(anyhow::anyhow!("the monitor has ended")));
        }
        UnixStream::connect(&control).ok().map(|_| Ok(()))
    })??;
    let doors = ways.iter().map(|way| Door::open(&control, *way)).collect::<Result<_>>()?;
    let directory = directory.to_owned();
    Ok(Running { product: Product::Rorqual, directory, kernel: None, gateway, _relay: None, _doors: doors })
}

/// Accepts connections and hands each to the monitor, as the daemon does for clients of other computers, until dropped.
struct Door {
    listener: Arc<TcpListener>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Door {
    fn open(control: &Path, way: WayIn) -> Result<Self> {
        let listener = Arc::new(TcpListener::bind((Ipv4Addr::LOCALHOST, way.host))?);
        let control = BufReader::new(UnixStream::connect(control)?);
        let accepting = Arc::clone(&listener);
        let thread = Some(thread::spawn(move || hand_over(&accepting, control, way)));
        Ok(Self { listener, thread })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Wakes the thread: such a socket accepts nothing.
        let shut = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        let ended = self.thread.take().map(JoinHandle::join);
        if let (Err(error), _) | (Ok(()), Some(Ok(Err(error)))) = (shut.map_err(anyhow::Error::from), ended) {
            eprintln!("bench-net: rorqual's way in ended badly: {error:#}");
        }
    }
}

fn hand_over(listener: &TcpListener, mut control: BufReader<UnixStream>, way: WayIn) -> Result<()> {
    let guest = Product::Rorqual.link().address.split('/').next().unwrap_or_default();
    let request =
        serde_json::json!({"command": "publish-connection", "id": way.host, "to": format!("{guest}:{}", way.guest)});
    let request = format!("{request}\n");
    let mut answer = String::new();
    loop {
        let connection = match listener.accept() {
            Ok((connection, _)) => connection,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let descriptors = [connection.as_raw_fd()];
        let messages = [ControlMessage::ScmRights(&descriptors)];
        let stream = control.get_mut();
        let line = [IoSlice::new(request.as_bytes())];
        let sent = sendmsg::<()>(stream.as_raw_fd(), &line, &messages, MsgFlags::empty(), None)?;
        stream.write_all(&request.as_bytes()[sent..])?;
        answer.clear();
        control.read_line(&mut answer)?;
        ensure!(answer.starts_with("{\"ok\""), "the monitor does not take a connection: {answer}");
    }
}

/// Over vhost-user, behind the relay that a User Mode Linux kernel needs.
fn passt(options: &Options, directory: &Path, command_line: &str, ways: &[WayIn]) -> Result<Running> {
    let (device, listen) = (directory.join("passt.sock"), directory.join("card.sock"));
    let link = Product::Passt.link();
    let (address, bits) = link.address.split_once('/').context("an address without its prefix")?;
    let gateway =
        OwnChild::start("passt", &options.material.join("bin/passt"), &directory.join("gateway.log"), |command| {
            command.args(["--foreground", "--vhost-user", "--ipv4-only", "--address", address, "--netmask", bits]);
            command.args(["--gateway", link.gateway, "--mtu", &link.mtu.to_string()]).arg("--socket").arg(&device);
            if nix::unistd::getuid().is_root() {
                // As root, passt would become nobody, who cannot create a socket here.
                command.args(["--runas", "0"]);
            }
            for WayIn { host, guest } in ways {
                command.args(["--tcp-ports", &format!("127.0.0.1/{host}:{guest}")]);
            }
        })?;
    eventually("passt listens", || device.exists().then_some(()))?;
    let relay = OwnChild::start("the relay", &options.monitor, &directory.join("relay.log"), |command| {
        command.args(["device", "relay", "--listen"]).arg(&listen).arg("--device").arg(&device);
    })?;
    eventually("the relay listens", || listen.exists().then_some(()))?;
    let card = format!("virtio_uml.device={}:1", listen.display());
    let kernel = Some(kernel::start(options, directory, &[card], command_line)?);
    let directory = directory.to_owned();
    Ok(Running { product: Product::Passt, directory, kernel, gateway, _relay: Some(relay), _doors: Vec::new() })
}

/// Through User Mode Linux's own vector driver and gvproxy's socket for it.
fn gvproxy(options: &Options, directory: &Path, command_line: &str, ways: &[WayIn]) -> Result<Running> {
    let (card, services) = (directory.join("card.sock"), directory.join("services.sock"));
    let program = options.material.join("bin/gvproxy");
    let unused = host_port::free()?.to_string();
    let gateway = OwnChild::start("gvproxy", &program, &directory.join("gateway.log"), |command| {
        command.arg("-listen-bess").arg(format!("unixpacket://{}", card.display()));
        command.arg("-listen").arg(format!("unix://{}", services.display()));
        command.args(["-mtu", &GVPROXY_MTU.to_string(), "-ssh-port", &unused]);
    })?;
    eventually("gvproxy listens", || (card.exists() && services.exists()).then_some(()))?;
    for way in ways {
        expose(&services, *way)?;
    }
    let device =
        format!("vec0:transport=bess,dst={},depth=128,gro=1,mac={GVPROXY_MAC},mtu={GVPROXY_MTU}", card.display());
    let kernel = Some(kernel::start(options, directory, &[device], command_line)?);
    let directory = directory.to_owned();
    Ok(Running { product: Product::Gvproxy, directory, kernel, gateway, _relay: None, _doors: Vec::new() })
}

/// Asks gvproxy to forward a port.
fn expose(services: &Path, way: WayIn) -> Result<()> {
    let guest = Product::Gvproxy.link().address.split('/').next().unwrap_or_default();
    let body = serde_json::json!({
        "local": format!("127.0.0.1:{}", way.host), "remote": format!("{guest}:{}", way.guest), "protocol": "tcp",
    })
    .to_string();
    let mut stream = UnixStream::connect(services)?;
    write!(
        stream,
        "POST /services/forwarder/expose HTTP/1.1\r\nHost: gvproxy\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut status = String::new();
    BufReader::new(stream).read_line(&mut status)?;
    ensure!(status.starts_with("HTTP/1.1 200"), "gvproxy forwards nothing: {status}");
    Ok(())
}
