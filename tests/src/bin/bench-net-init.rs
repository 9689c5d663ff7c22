//! The first process of a guest of `make bench-net`: the same for every product.
//!
//! The kernel's command line has its settings:
//! `bench.link=eth0 bench.mtu=1500 bench.address=10.0.0.2/24 bench.gateway=10.0.0.1 bench.control=10.0.0.254:4000`. It
//! configures the link, connects to the host at `bench.control`, and performs the tasks it receives there as lines of
//! JSON. It answers each with a line, `{"Ok":[figure,…]}` or `{"Err":"reason"}`. It ends with the benchmark, which ends
//! its kernel.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    process::{self, Command},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, setrlimit};
use rorqual_tests::{
    guest::{load_modules, mount_kernel},
    load::{Node, Task},
    wait::within,
};

/// A descriptor for each connection that is held.
const DESCRIPTORS: u64 = 65_536;
/// Time the link's driver and the host's end may take to appear.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() {
    if process::id() != 1 {
        println!("bench-net-init: the first process of a guest of make bench-net; it does nothing as any other");
        return;
    }
    if let Err(error) = work() {
        println!("bench-net-init failed: {error:#}");
    }
    loop {
        thread::park();
    }
}

fn work() -> Result<()> {
    for (kind, at) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/tmp")] {
        mount_kernel(kind, at)?;
    }
    load_modules()?;
    setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, DESCRIPTORS)?;
    let line = fs::read_to_string("/proc/cmdline")?;
    let words: HashMap<&str, &str> =
        line.split_whitespace().filter_map(|word| word.strip_prefix("bench.")?.split_once('=')).collect();
    let word = |name: &str| words.get(name).copied().with_context(|| format!("bench.{name} is not told"));
    let link = word("link")?;
    within(PATIENCE, || fs::exists(format!("/sys/class/net/{link}")).ok().filter(|there| *there))
        .with_context(|| format!("there is no {link}"))?;
    ip(&["link", "set", "lo", "up"])?;
    ip(&["link", "set", link, "mtu", word("mtu")?, "up"])?;
    ip(&["address", "add", word("address")?, "dev", link])?;
    ip(&["route", "add", "default", "via", word("gateway")?])?;
    let control = word("control")?;
    let stream = within(PATIENCE, || TcpStream::connect(control).ok())
        .with_context(|| format!("the benchmark cannot be reached at {control}"))?;
    stream.set_nodelay(true)?;
    serve(&stream)
}

fn ip(arguments: &[&str]) -> Result<()> {
    let status = Command::new("/bin/busybox").arg("ip").args(arguments).status().context("cannot start busybox")?;
    ensure!(status.success(), "ip {arguments:?} ended with {status}");
    Ok(())
}

fn serve(mut stream: &TcpStream) -> Result<()> {
    let mut node = Node::default();
    for line in BufReader::new(stream).lines() {
        let task: Task = serde_json::from_str(&line?).context("a task that is none")?;
        let answer: Result<Vec<f64>, String> = node.perform(&task).map_err(|error| format!("{error:#}"));
        writeln!(stream, "{}", serde_json::to_string(&answer)?)?;
    }
    Ok(())
}
