//! A guest behind a product, driven over one connection that the guest opens to the host.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use rorqual_tests::{load::Task, wait::within};

use crate::{
    options::Options,
    product::Product,
    running::{Running, WayIn},
};

/// Deadline from the start of a kernel to its guest's call.
const START_PATIENCE: Duration = Duration::from_mins(1);
/// Deadline of a task.
const TASK_PATIENCE: Duration = Duration::from_mins(3);

/// A guest that waits for tasks.
pub(crate) struct Guest {
    pub(crate) running: Running,
    stream: BufReader<TcpStream>,
}

impl Guest {
    /// Starts it in `directory`, which is emptied, and waits for its call.
    pub(crate) fn start(product: Product, options: &Options, directory: &Path, ways: &[WayIn]) -> Result<Self> {
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        fs::create_dir_all(directory.join("console"))?;
        make_initramfs(options, &directory.join("initramfs")).context("cannot make the initial file system")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let link = product.link();
        let command_line = format!(
            "rdinit=/bench-net-init bench.link={} bench.mtu={} bench.address={} bench.gateway={} bench.control={}:{}",
            link.name,
            link.mtu,
            link.address,
            link.gateway,
            link.host,
            listener.local_addr()?.port()
        );
        let mut running = Running::start(product, options, directory, &command_line, ways)?;
        let called = within(START_PATIENCE, || match listener.accept() {
            Ok((stream, _)) => Some(Ok(stream)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => running.check().err().map(Err),
            Err(error) => Some(Err(error.into())),
        });
        let stream =
            called.unwrap_or_else(|| Err(anyhow!("the guest does not call"))).with_context(|| running.words())?;
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TASK_PATIENCE))?;
        Ok(Self { running, stream: BufReader::new(stream) })
    }

    /// Has the guest perform `task`.
    pub(crate) fn perform(&mut self, task: &Task) -> Result<Vec<f64>> {
        let mut answer = String::new();
        let asked = writeln!(self.stream.get_mut(), "{}", serde_json::to_string(task)?);
        asked.and_then(|()| self.stream.read_line(&mut answer)).with_context(|| self.running.words())?;
        let answer: Result<Vec<f64>, String> = serde_json::from_str(&answer)
            .with_context(|| format!("the guest answered {answer:?}\n{}", self.running.words()))?;
        answer.map_err(|reason| anyhow!("in the guest: {reason}"))
    }
}

/// The product's initial file system, with the benchmark's files appended.
fn make_initramfs(options: &Options, path: &Path) -> Result<()> {
    let mut all = fs::read(options.image.join("uml/initramfs.img"))?;
    // An uncompressed archive must start at a multiple of four.
    all.resize(all.len().next_multiple_of(4), 0);
    all.extend(fs::read(&options.guest)?);
    Ok(fs::write(path, all)?)
}
