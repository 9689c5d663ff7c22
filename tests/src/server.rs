//! A program of this computer that containers talk to.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::{eventually, host_port, material, namespace::Namespace, stream};

/// The program; it ends with its test.
#[derive(Debug)]
pub struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Starts a program without input and output.
    pub fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn().with_context(|| format!("cannot start {command:?}"))?))
    }

    /// The test peer at a port of this computer, which it listens on when this returns.
    pub fn peer() -> Result<(Self, u16)> {
        let port = host_port::free()?;
        let mut command = Command::new(material::peer()?);
        command.args(["serve", &port.to_string()]);
        let server = Self::start(command)?;
        eventually("the peer listens", || stream::answers(([127, 0, 0, 1], port).into()).then_some(()))?;
        Ok((server, port))
    }

    /// The test peer at port 80 of a namespace. It may not listen yet.
    pub fn peer_in(namespace: &Namespace) -> Result<Self> {
        let mut command = namespace.command();
        command.arg(material::peer()?).args(["serve", "80"]);
        Self::start(command)
    }
}
