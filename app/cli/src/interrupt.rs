//! Awaits SIGINT (Ctrl-C) and SIGTERM.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{error::CommandError, failure::Failure};

/// Listens for SIGINT and SIGTERM; each may arrive several times.
#[derive(Debug)]
pub(crate) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    pub(crate) fn listen() -> Result<Self, Failure> {
        let open = || -> io::Result<Self> {
            Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
        };
        Ok(open().map_err(CommandError::Signals)?)
    }

    /// Waits for the next signal.
    pub(crate) async fn caught(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
