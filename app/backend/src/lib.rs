//! What the window shows and does: typed calls and streams over the daemon and the Docker Engine.
//!
//! Both transports (the desktop application's, and HTTP with a WebSocket for browsers) carry the same [`contract`], so
//! the same pages run on either. A [`Backend`] lives in the process that serves the pages. It holds no state of the
//! engine: each call asks, each stream is a task that ends when its reader goes. Output waits for the reader
//! ([`stream`]), so a fast log costs no memory.

mod app;
mod build;
mod changes;
mod commandline;
mod containers;
pub mod contract;
mod diagnose;
mod dispatch;
mod failure;
mod files;
mod images;
mod lists;
mod logs;
mod machine;
mod networks;
mod pull;
mod registries;
mod run;
mod samples;
mod settings;
mod size;
pub mod stream;
mod terminal;
mod volumes;

use std::{path::PathBuf, sync::Arc};

use contract::{Failure, Platform};
use rorqual_engine::{
    client::{self, Client},
    docker::Docker,
    home::Home,
};
use serde_json::Value;
use stream::OpenStream;

/// The way to everything the window shows. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Backend(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    home: Home,
    docker: Docker,
    platform: Platform,
    /// `rorqual`: it runs the daemon, and is where its images lie.
    program: PathBuf,
}

impl Backend {
    /// Of the state directory `home`; `program` is the command line, which runs the daemon.
    pub fn new(home: Home, platform: Platform, program: PathBuf) -> Self {
        let docker = Docker::at(home.docker_socket());
        Self(Arc::new(Inner { home, docker, platform, program }))
    }

    /// Answers a call of the contract's table.
    ///
    /// # Errors
    ///
    /// What the pages show; `bad-request` for what the table does not have.
    pub async fn call(&self, name: &str, params: Value) -> Result<Value, Failure> {
        dispatch::call(&self.0, name, params).await
    }

    /// Opens a stream of the contract's table; must be called in a runtime. What goes wrong comes as its last output.
    pub fn open(&self, name: &str, params: Value) -> OpenStream {
        dispatch::open(self.0.clone(), name.to_owned(), params)
    }
}

impl Inner {
    /// The daemon, if it runs.
    async fn daemon(&self) -> Result<Client, Failure> {
        Ok(client::connect(&self.home).await?)
    }

    /// The daemon, started if it does not run.
    async fn daemon_started(&self) -> Result<Client, Failure> {
        let mut command = std::process::Command::new(&self.program);
        command.arg("daemon");
        Ok(client::connect_or_start(&self.home, command).await?)
    }
}
