//! The computer on which the figures were taken.

use std::{fs, process::Command, thread};

use anyhow::Result;
use rorqual_tests::{Machine, Run};
use serde::Serialize;

/// Facts reported beside the figures.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Host {
    /// When the run began, UTC.
    pub(crate) date: String,
    /// Processors the benchmark may use.
    pub(crate) cpus: usize,
    /// Their name.
    pub(crate) cpu_model: String,
    /// `uname -sr`.
    pub(crate) kernel: String,
    /// Load of the last minute before the run: on a busy host, the figures include its other work.
    pub(crate) load_before: f64,
    /// Version of the guest image.
    pub(crate) image: String,
    /// Version of Docker in it.
    pub(crate) docker: String,
    /// The guest's kernels, as the manifest names them.
    pub(crate) kernels: serde_json::Value,
}

impl Host {
    /// Gathers the facts.
    pub(crate) fn look(machine: &Machine) -> Result<Self> {
        let manifest: serde_json::Value = serde_json::from_slice(&fs::read(machine.image().join("manifest.json"))?)?;
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
        let load = fs::read_to_string("/proc/loadavg")?;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_owned();
        Ok(Self {
            date: Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output_text()?,
            cpus: thread::available_parallelism()?.get(),
            cpu_model: model.map_or("?", |(_, model)| model).to_owned(),
            kernel: Command::new("uname").arg("-sr").output_text()?,
            load_before: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN),
            image: text(&manifest["version"]),
            docker: text(&manifest["packages"]["docker.io"]),
            kernels: manifest["kernels"].clone(),
        })
    }
}
