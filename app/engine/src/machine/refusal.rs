//! Why a machine does not do what it is asked, whatever that is: it is not running, or its daemon is ending.

use thiserror::Error;

use crate::{api::machine_status::State, error::Coded, home::MachineName};

/// The machine is not running, or its engine is not.
#[derive(Debug, Error)]
#[error("{}", self.message())]
pub(crate) struct NotRunning {
    /// The machine.
    pub(crate) machine: MachineName,
    /// What it does instead.
    pub(crate) state: State,
    /// Why it failed or is degraded.
    pub(crate) reason: String,
    /// What to do about that, if it is known.
    pub(crate) advice: Option<String>,
}

impl NotRunning {
    fn message(&self) -> String {
        let Self { machine, reason, .. } = self;
        match self.state {
            State::Starting => format!("the Rorqual machine {machine} is starting"),
            State::Suspending => format!("the Rorqual machine {machine} is being suspended"),
            State::Suspended => format!("the Rorqual machine {machine} is suspended"),
            State::Stopping => format!("the Rorqual machine {machine} is stopping"),
            State::Failed => format!("the Rorqual machine {machine} is not running: {reason}"),
            State::Degraded => format!("the Docker Engine of the Rorqual machine {machine} does not answer: {reason}"),
            // The guest runs and its agent has not been reached yet.
            State::Running | State::Stopped | State::Unspecified => {
                format!("the Rorqual machine {machine} is not running")
            }
        }
    }
}

impl Coded for NotRunning {
    fn code(&self) -> &'static str {
        match self.state {
            State::Starting => "machine-starting",
            State::Suspending => "machine-suspending",
            State::Suspended => "machine-suspended",
            State::Stopping => "machine-stopping",
            State::Failed => "machine-failed",
            State::Degraded => "engine-down",
            State::Running | State::Stopped | State::Unspecified => "machine-not-running",
        }
    }

    fn fix(&self) -> Option<String> {
        let start = if self.machine == MachineName::default() {
            "`rorqual start`".to_owned()
        } else {
            format!("`rorqual start --machine {}`", self.machine)
        };
        Some(match self.state {
            State::Starting => "wait until `rorqual status` shows it as running".to_owned(),
            State::Suspending | State::Suspended => format!("resume it with {start}"),
            State::Degraded | State::Failed if self.advice.is_some() => return self.advice.clone(),
            State::Stopping | State::Failed => format!("start it again with {start}"),
            State::Degraded => "read more with `rorqual status` and `rorqual logs dockerd`".to_owned(),
            State::Running | State::Stopped | State::Unspecified => format!("start it with {start}"),
        })
    }
}

/// The daemon ends, so nothing more is done.
#[derive(Debug, Error)]
#[error("the daemon is ending, while machines keep running")]
pub(crate) struct DaemonEnding;

impl Coded for DaemonEnding {
    fn code(&self) -> &'static str {
        "daemon-ending"
    }

    fn fix(&self) -> Option<String> {
        Some("try again: the command starts a new daemon".to_owned())
    }

    fn grpc_code(&self) -> tonic::Code {
        tonic::Code::Unavailable
    }
}

#[cfg(test)]
impl crate::error::tests::Samples for NotRunning {
    fn samples() -> Vec<Self> {
        let states = (0..).map_while(|number| State::try_from(number).ok());
        states
            .map(|state| Self {
                machine: MachineName::default(),
                state,
                reason: "the guest crashed".to_owned(),
                advice: None,
            })
            .collect()
    }
}

#[cfg(test)]
impl crate::error::tests::Samples for DaemonEnding {
    fn samples() -> Vec<Self> {
        vec![Self]
    }
}
