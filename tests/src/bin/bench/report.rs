//! The report: JSON, a table for people, and that table in the documentation.

use std::{fmt::Write, fs, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    goals::{Goal, precise},
    host::Host,
    idle::Idle,
    measure::{Series, Times},
    ports::{PortTimes, Unit},
};

const BEGIN: &str = "<!-- figures: begin, written by `make bench` -->";
const END: &str = "<!-- figures: end -->";

/// Everything a run found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// The computer and the image.
    pub(crate) host: Host,
    /// Measurements of each thing.
    pub(crate) runs: usize,
    /// The engines that were measured; `uml` first.
    pub(crate) engines: Vec<Times>,
    /// The medians of the engines against each other.
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

/// How often the faster goes into the slower, of one thing.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ratios {
    /// What is done.
    pub(crate) what: &'static str,
    /// How many times faster Rorqual is than the translator.
    pub(crate) tcg_over_uml: Option<f64>,
    /// How many times slower it is than the host's own kernel.
    pub(crate) uml_over_native: Option<f64>,
}

/// Picks the measurements of one thing.
type Pick = fn(&Times) -> &Series;

/// What is timed, as the tables call it.
const TIMED: [(&str, Pick); 4] = [
    ("start to `docker version`", |times| &times.start),
    ("`docker run --rm`", |times| &times.run),
    ("`docker exec`", |times| &times.exec),
    ("`docker build`, 5 steps", |times| &times.build),
];

/// The ratios of every timed thing, where both sides were measured.
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
    /// Which.
    pub(crate) name: String,
    /// Why, in one line.
    pub(crate) reason: String,
}

impl Report {
    /// Writes the JSON report.
    pub(crate) fn write_json(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Puts the tables between the two marks of a document.
    pub(crate) fn write_between_marks(&self, path: &Path) -> Result<()> {
        let document = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let changed = replace_between_marks(&document, &self.to_markdown())
            .with_context(|| format!("{} lacks the lines {BEGIN} and {END}", path.display()))?;
        fs::write(path, changed).with_context(|| format!("cannot write {}", path.display()))
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
            "{}; {} CPUs ({}), {}; load before the run {:.2}; {runs}. Guest image {}: Docker {}, kernels {uml} (uml) and \
             {kvm} (QEMU).\n",
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
            // Writing to a String does not fail.
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

fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        writeln!(text, "| {} |", row.join(" | ")).ok();
    }
    text
}

fn replace_between_marks(document: &str, text: &str) -> Option<String> {
    let begin = document.find(BEGIN)? + BEGIN.len();
    let end = begin + document[begin..].find(END)?;
    Some(format!("{}\n\n{text}\n{}", &document[..begin], &document[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let document = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let once = replace_between_marks(&document, "new\n").unwrap();
        assert_eq!(once, format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert_eq!(replace_between_marks(&once, "new\n").unwrap(), once);
    }

    #[test]
    fn a_document_without_marks_is_left_alone() {
        assert_eq!(replace_between_marks(END, "new"), None);
    }

    #[test]
    fn a_table_has_a_column_for_each_heading() {
        assert_eq!(table(&["a", "b"], [vec!["1".into(), "2".into()]].into_iter()), "| a | b |\n|---|---|\n| 1 | 2 |\n");
    }
}
