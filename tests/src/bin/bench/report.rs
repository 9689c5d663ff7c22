//! The report: JSON, a table for people, and that table in the documentation.

use std::{fmt::Write, fs, path::Path};

use anyhow::{Context, Result};
use rorqual_tests::{
    Series,
    document::{self, table},
};
use serde::Serialize;

use crate::{
    goals::{Goal, precise},
    host::Host,
    idle::Idle,
    measure::Times,
    ports::{PortTimes, Unit},
};

const BEGIN: &str = "<!-- figures: begin, written by `make bench` -->";
const END: &str = "<!-- figures: end -->";

/// All results of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// The computer and the image.
    pub(crate) host: Host,
    /// Measurements of each thing.
    pub(crate) runs: usize,
    /// The measured engines; `uml` first.
    pub(crate) engines: Vec<Times>,
    /// The ratios of the engines' medians.
    pub(crate) ratios: Vec<Ratios>,
    /// The engines that could not be measured, and why.
    pub(crate) not_measured: Vec<NotMeasured>,
    /// Published ports.
    pub(crate) ports: Vec<PortTimes>,
    /// The idle machine.
    pub(crate) idle: Option<Idle>,
    /// Goals beside figures.
    pub(crate) goals: Vec<Goal>,
}

/// The ratios of one timed action.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ratios {
    /// The action.
    pub(crate) what: &'static str,
    /// How many times faster Rorqual is than the translator.
    pub(crate) tcg_over_uml: Option<f64>,
    /// How many times slower it is than the host's own kernel.
    pub(crate) uml_over_native: Option<f64>,
}

/// Picks the measurements of one thing.
type Pick = fn(&Times) -> &Series;

/// The timed actions, as the tables name them.
const TIMED: [(&str, Pick); 4] = [
    ("start to `docker version`", |times| &times.start),
    ("`docker run --rm`", |times| &times.run),
    ("`docker exec`", |times| &times.exec),
    ("`docker build`, 5 steps", |times| &times.build),
];

/// The ratios of every timed action that both sides measured.
pub(crate) fn ratios(engines: &[Times]) -> Vec<Ratios> {
    let ratio = |pick: Pick, above: &str, below: &str| {
        let median = |name: &str| engines.iter().find(|times| times.name == name).map(|times| pick(times).median);
        Some(median(above)? / median(below)?)
    };
    let of = |(what, pick): (&'static str, Pick)| Ratios {
        what,
        tcg_over_uml: ratio(pick, "tcg", "uml"),
        uml_over_native: ratio(pick, "uml", "native"),
    };
    TIMED.into_iter().map(of).collect()
}

/// A part that failed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NotMeasured {
    /// Its name.
    pub(crate) name: String,
    /// The reason, in one line.
    pub(crate) reason: String,
}

impl Report {
    /// Writes the JSON report.
    pub(crate) fn write_json(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Replaces the tables between the two marks of a document.
    pub(crate) fn write_between_marks(&self, path: &Path) -> Result<()> {
        document::write_between_marks(path, BEGIN, END, &self.to_markdown())
    }

    /// The tables.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text = self.preamble();
        text += &self.times();
        text += &self.boots();
        text += &self.published();
        text += &self.idle_costs();
        text += "\n### Goals\n\n";
        let verdict = |met| match met {
            Some(true) => "met",
            Some(false) => "**not met**",
            None => "not measured",
        };
        let rows = self.goals.iter().map(|goal| vec![goal.what.clone(), goal.figure.clone(), verdict(goal.met).into()]);
        text + &table(&["goal", "figure", ""], rows)
    }

    fn preamble(&self) -> String {
        let host = &self.host;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_owned();
        let (uml, kvm) = (text(&host.kernels["uml"]), text(&host.kernels["kvm"]));
        let runs = match self.runs {
            1 => "measured once".to_owned(),
            runs => format!("medians of {runs}"),
        };
        format!(
            "{}; {} CPUs ({}), {}; load before the run {:.2}; {runs}. Guest image {}: Docker {}, kernels \
             {uml} (uml) and {kvm} (QEMU).\n",
            host.date, host.cpus, host.cpu_model, host.kernel, host.load_before, host.image, host.docker
        )
    }

    fn times(&self) -> String {
        let mut head = vec![String::new()];
        head.extend(self.engines.iter().map(|times| times.description.clone()));
        head.extend(["tcg / uml".to_owned(), "uml / native".to_owned()]);
        let rows = TIMED.iter().zip(&self.ratios).map(|((name, pick), ratios)| {
            let ratio = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
            let mut row = vec![(*name).to_owned()];
            row.extend(self.engines.iter().map(|times| format!("{:.2} s", pick(times).median)));
            row.extend([ratio(ratios.tcg_over_uml), ratio(ratios.uml_over_native)]);
            row
        });
        let mut text = String::new();
        if !self.engines.is_empty() {
            text += "\n### Times\n\n";
            text += &table(&head.iter().map(String::as_str).collect::<Vec<_>>(), rows);
        }
        for missing in &self.not_measured {
            // Writing to a `String` cannot fail.
            writeln!(text, "\n`{}` was not measured: {}", missing.name, missing.reason).ok();
        }
        text
    }

    fn boots(&self) -> String {
        let booted: Vec<&Times> = self.engines.iter().filter(|times| !times.boot.is_empty()).collect();
        let Some(first) = booted.first() else { return String::new() };
        let mut head = vec!["step"];
        head.extend(booted.iter().map(|times| times.name.as_str()));
        let rows = first.boot.iter().map(|step| {
            let mut row = vec![step.name.clone()];
            row.extend(booted.iter().map(|times| {
                let same = times.boot.iter().find(|other| other.name == step.name);
                same.map_or("-".to_owned(), |step| format!("{:.2} s", precise(step.ended_at_ms) / 1000.0))
            }));
            row
        });
        "\n### Steps of the median start: when each ended, since the guest's kernel began\n\n".to_owned()
            + &table(&head, rows)
    }

    fn published(&self) -> String {
        if self.ports.is_empty() {
            return String::new();
        }
        let rows = self.ports.iter().map(|times| {
            let unit = match times.unit {
                Unit::MebibytesPerSecond => "MiB/s",
                Unit::RequestsPerSecond => "requests/s",
            };
            let (published, loopback) = (times.published.median, times.loopback.median);
            let rate = |value: f64| format!("{value:.0} {unit}");
            vec![times.what.clone(), rate(published), rate(loopback), format!("{:.2}", published / loopback)]
        });
        "\n### Published ports (uml)\n\n".to_owned()
            + &table(&["", "published port, from the host", "container's own loopback", "published / loopback"], rows)
    }

    fn idle_costs(&self) -> String {
        let Some(idle) = &self.idle else { return String::new() };
        let megabytes = |bytes: u64| format!("{:.1} MB", precise(bytes) / 1e6);
        let rows = idle.parts.iter().map(|cost| {
            vec![
                format!("{} (processes: {})", cost.part, cost.processes),
                megabytes(cost.own_memory),
                megabytes(cost.guest_memory),
                format!("{:.2} s", cost.cpu_seconds),
                cost.wakeups.to_string(),
            ]
        });
        format!("\n### Idle machine (uml), {} s\n\n", idle.seconds)
            + &table(
                &["", "own memory (PSS)", "guest memory in its PSS", "CPU time", "voluntary context switches"],
                rows,
            )
    }
}
