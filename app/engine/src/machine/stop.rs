//! The end of a machine: by its agent, then by its power button, then by force.

use std::{sync::Arc, time::Duration};

use rorqual_protocol::agent::ShutdownRequest;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    guest::{Agent, explain},
    progress::Progress,
};
use crate::monitor::{Vmm, VmmError};

/// Seconds containers get by default; the agent has the same default.
const CONTAINER_SECONDS: u32 = 10;
/// Beyond the time for containers, each step of the shutdown is reported within this.
const STEP_LIMIT: Duration = Duration::from_mins(1);
/// The guest powers off within this, after its announcement or its power button.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(20);

/// Ends a machine. `agent` is `None` if the guest was never reached, so that nothing in it can be lost. Cancelling
/// `force` ends the machine immediately, at any point.
pub(super) async fn stop(
    vmm: Arc<Vmm>,
    agent: Option<Agent>,
    container_seconds: u32,
    progress: Progress,
    force: CancellationToken,
) -> Result<(), VmmError> {
    if let Some(agent) = agent {
        let polite = tokio::select! {
            () = politely(&vmm, agent, container_seconds, &progress) => true,
            () = force.cancelled() => false,
        };
        if polite && vmm.ended_within(Duration::ZERO).await.is_some() {
            return Ok(());
        }
    }
    progress.step("power-off", "Ending the machine immediately");
    vmm.kill().await
}

async fn politely(vmm: &Vmm, agent: Agent, container_seconds: u32, progress: &Progress) {
    if let Err(reason) = shut_down(vmm, agent, container_seconds, progress).await {
        tracing::warn!("the agent did not shut the guest down ({reason}); pressing its power button");
        progress.step("power-off", format!("Pressing the power button ({reason})"));
        if let Err(error) = vmm.stop().await {
            tracing::warn!("{error}");
            return;
        }
    }
    if vmm.ended_within(POWER_OFF_LIMIT).await.is_none() {
        tracing::warn!("the machine did not power off within {} s", POWER_OFF_LIMIT.as_secs());
    }
}

/// Has the agent stop everything in order. An error is the reason why the guest will not power off.
async fn shut_down(vmm: &Vmm, mut agent: Agent, container_seconds: u32, progress: &Progress) -> Result<(), String> {
    progress.step("containers", "Stopping containers");
    let request = ShutdownRequest { container_timeout_seconds: container_seconds };
    let containers = if container_seconds == 0 { CONTAINER_SECONDS } else { container_seconds };
    let mut limit = Duration::from_secs(containers.into()) + STEP_LIMIT;
    let steps = timeout(STEP_LIMIT, agent.shutdown(request)).await.map_err(|_| "it does not answer".to_owned())?;
    let mut steps = steps.map_err(|status| explain(&status))?.into_inner();
    // The agent reports a step when it is done, so the next one begins then.
    loop {
        let step = tokio::select! {
            step = timeout(limit, steps.message()) => step.map_err(|_| "it stopped reporting progress".to_owned())?,
            _ = vmm.ended() => return Ok(()),
        };
        match step {
            Ok(Some(step)) => {
                if step.failed {
                    tracing::warn!("while the guest shut down, {}: {}", step.name, step.message);
                }
                let next = ["containers", "dockerd", "containerd", "trim", "unmount", "power-off"];
                let at = next.iter().position(|name| *name == step.name);
                match at.and_then(|at| next.get(at + 1)) {
                    Some(&next) => progress.step(next, describe(next)),
                    None => return Ok(()),
                }
                limit = STEP_LIMIT;
            }
            // The connection ends when the machine does, cleanly or not.
            Ok(None) => return Ok(()),
            Err(status) => {
                tracing::debug!("the call for the shutdown ended: {}", explain(&status));
                return Ok(());
            }
        }
    }
}

fn describe(step: &str) -> &'static str {
    match step {
        "dockerd" => "Stopping the Docker Engine",
        "containerd" => "Stopping containerd",
        "trim" => "Returning free disk space",
        "unmount" => "Unmounting the disk",
        _ => "Powering off",
    }
}
