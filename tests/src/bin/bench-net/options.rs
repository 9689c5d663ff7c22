//! The command line's options.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::product::Product;

const USAGE: &str = "usage: bench-net [--runs N] [--seconds N] [--flows N] [--only rorqual,passt,gvproxy,loopback] \
    --monitor FILE --image DIR --material DIR --guest FILE --report FILE\n  \
    --runs N        rounds; the medians count (default 5)\n  \
    --seconds N     how long each load lasts (default 3)\n  \
    --flows N       connections held for the memory of flows, 1000 or more (default 8000)\n  \
    --only NAMES    only these; docs/benchmarks.md is left as it is, as it is with other --flows or fewer --runs";

const RUNS: usize = 5;
const SECONDS: u32 = 3;
const FLOWS: u32 = 8000;

/// How to measure.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Rounds; at least 1.
    pub(crate) runs: usize,
    /// Seconds of each load; 1 to 60.
    pub(crate) seconds: u32,
    /// Connections held while memory is measured; at least 1,000.
    pub(crate) flows: u32,
    /// `rorqual-vmm`.
    pub(crate) monitor: PathBuf,
    /// The guest image.
    pub(crate) image: PathBuf,
    /// The directory created by `make-material`.
    pub(crate) material: PathBuf,
    /// The guest's own files: an archive to append to the image's initial file system.
    pub(crate) guest: PathBuf,
    /// Written at the end.
    pub(crate) report: PathBuf,
    only: Vec<String>,
}

impl Options {
    /// Reads the command line.
    pub(crate) fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let (mut runs, mut seconds, mut flows, mut only) = (RUNS, SECONDS, FLOWS, Vec::new());
        let mut files = [const { None::<PathBuf> }; 5];
        while let Some(argument) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{argument} wants a value\n{USAGE}"))?;
            match argument.as_str() {
                "--runs" => runs = value.parse().context("--runs wants a number")?,
                "--seconds" => seconds = value.parse().context("--seconds wants a number")?,
                "--flows" => flows = value.parse().context("--flows wants a number")?,
                "--only" => only = value.split(',').map(str::to_owned).collect(),
                "--monitor" => files[0] = Some(value.into()),
                "--image" => files[1] = Some(value.into()),
                "--material" => files[2] = Some(value.into()),
                "--guest" => files[3] = Some(value.into()),
                "--report" => files[4] = Some(value.into()),
                _ => bail!("unknown option {argument}\n{USAGE}"),
            }
        }
        if runs == 0 || !(1..=60).contains(&seconds) || flows < 1000 {
            bail!("--runs wants at least 1, --seconds 1 to 60, --flows at least 1000\n{USAGE}");
        }
        if let Some(name) = only.iter().find(|name| Product::ALL.iter().all(|product| product.name() != name.as_str()))
        {
            bail!("{name:?} is not compared\n{USAGE}");
        }
        let [Some(monitor), Some(image), Some(material), Some(guest), Some(report)] = files else { bail!(USAGE) };
        // The started programs run in directories of their own.
        let whole = |path: PathBuf| path.canonicalize().with_context(|| format!("cannot find {}", path.display()));
        let (monitor, image, material, guest) = (whole(monitor)?, whole(image)?, whole(material)?, whole(guest)?);
        Ok(Self { runs, seconds, flows, monitor, image, material, guest, report, only })
    }

    /// Whether to measure `product`.
    pub(crate) fn wants(&self, product: Product) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == product.name())
    }

    /// Whether the run counts: only such a run is written into the documentation.
    pub(crate) fn is_complete(&self) -> bool {
        Product::ALL.into_iter().all(|product| self.wants(product))
            && self.runs >= RUNS
            && self.seconds >= SECONDS
            && self.flows == FLOWS
    }
}
