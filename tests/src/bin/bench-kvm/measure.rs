//! The measurements, in rounds: each round runs every monitor once, so that changes on the computer affect all of them.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rorqual_tests::Series;
use serde::Deserialize;

use crate::{
    console::ConsoleWatch,
    cost::{self, Exits},
    monitor::{Disk, Guest, Monitor, Running},
    options::Options,
    report::{DiskFigures, Figures},
};

/// Deadline for a guest to reach its agent.
const BOOT_PATIENCE: Duration = Duration::from_mins(8);
/// Deadline for fio with its four jobs of 2.5 s.
const FIO_PATIENCE: Duration = Duration::from_secs(100);
/// Restarts of a guest that dies while using its disk. QEMU's guests occasionally die where virtualization is emulated.
const FIO_ATTEMPTS: usize = 6;
/// Size of the data disk.
const DISK_BYTES: u64 = 256 << 20;
const AGENT_COMMAND_LINE: &str = "rorqual.machine=bench rorqual.log=info";

/// The image and the disks.
pub(crate) struct Bench {
    image: PathBuf,
    files: PathBuf,
    directory: PathBuf,
}

/// Figures gathered of one monitor.
#[derive(Default)]
struct Gathered {
    init: Vec<f64>,
    init_exits: Vec<f64>,
    agent: Vec<f64>,
    agent_exits: Vec<f64>,
    agent_exits_to_monitor: Vec<f64>,
    overhead: Vec<f64>,
    disk: Vec<Job>,
    disk_deaths: usize,
}

/// One job of fio, as `bench-init` reports it.
#[derive(Clone, Debug, Deserialize)]
struct Job {
    name: String,
    iops: f64,
    bytes: f64,
}

impl Bench {
    /// Creates the disk of the boots: formatted and clean.
    pub(crate) fn prepare(image: &Path, files: &Path, directory: &Path) -> Result<Self> {
        let bench = Self { image: image.to_owned(), files: files.to_owned(), directory: directory.to_owned() };
        fs::create_dir_all(directory)?;
        bench.make_initramfs().context("cannot make the initial file system")?;
        File::create(bench.pristine())?.set_len(DISK_BYTES)?;
        eprintln!("bench-kvm: a first boot formats the data disk");
        let guest =
            bench.guest("initramfs.img", AGENT_COMMAND_LINE, vec![bench.root(), writable_data(bench.pristine())]);
        let mut running = Running::start(Monitor::Rorqual, &guest, &bench.directory.join("guest"))?;
        running.wait_for_agent(BOOT_PATIENCE)?;
        let watch = ConsoleWatch::new(&running)?;
        while !running.console().contains("boot: data at") {
            watch.wait(&mut running, BOOT_PATIENCE)?;
        }
        let mut control = UnixStream::connect(running.control())?;
        control.write_all(b"{\"command\":\"stop\"}\n")?;
        let mut answer = String::new();
        BufReader::new(control).read_line(&mut answer)?;
        ensure!(answer.contains("\"ok\""), "the machine does not stop: {answer}");
        running.wait_for_end(BOOT_PATIENCE)?;
        Ok(bench)
    }

    /// The product's initial file system, with `/bench-init` appended.
    fn make_initramfs(&self) -> Result<()> {
        let mut all = fs::read(self.image.join("kvm/initramfs.img"))?;
        // An uncompressed archive must start at a multiple of four.
        all.resize(all.len().next_multiple_of(4), 0);
        all.extend(fs::read(self.files.join("bench-init.cpio"))?);
        Ok(fs::write(self.directory.join("bench-initramfs.img"), all)?)
    }

    fn pristine(&self) -> PathBuf {
        self.directory.join("pristine.img")
    }

    fn root(&self) -> Disk {
        Disk { serial: "root", path: self.image.join("root.erofs"), read_only: true }
    }

    fn guest(&self, initramfs: &str, command_line: &str, disks: Vec<Disk>) -> Guest {
        let own = self.directory.join(initramfs);
        Guest {
            kernel: self.image.join("kvm/vmlinux"),
            initramfs: if own.exists() { own } else { self.image.join("kvm").join(initramfs) },
            command_line: command_line.to_owned(),
            disks,
        }
    }

    /// A copy of the data disk as it was after the first boot.
    fn data(&self) -> Result<Disk> {
        let path = self.directory.join("data.img");
        fs::copy(self.pristine(), &path).context("cannot copy the data disk")?;
        Ok(writable_data(path))
    }

    fn start(&self, monitor: Monitor, guest: &Guest) -> Result<Running> {
        Running::start(monitor, guest, &self.directory.join("guest"))
    }

