//! The end of a monitor by force.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::control::Connection;
use crate::home::MachinePaths;

/// Ends a monitor that runs but does not answer.
pub(crate) async fn kill_silent(paths: &MachinePaths) {
    if let Ok(mut connection) = Connection::open(&paths.control_socket()).await {
        kill_process(connection.process());
        connection.closed().await;
    }
}

/// Kills a monitor.
pub(super) fn kill_process(process: u32) {
    // Processes 0 and 1 are never monitors; 0 would be our own group.
    if let Some(process) = i32::try_from(process).ok().filter(|&process| process > 1) {
        let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
    }
}
