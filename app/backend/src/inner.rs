//! State shared by all handlers: the state directory, the engine, and the daemon.

use std::path::PathBuf;

use rorqual_engine::{
    client::{self, Client},
    docker::Docker,
    home::Home,
};

use crate::contract::{Failure, Platform};

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) home: Home,
    pub(crate) docker: Docker,
    pub(crate) platform: Platform,
    /// Path of `rorqual`, which runs the daemon. Its images are in the same directory.
    pub(crate) program: PathBuf,
}

impl Inner {
    pub(crate) fn new(home: Home, platform: Platform, program: PathBuf) -> Self {
        let docker = Docker::at(home.docker_socket());
        Self { home, docker, platform, program }
    }

    /// The daemon, if it runs.
    pub(crate) async fn daemon(&self) -> Result<Client, Failure> {
        Ok(client::connect(&self.home).await?)
    }

    /// The daemon; starts it if it does not run.
    pub(crate) async fn daemon_started(&self) -> Result<Client, Failure> {
        let mut command = std::process::Command::new(&self.program);
        command.arg("daemon");
        Ok(client::connect_or_start(&self.home, command).await?)
    }
}
