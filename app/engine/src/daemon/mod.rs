//! The daemon: one per user.

use thiserror::Error;

use crate::{
    error::Coded,
    home::Home,
};

/// Why the daemon cannot serve.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// Another daemon holds the lock.
    #[error("a Rorqual daemon already runs for {home} as process {process}; nothing to do")]
    AlreadyRunning {
        /// The state directory.
        home: std::path::PathBuf,
        /// Its process id, as it wrote it.
        process: String,
    },
}

impl Coded for DaemonError {
    fn code(&self) -> &'static str {
        match self {
            Self::AlreadyRunning { .. } => "daemon-running",
        }
    }
}

/// Serves until `Quit` or SIGTERM.
pub async fn run(home: Home) -> Result<(), DaemonError> {
    drop(home);
    std::future::pending().await
}
