//! A machine saved to its directory and ended.

use std::{path::Path, sync::Arc, time::Duration};

use rorqual_protocol::agent::SyncRequest;
use thiserror::Error;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    guest::{Agent, explain},
    progress::Progress,
};
use crate::{
    error::Coded,
    monitor::{Vmm, VmmError},
};

/// The guest writes what it holds to its disk within this.
const SYNC_LIMIT: Duration = Duration::from_mins(2);

/// Why a machine was not saved. It keeps running.
#[derive(Debug, Error)]
pub(crate) enum SuspendError {
    #[error("a machine with the accelerator uml cannot be suspended: only kvm can save a machine")]
    Accelerator,
    #[error("the machine is not running, so there is nothing to save")]
    NotRunning,
    #[error("the machine keeps running, because the guest did not write its data to the disk: {0}")]
    Guest(String),
    #[error("the machine keeps running, because it could not be saved: {0}")]
    Monitor(#[from] VmmError),
    #[error("the suspension was cancelled, and the machine keeps running")]
    Cancelled,
    #[error("the suspension failed within the daemon: {0}")]
    Internal(String),
}

impl Coded for SuspendError {
    fn code(&self) -> &str {
        match self {
            Self::Accelerator => "accelerator-unsuitable",
            Self::NotRunning => "machine-not-running",
            Self::Guest(_) => "guest-unresponsive",
            Self::Monitor(error) => error.code(),
            Self::Cancelled => "suspend-cancelled",
            Self::Internal(_) => "internal",
        }
    }

    fn fix(&self) -> Option<String> {
        match self {
            Self::Accelerator => Some("stop it instead, with `rorqual stop`".to_owned()),
            Self::Guest(_) => Some("try again, or stop the machine with `rorqual stop`".to_owned()),
            Self::Monitor(error) => error.fix(),
            Self::NotRunning | Self::Cancelled => None,
            Self::Internal(_) => Some("read more with `rorqual logs daemon`".to_owned()),
        }
    }

    fn grpc_code(&self) -> tonic::Code {
        match self {
            Self::Cancelled => tonic::Code::Cancelled,
            Self::Internal(_) => tonic::Code::Internal,
            _ => tonic::Code::FailedPrecondition,
        }
    }
}

#[cfg(test)]
crate::error::tests::samples!(SuspendError {
    Accelerator => Self::Accelerator,
    NotRunning => Self::NotRunning,
    Guest => Self::Guest("it does not answer".to_owned()),
    Monitor => Self::Monitor(VmmError::Silent { process: 7, path: "/h/control.sock".into() }),
    Cancelled => Self::Cancelled,
    Internal => Self::Internal("a task panicked".to_owned()),
});

/// Saves a machine and ends it. `cancel` has an effect until everything is saved.
pub(super) async fn suspend(
    vmm: Arc<Vmm>,
    agent: Agent,
    directory: impl AsRef<Path>,
    progress: Progress,
    cancel: CancellationToken,
) -> Result<(), SuspendError> {
    let saved = tokio::select! {
        saved = save(&vmm, agent, directory.as_ref(), &progress) => saved,
        () = cancel.cancelled() => Err(SuspendError::Cancelled),
    };
    if let Err(error) = saved {
        // The save may have completed just before it was cancelled, which leaves the machine paused.
        if let Err(failure) = vmm.resume().await {
            tracing::warn!("the machine may be paused: {failure}");
        }
        return Err(error);
    }
    progress.step("power-off", "Ending the machine");
    Ok(vmm.kill().await?)
}

async fn save(vmm: &Vmm, mut agent: Agent, directory: &Path, progress: &Progress) -> Result<(), SuspendError> {
    // The saved memory also holds what the guest has not written yet. Written out first, it survives the loss of the
    // saved state.
    progress.step("sync", "Writing data to the disk");
    let synced = timeout(SYNC_LIMIT, agent.sync(SyncRequest {})).await;
    synced
        .map_err(|_| SuspendError::Guest("it does not answer".to_owned()))?
        .map_err(|status| SuspendError::Guest(explain(&status)))?;
    progress.step("memory", "Saving the machine's memory");
    vmm.save(directory, |saved| {
        progress.note(format!(
            "Saving the machine's memory: {} of {} MiB",
            saved.done_bytes >> 20,
            saved.total_bytes >> 20
        ));
    })
    .await?;
    Ok(())
}
