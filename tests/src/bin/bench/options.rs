//! The command line's options.

use std::env;

use anyhow::{Context, Result, bail};

const USAGE: &str = "usage: bench [--runs N] [--idle SECONDS] [--only uml,tcg,native,ports,idle]\n  \
    --runs N        how often each thing is measured; the median counts (default 5)\n  \
    --idle SECONDS  how long the idle machine is watched (default 60)\n  \
    --only PARTS    only these parts; docs/benchmarks.md is left as it is";

/// The parts of a run, in the order they are done.
const PARTS: [&str; 5] = ["uml", "tcg", "native", "ports", "idle"];

/// How to measure.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Measurements of each thing; at least 1.
    pub(crate) runs: usize,
    /// Seconds an idle machine is observed; at least 1.
    pub(crate) idle_seconds: u64,
    /// The parts to measure; all if empty.
    only: Vec<String>,
}

impl Options {
    /// Reads the command line.
    pub(crate) fn from_arguments() -> Result<Self> {
        let mut options = Self { runs: 5, idle_seconds: 60, only: Vec::new() };
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} wants a value\n{USAGE}"));
            match argument.as_str() {
                "--runs" => options.runs = value()?.parse().context("--runs wants a number")?,
                "--idle" => options.idle_seconds = value()?.parse().context("--idle wants a number of seconds")?,
                "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
                _ => bail!("unknown option {argument}\n{USAGE}"),
            }
        }
        if options.runs == 0 || options.idle_seconds == 0 {
            bail!("--runs and --idle want at least 1\n{USAGE}");
        }
        if let Some(part) = options.only.iter().find(|part| !PARTS.contains(&part.as_str())) {
            bail!("there is no part {part:?}\n{USAGE}");
        }
        Ok(options)
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
