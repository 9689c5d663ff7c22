//! Ctrl-C and a polite request to end, as something to wait for.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{error::CommandError, failure::Failure};

/// Listens for SIGINT and SIGTERM; each may come several times.
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

    /// Waits for the next of them.
    pub(crate) async fn caught(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
