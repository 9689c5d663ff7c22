//! `make bench-net`: Rorqual's gateway against passt and gvproxy, each behind the network card of the same kernel and
//! guest, and against the host's own loopback. docs/benchmarks.md explains how each figure is measured; this program
//! writes the figures there.
//!
//! [`product`] starts the compared products, [`kernel`] the guest behind each, [`guest`] drives the guest; [`measure`]
//! runs the rounds, [`rows`] lists the comparisons, [`report`] writes them.

mod guest;
mod kernel;
mod measure;
mod options;
mod product;
mod report;
mod rows;
mod running;

use std::{fs, path::Path, process::Command};

use anyhow::Result;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rorqual_tests::{Run, document};

use options::Options;
use report::Report;

const BEGIN: &str = "<!-- net figures: begin, written by `make bench-net` -->";
const END: &str = "<!-- net figures: end -->";
/// A run that begins with a higher load reports it.
const IDLE_LOAD: f64 = 0.5;

fn main() -> Result<()> {
    let options = Options::from_arguments(std::env::args().skip(1))?;
    // A descriptor for each connection that a guest holds.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let load_before = load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN);
    if load_before > IDLE_LOAD {
        eprintln!("bench-net: the computer is busy (load {load_before}): these figures measure its other work too");
    }
    let report = Report {
        date: Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output_text()?,
        processors: std::thread::available_parallelism()?.get(),
        kernel: Command::new("uname").arg("-sr").output_text()?,
        load_before,
        runs: options.runs,
        seconds: options.seconds,
        versions: fs::read_to_string(options.material.join("versions"))?.lines().map(str::to_owned).collect(),
        networks: measure::measure(&options)?,
    };
    let tables = report.to_markdown();
    println!("{tables}");
    fs::write(&options.report, serde_json::to_string_pretty(&report)? + "\n")?;
    if options.is_complete() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md");
        document::write_between_marks(&page, BEGIN, END, &tables)?;
    } else {
        eprintln!("bench-net: only a part was measured: docs/benchmarks.md is left as it is");
    }
    Ok(())
}
