//! The command line's options.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

const USAGE: &str = "usage: bench-kvm measure [--runs N] [--only boot,disk,restore] --image DIR --files DIR \
    --report FILE\n       \
    bench-kvm publish REPORT LOAD-BEFORE";

/// The parts of a run.
const PARTS: [&str; 3] = ["boot", "disk", "restore"];

/// How to measure.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Measurements of each thing; at least 1.
    pub(crate) runs: usize,
    /// The guest image.
    pub(crate) image: PathBuf,
    /// Where `bench-init.cpio` and `fio.erofs` are.
    pub(crate) files: PathBuf,
    /// Written at the end.
    pub(crate) report: PathBuf,
    only: Vec<String>,
}

/// The command to run.
pub(crate) enum Task {
    Measure(Options),
    /// Prints a report and writes it into the documentation; with the load of the computer before the run.
    Publish(PathBuf, f64),
}

impl Task {
    pub(crate) fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        match arguments.next().as_deref() {
            Some("measure") => Ok(Self::Measure(Options::read(arguments)?)),
            Some("publish") => match (arguments.next(), arguments.next()) {
                (Some(report), Some(load)) => {
                    Ok(Self::Publish(report.into(), load.parse().context("the load is no number")?))
                }
                _ => bail!(USAGE),
            },
            _ => bail!(USAGE),
        }
    }
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let (mut runs, mut only) = (5, Vec::new());
        let (mut image, mut files, mut report) = (None, None, None);
        while let Some(argument) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{argument} wants a value\n{USAGE}"))?;
            match argument.as_str() {
                "--runs" => runs = value.parse().context("--runs wants a number")?,
                "--only" => only = value.split(',').map(str::to_owned).collect(),
                "--image" => image = Some(value.into()),
                "--files" => files = Some(value.into()),
                "--report" => report = Some(value.into()),
                _ => bail!("unknown option {argument}\n{USAGE}"),
            }
        }
        if runs == 0 {
            bail!("--runs wants at least 1\n{USAGE}");
        }
        if let Some(part) = only.iter().find(|part: &&String| !PARTS.contains(&part.as_str())) {
            bail!("there is no part {part:?}\n{USAGE}");
        }
        let (Some(image), Some(files), Some(report)) = (image, files, report) else { bail!(USAGE) };
        Ok(Self { runs, image, files, report, only })
    }

    /// Whether to measure `part`.
    pub(crate) fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == part)
    }

    /// Whether every part is measured: only such a run is written into the documentation.
    pub(crate) fn is_complete(&self) -> bool {
        PARTS.iter().all(|part| self.wants(part))
    }
}