    /// Measures everything, `runs` times, after one boot of each monitor that does not count.
    pub(crate) fn measure(&self, options: &Options) -> Result<Vec<Figures>> {
        let mut all: Vec<(Monitor, Gathered)> = Monitor::ALL.map(|monitor| (monitor, Gathered::default())).into();
        if options.wants("boot") {
            for round in 0..=options.runs {
                for (monitor, gathered) in &mut all {
                    let name = monitor.name();
                    let counted = (round > 0).then_some(&mut *gathered);
                    self.boot_to_init(*monitor, counted).with_context(|| format!("{name}, to init"))?;
                    if round > 0 {
                        self.boot_to_agent(*monitor, gathered).with_context(|| format!("{name}, to the agent"))?;
                    }
                    eprintln!("bench-kvm: boots: round {round} of {}: {name} done", options.runs);
                }
            }
        }
        if options.wants("disk") {
            for round in 1..=options.runs {
                for (monitor, gathered) in all.iter_mut().filter(|(monitor, _)| *monitor != Monitor::Q35) {
                    let name = monitor.name();
                    let (jobs, deaths) = self.fio_that_lives(*monitor).with_context(|| format!("{name}, fio"))?;
                    gathered.disk.extend(jobs);
                    gathered.disk_deaths += deaths;
                    eprintln!("bench-kvm: disk: round {round} of {}: {name} done", options.runs);
                }
            }
        }
        Ok(all.into_iter().map(|(monitor, gathered)| gathered.figures(monitor)).collect())
    }

    fn boot_to_init(&self, monitor: Monitor, gathered: Option<&mut Gathered>) -> Result<()> {
        let disks = vec![self.root(), self.data()?];
        let guest = self.guest("bench-initramfs.img", "rdinit=/bench-init", disks);
        let mut running = self.start(monitor, &guest)?;
        let watch = ConsoleWatch::new(&running)?;
        let (reached, _) = watch.line(&mut running, "bench-init", BOOT_PATIENCE)?;
        let exits = Exits::of(running.process())?;
        if let Some(gathered) = gathered {
            gathered.init.push((reached - running.begun).as_secs_f64());
            gathered.init_exits.push(precise(exits.guest));
        }
        Ok(())
    }

    fn boot_to_agent(&self, monitor: Monitor, gathered: &mut Gathered) -> Result<()> {
        let guest = self.guest("initramfs.img", AGENT_COMMAND_LINE, vec![self.root(), self.data()?]);
        let mut running = self.start(monitor, &guest)?;
        let time = running.wait_for_agent(BOOT_PATIENCE)?;
        let exits = Exits::of(running.process())?;
        gathered.agent.push(time.as_secs_f64());
        gathered.agent_exits.push(precise(exits.guest));
        gathered.agent_exits_to_monitor.push(precise(exits.to_monitor));
        gathered.overhead.push(precise(cost::overhead(running.process())?) / f64::from(1 << 20));
        Ok(())
    }

    /// The figures of the first attempt that succeeds, and how many guests died before.
    fn fio_that_lives(&self, monitor: Monitor) -> Result<(Vec<Job>, usize)> {
        let mut deaths = 0;
        loop {
            match self.fio(monitor) {
                Ok(jobs) => return Ok((jobs, deaths)),
                Err(error) if deaths + 1 < FIO_ATTEMPTS => {
                    deaths += 1;
                    eprintln!("bench-kvm: disk: a guest of {} died: {error:#}", monitor.name());
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn fio(&self, monitor: Monitor) -> Result<Vec<Job>> {
        let tools = Disk { serial: "fio", path: self.files.join("fio.erofs"), read_only: true };
        let guest =
            self.guest("bench-initramfs.img", "rdinit=/bench-init bench=fio", vec![self.root(), self.data()?, tools]);
        let mut running = self.start(monitor, &guest)?;
        let watch = ConsoleWatch::new(&running)?;
        let (_, line) = watch.line(&mut running, "bench-fio ", FIO_PATIENCE)?;
        serde_json::from_str(&line).with_context(|| format!("bench-init printed {line:?}"))
    }
}

impl Gathered {
    fn figures(self, monitor: Monitor) -> Figures {
        let series = |all: Vec<f64>| (!all.is_empty()).then(|| Series::of(all));
        let mut jobs: Vec<String> = Vec::new();
        for job in &self.disk {
            if !jobs.contains(&job.name) {
                jobs.push(job.name.clone());
            }
        }
        let of = |name: &str, pick: fn(&Job) -> f64| {
            Series::of(self.disk.iter().filter(|job| job.name == name).map(pick).collect())
        };
        let disk = jobs.iter().map(|name| DiskFigures {
            job: name.clone(),
            iops: of(name, |job| job.iops),
            mib_per_second: of(name, |job| job.bytes / f64::from(1 << 20)),
        });
        let disk = disk.collect();
        Figures {
            monitor: monitor.name().to_owned(),
            init: series(self.init),
            init_exits: series(self.init_exits),
            agent: series(self.agent),
            agent_exits: series(self.agent_exits),
            agent_exits_to_monitor: series(self.agent_exits_to_monitor),
            overhead_mib: series(self.overhead),
            disk,
            disk_deaths: self.disk_deaths,
        }
    }
}

fn writable_data(path: PathBuf) -> Disk {
    Disk { serial: "data", path, read_only: false }
}

/// Counts here are far below 2^52.
#[expect(clippy::cast_precision_loss)]
fn precise(count: u64) -> f64 {
    count as f64
}
