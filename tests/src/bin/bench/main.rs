//! `make bench`: Rorqual against the cost of the same containers without it. docs/benchmarks.md explains how each
//! figure is measured; this program writes the figures there.
//!
//! [`engine`] is a measured engine, run in three ways ([`uml`], [`qemu`], [`native`]); [`measure`] takes the times,
//! [`ports`] the rates of published ports, [`idle`] the cost of an idle machine; [`goals`] judges and [`report`]
//! writes.

mod bridge;
mod engine;
mod goals;
mod host;
mod idle;
mod interrupt;
mod material;
mod measure;
mod native;
mod options;
mod ports;
mod qemu;
mod report;
mod uml;

use std::path::Path;

use anyhow::{Context, Result};

use engine::Engine;
use options::Options;
use report::{NotMeasured, Report};

fn main() -> Result<()> {
    let options = Options::from_arguments()?;
    let mut uml = uml::Uml::prepare()?;
    interrupt::stop_when_interrupted(
        uml.machine().rorqual(["quit", "--stop-machines", "-q"]),
        uml.machine().home().to_owned(),
    )?;
    let host = host::Host::look(uml.machine())?;
    if host.load_before > 0.5 {
        eprintln!("bench: the host is busy (load {:.2}): these figures measure its other work too", host.load_before);
    }
    let image = material::image(uml.machine())?;
    let mut report = Report {
        host,
        runs: options.runs,
        engines: Vec::new(),
        ratios: Vec::new(),
        not_measured: Vec::new(),
        ports: Vec::new(),
        idle: None,
        goals: Vec::new(),
    };

    if options.wants("uml") {
        report.engines.push(measure::times(&mut uml, &image, options.runs).context("cannot measure uml")?);
    }
    for (name, prepare) in BASELINES {
        if options.wants(name) {
            let times = prepare(&uml).and_then(|mut engine| measure::times(engine.as_mut(), &image, options.runs));
            match times {
                Ok(times) => report.engines.push(times),
                Err(error) => {
                    eprintln!("bench: {name} is not measured: {error:?}");
                    let reason = format!("{error:#}").lines().next().unwrap_or_default().to_owned();
                    report.not_measured.push(NotMeasured { name: name.to_owned(), reason });
                }
            }
        }
    }
    if options.wants("ports") || options.wants("idle") {
        uml.start()?;
        if options.wants("ports") {
            material::import(&uml, &image)?;
            report.ports = ports::measure(&uml, options.runs).context("cannot measure published ports")?;
        }
        if options.wants("idle") {
            // A fresh machine, because caches filled by the ports are not part of an idle machine's cost.
            uml.stop()?;
            uml.start()?;
            report.idle = Some(idle::watch(uml.machine(), options.idle_seconds)?);
        }
        uml.stop()?;
    }

    report.ratios = report::ratios(&report.engines);
    report.goals = goals::judge(&report.engines, report.idle.as_ref());
    println!("{}", report.to_markdown());
    let programs = uml.machine().programs();
    report.write_json(&programs.parent().unwrap_or(programs).join("bench.json"))?;
    if options.is_complete() {
        report.write_between_marks(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md"))?;
    } else {
        eprintln!("bench: only a part was measured: docs/benchmarks.md is left as it is");
    }
    Ok(())
}

type Prepare = fn(&uml::Uml) -> Result<Box<dyn Engine>>;

const BASELINES: [(&str, Prepare); 2] = [
    ("tcg", |uml| Ok(Box::new(qemu::Qemu::prepare(uml.machine())?))),
    ("native", |uml| Ok(Box::new(native::Native::prepare(uml.machine())?))),
];
