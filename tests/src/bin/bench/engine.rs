//! The interface of a measured Docker Engine, however it is run.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde::Serialize;

/// A step of a guest's boot, as its agent logs it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BootStep {
    /// Short name: `modules`, `root`, `network`, `data`, `containerd`, `dockerd`.
    pub(crate) name: String,
    /// Milliseconds since the guest's kernel started.
    pub(crate) ended_at_ms: u64,
}

/// One way to run the same Docker Engine. Dropping it ends its processes.
pub(crate) trait Engine {
    /// Short name: the key in the JSON report.
    fn name(&self) -> &'static str;

    /// A short description, for the table.
    fn description(&self) -> String;

    /// Starts it, and returns when the engine reports that it answers. It must not be running.
    fn start(&mut self) -> Result<()>;

    /// Stops it cleanly, and returns when its last process has ended.
    fn stop(&mut self) -> Result<()>;

    /// `docker` with arguments, pointed at this engine.
    fn docker(&self, arguments: &[&str]) -> Command;

    /// The steps of the last boot; empty where no guest boots.
    fn boot_steps(&self) -> Result<Vec<BootStep>>;
}

/// The boot steps in an agent's log: lines that end in `boot: NAME at NUMBER ms`.
pub(crate) fn steps_in(log: &str) -> Vec<BootStep> {
    let step = |line: &str| {
        let (_, step) = line.split_once("boot: ")?;
        let (name, time) = step.trim_end().split_once(" at ")?;
        Some(BootStep { name: name.to_owned(), ended_at_ms: time.strip_suffix(" ms")?.parse().ok()? })
    };
    log.lines().filter_map(step).collect()
}

/// The docker client of the guest image, for an engine at `socket`.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    program: PathBuf,
    configuration: PathBuf,
    socket: PathBuf,
}

impl Client {
    /// A client whose configuration, with the image's plugins, is in `directory`.
    pub(crate) fn new(image: &Path, directory: &Path, socket: PathBuf) -> Result<Self> {
        let configuration = directory.join("docker");
        let plugins = configuration.join("cli-plugins");
        std::fs::create_dir_all(&plugins).with_context(|| format!("cannot make {}", plugins.display()))?;
        std::os::unix::fs::symlink(image.join("bin/docker-buildx"), plugins.join("docker-buildx"))
            .with_context(|| format!("cannot link the build plugin in {}", plugins.display()))?;
        Ok(Self { program: image.join("bin/docker"), configuration, socket })
    }

    /// `docker` with arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        for variable in ["DOCKER_CONTEXT", "DOCKER_BUILDKIT", "DOCKER_TLS_VERIFY", "DOCKER_API_VERSION"] {
            command.env_remove(variable);
        }
        command.env("DOCKER_CONFIG", &self.configuration);
        command.env("DOCKER_HOST", format!("unix://{}", self.socket.display()));
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_steps_are_found_in_an_agents_log() {
        let log = "[ 1.9]  INFO a::steps: boot: modules at 1198 ms\nother\n[ 2.0] INFO a: boot: dockerd at 5169 ms\r\n";
        let steps: Vec<_> = steps_in(log).into_iter().map(|step| (step.name, step.ended_at_ms)).collect();
        assert_eq!(steps, [("modules".to_owned(), 1198), ("dockerd".to_owned(), 5169)]);
    }
}
