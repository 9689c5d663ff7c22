//! `make bench-kvm`: our monitor against QEMU's on the same KVM, with the same guest. docs/benchmarks.md explains how
//! each figure is measured; this program writes the figures there.
//!
//! It has two halves. `measure` runs where KVM is, usually in an emulated machine (`tests/nested/run`): [`monitor`]
//! starts guests, [`console`] waits for their output, [`cost`] reads their cost, [`measure`] runs the rounds and
//! [`restore`] the suspended machine. `publish` runs on the computer itself, on the [`report`] of the first half.

mod console;
mod cost;
mod measure;
mod monitor;
mod options;
mod report;
mod restore;

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use rorqual_tests::{Run, document};

use options::{Options, Task};
use report::Report;

const BEGIN: &str = "<!-- kvm figures: begin, written by `make bench-kvm` -->";
const END: &str = "<!-- kvm figures: end -->";

fn main() -> Result<()> {
    match Task::from_arguments(std::env::args().skip(1))? {
        Task::Measure(options) => measure(&options),
        Task::Publish(report, load) => publish(&report, load),
    }
}

fn measure(options: &Options) -> Result<()> {
    let processor = fs::read_to_string("/proc/cpuinfo")?;
    let processor = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let qemu = Command::new("qemu-system-x86_64").arg("--version").output_text()?;
    let mut report = Report {
        runs: options.runs,
        complete: options.is_complete(),
        qemu: qemu.lines().next().unwrap_or("QEMU").to_owned(),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        processor: processor.map_or("?", |(_, name)| name).to_owned(),
        load_before: None,
        monitors: Vec::new(),
        restore: None,
        not_measured: Vec::new(),
    };
    if options.wants("boot") || options.wants("disk") {
        let directory = std::env::temp_dir().join("bench");
        report.monitors = measure::Bench::prepare(&options.image, &options.files, &directory)?.measure(options)?;
        // The next machine needs its memory.
        fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    if options.wants("restore") {
        match restore::measure(options.runs) {
            Ok(restore) => report.restore = Some(restore),
            Err(error) => report.not_measured.push(format!("restore: {error:#}")),
        }
    }
    fs::write(&options.report, serde_json::to_string(&report)? + "\n")
        .with_context(|| format!("cannot write {}", options.report.display()))
}

fn publish(path: &Path, load: f64) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut report: Report = serde_json::from_str(&text).with_context(|| format!("{} is no report", path.display()))?;
    report.load_before = Some(load);
    fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    let date = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output_text()?;
    let processors = std::thread::available_parallelism()?;
    let computer = format!("{processors} CPUs, {}", Command::new("uname").arg("-sr").output_text()?);
    let tables = report.to_markdown(&date, &computer);
    println!("{tables}");
    if report.complete {
        document::write_between_marks(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md"),
            BEGIN,
            END,
            &tables,
        )?;
    } else {
        eprintln!("bench-kvm: only a part was measured: docs/benchmarks.md is left as it is");
    }
    Ok(())
}
