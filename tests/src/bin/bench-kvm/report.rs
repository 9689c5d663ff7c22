//! The report: JSON, tables for people, and those tables in the documentation.

use std::fmt::Write;

use rorqual_tests::{Series, document::table};
use serde::{Deserialize, Serialize};

/// All results of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Measurements of each thing.
    pub(crate) runs: usize,
    /// Whether every part was measured.
    pub(crate) complete: bool,
    /// `qemu-system-x86_64 --version`.
    pub(crate) qemu: String,
    /// The kernel that has KVM.
    pub(crate) kernel: String,
    /// The processor as that kernel sees it; QEMU's when it is emulated.
    pub(crate) processor: String,
    /// The load of the computer before the run.
    pub(crate) load_before: Option<f64>,
    /// The monitors; Rorqual's first.
    pub(crate) monitors: Vec<Figures>,
    /// The return of a suspended machine.
    pub(crate) restore: Option<Restore>,
    /// Parts that could not be measured, and why.
    pub(crate) not_measured: Vec<String>,
}

/// Results of one monitor; empty for parts that were not requested.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) monitor: String,
    /// Seconds from its start to the guest's first process.
    pub(crate) init: Option<Series>,
    /// Exits until then, without those for the host's interrupts.
    pub(crate) init_exits: Option<Series>,
    /// Seconds from its start to the agent's first answer.
    pub(crate) agent: Option<Series>,
    /// Exits until then, without those for the host's interrupts.
    pub(crate) agent_exits: Option<Series>,
    /// Of these, exits to its process.
    pub(crate) agent_exits_to_monitor: Option<Series>,
    /// Its resident memory without the guest's, MiB, when the agent answers.
    pub(crate) overhead_mib: Option<Series>,
    /// Of the data disk.
    pub(crate) disk: Vec<DiskFigures>,
    /// Guests that died while their disk was measured; each was measured again.
    pub(crate) disk_deaths: usize,
}

/// One job of fio.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DiskFigures {
    pub(crate) job: String,
    pub(crate) iops: Series,
    pub(crate) mib_per_second: Series,
}

/// Seconds from `rorqual start` to the first answer to the request of `docker ps`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Restore {
    pub(crate) cold: Series,
    pub(crate) restored: Series,
}

/// Most memory of the monitor beyond the guest's, in MiB.
const OVERHEAD_GOAL: f64 = 5.0;
/// Required ratio of a cold start to a restore.
const RESTORE_GOAL: f64 = 20.0;

type Pick = fn(&Figures) -> Option<&Series>;
type Show = fn(f64) -> String;

/// A row: its title, its figure, and its format.
const ROWS: [(&str, Pick, Show); 6] = [
    ("start to init", |figures| figures.init.as_ref(), |value| format!("{value:.2} s")),
    ("start to the agent's first answer", |figures| figures.agent.as_ref(), |value| format!("{value:.2} s")),
    ("exits up to init", |figures| figures.init_exits.as_ref(), |value| format!("{value:.0}")),
    ("exits up to the agent's answer", |figures| figures.agent_exits.as_ref(), |value| format!("{value:.0}")),
    ("of these, to the monitor's process", |f| f.agent_exits_to_monitor.as_ref(), |value| format!("{value:.0}")),
    ("monitor's memory beyond the guest's", |f| f.overhead_mib.as_ref(), |value| format!("{value:.1} MiB")),
];

impl Report {
    fn of(&self, monitor: &str) -> Option<&Figures> {
        self.monitors.iter().find(|figures| figures.monitor == monitor)
    }

    /// Ratio of the other's figure to ours.
    fn ratio(&self, other: &str, pick: Pick) -> Option<f64> {
        Some(pick(self.of(other)?)?.median / pick(self.of("rorqual")?)?.median)
    }

    /// The tables.
    pub(crate) fn to_markdown(&self, date: &str, computer: &str) -> String {
        let runs = match self.runs {
            1 => "measured once".to_owned(),
            runs => format!("medians of {runs}"),
        };
        let load = self.load_before.map_or("?".to_owned(), |load| format!("{load:.2}"));
        let mut text = format!(
            "{date}; {computer}; load before the run {load}; {runs}. KVM is of Linux {} on {}; {}.\n",
            self.kernel, self.processor, self.qemu
        );
        for missing in &self.not_measured {
            // Writing to a `String` cannot fail.
            writeln!(text, "\nNot measured: {missing}").ok();
        }
        text += &self.boots();
        text += &self.disks();
        if let Some(Restore { cold, restored }) = &self.restore {
            let row = vec![
                format!("{:.2} s", cold.median),
                format!("{:.2} s", restored.median),
                format!("{:.1}", cold.median / restored.median),
            ];
            text += "\n### `rorqual start` to the first `docker ps`\n\n";
            text += &table(&["cold", "after `rorqual suspend`", "cold / restored"], std::iter::once(row));
        }
        text + "\n### Goals (kvm)\n\n" + &table(&["goal", "figure", ""], self.goals().into_iter())
    }

    fn boots(&self) -> String {
        let measured = |pick: &Pick| self.of("rorqual").and_then(pick).is_some();
        if !ROWS.iter().any(|(_, pick, _)| measured(pick)) {
            return String::new();
        }
        let rows =
            ROWS.iter().filter(|(_, pick, _)| self.of("rorqual").and_then(pick).is_some()).map(|(name, pick, show)| {
                let mut row = vec![(*name).to_owned()];
                row.extend(
                    self.monitors.iter().map(|figures| pick(figures).map_or("-".to_owned(), |all| show(all.median))),
                );
                for other in ["microvm", "q35"] {
                    row.push(self.ratio(other, *pick).map_or("-".to_owned(), |ratio| format!("{ratio:.2}")));
                }
                row
            });
        let head = ["", "`rorqual-vmm`", "QEMU microvm", "QEMU q35", "microvm / rorqual", "q35 / rorqual"];
        "\n### Boot and memory, 1 processor (kvm)\n\n".to_owned() + &table(&head, rows)
    }

    fn disks(&self) -> String {
        let (Some(ours), Some(other)) = (self.of("rorqual"), self.of("microvm")) else { return String::new() };
        if ours.disk.is_empty() {
            return String::new();
        }
        let rows = ours.disk.iter().filter_map(|job| {
            let same = other.disk.iter().find(|figures| figures.job == job.job)?;
            let cell =
                |job: &DiskFigures| format!("{:.0} IOPS, {:.1} MiB/s", job.iops.median, job.mib_per_second.median);
            let ratio = job.iops.median / same.iops.median;
            Some(vec![job.job.clone(), cell(job), cell(same), format!("{ratio:.2}")])
        });
        let mut text = "\n### Disk (kvm): fio in the guest, direct\n\n".to_owned()
            + &table(&["job", "`rorqual-vmm`", "QEMU microvm", "rorqual / microvm"], rows);
        let deaths: Vec<String> = [ours, other]
            .iter()
            .filter(|figures| figures.disk_deaths > 0)
            .map(|figures| format!("{} of {}", figures.disk_deaths, figures.monitor))
            .collect();
        if !deaths.is_empty() {
            text += "\nGuests that died meanwhile and were measured again: ";
            text += &deaths.join(", ");
            text += ".\n";
        }
        text
    }

    fn goals(&self) -> Vec<Vec<String>> {
        let faster =
            |other, pick| self.ratio(other, pick).map(|ratio| (format!("{ratio:.2} times as fast"), ratio > 1.0));
        let exits = self.ratio("microvm", |figures| figures.agent_exits.as_ref()).map(|ratio| 1.0 / ratio);
        let overhead = self.of("rorqual").and_then(|figures| figures.overhead_mib.as_ref()).map(|all| all.median);
        let restore = self.restore.as_ref().map(|restore| restore.cold.median / restore.restored.median);
        let goals = [
            ("init sooner than microvm", faster("microvm", |figures| figures.init.as_ref())),
            ("agent's answer sooner than microvm", faster("microvm", |figures| figures.agent.as_ref())),
            ("fewer exits a boot than microvm", exits.map(|part| (format!("{part:.2} of its exits"), part < 1.0))),
            (
                "monitor at most 5 MiB more than the guest's memory",
                overhead.map(|size| (format!("{size:.1} MiB"), size <= OVERHEAD_GOAL)),
            ),
            (
                "restore to `docker ps` 20 times as fast as a cold start",
                restore.map(|ratio| (format!("{ratio:.1} times"), ratio >= RESTORE_GOAL)),
            ),
        ];
        goals
            .into_iter()
            .map(|(goal, found)| match found {
                Some((figure, true)) => vec![goal.to_owned(), figure, "met".to_owned()],
                Some((figure, false)) => vec![goal.to_owned(), figure, "**not met**".to_owned()],
                None => vec![goal.to_owned(), "-".to_owned(), "not measured".to_owned()],
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(monitor: &str, agent: f64) -> Figures {
        Figures {
            monitor: monitor.to_owned(),
            init: None,
            init_exits: None,
            agent: Some(Series::of(vec![agent])),
            agent_exits: None,
            agent_exits_to_monitor: None,
            overhead_mib: None,
            disk: Vec::new(),
            disk_deaths: 0,
        }
    }

    #[test]
    fn a_goal_is_met_by_figures_only() {
        let report = Report {
            runs: 1,
            complete: false,
            qemu: String::new(),
            kernel: String::new(),
            processor: String::new(),
            load_before: None,
            monitors: vec![figures("rorqual", 2.0), figures("microvm", 1.0)],
            restore: None,
            not_measured: Vec::new(),
        };
        let text = report.to_markdown("today", "here");
        assert!(text.contains("| agent's answer sooner than microvm | 0.50 times as fast | **not met** |"), "{text}");
        assert!(text.contains("| init sooner than microvm | - | not measured |"), "{text}");
        assert!(text.contains("| start to the agent's first answer | 2.00 s | 1.00 s | 0.50 | - |"), "{text}");
    }
}
