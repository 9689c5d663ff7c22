//! The monitor's process: its executable is found, and started so that it outlives the daemon.

use std::{
    env, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rorqual_vmm_protocol::{Config, Readiness};
use tokio::{process::Command, time::timeout};

use super::{
    error::{PROGRAM, VmmError},
    log,
    vmm::Vmm,
};
use crate::{client::READY_VARIABLE, detached, home::MachinePaths};

/// A started monitor reports its readiness, or why it cannot run, within this.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// The monitor's executable: beside this program, else in `PATH`.
pub(crate) fn find_program() -> Result<PathBuf, VmmError> {
    let beside = env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned)).unwrap_or_default();
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places = std::iter::once(beside.clone()).chain(env::split_paths(&path)).map(|place| place.join(PROGRAM));
    let is_program =
        |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    places.find(is_program).ok_or(VmmError::Missing(beside))
}

/// Starts a machine. It runs when this returns.
pub(crate) async fn launch(program: &Path, config: &Config, paths: &MachinePaths) -> Result<Vmm, VmmError> {
    let config_path = paths.vmm_config();
    let failed = |path: PathBuf| move |source| VmmError::Write { path, source };
    let text = serde_json::to_vec_pretty(config).map_err(io::Error::other);
    text.and_then(|text| fs::write(&config_path, text)).map_err(failed(config_path.clone()))?;
    for stale in [paths.control_socket(), paths.vsock_socket()] {
        remove_stale_socket(&stale).map_err(failed(stale.clone()))?;
    }
    let log_path = paths.vmm_log();
    let log = log::open(&log_path).and_then(|log| Ok((log.try_clone()?, log)));
    let (output, errors) = log.map_err(failed(log_path.clone()))?;
    let mut command = Command::new(program);
    command.arg("run").arg("--config").arg(&config_path).stdin(Stdio::null()).stdout(output).stderr(errors);
    command.env_remove(READY_VARIABLE).current_dir(paths.directory());
    let mut starting = detached::start(command, |command, number| {
        command.arg("--ready-fd").arg(number.to_string());
    })
    .map_err(|source| VmmError::Spawn { program: program.to_owned(), source })?;
    let process = starting.child.id().unwrap_or_default();
    let spoke = timeout(READY_LIMIT, starting.ready::<Readiness>()).await;
    let problem = match spoke {
        Ok(Ok(Some(Readiness::Ready(true)))) => None,
        Ok(Ok(Some(Readiness::Error(failure)))) => Some(VmmError::Refused(failure)),
        Ok(Ok(_)) => Some(VmmError::Died(match log::last_words(&log_path) {
            Some(words) => format!("it ended, and the last line of its log is {words:?}"),
            None => "it ended without a line in its log".to_owned(),
        })),
        Ok(Err(error)) => Some(VmmError::Died(format!("its report cannot be read: {error}"))),
        Err(_) => Some(VmmError::Died(format!("it was not ready within {} s", READY_LIMIT.as_secs()))),
    };
    let connected = match problem {
        None => Vmm::connect(&paths.control_socket(), process).await,
        Some(problem) => Err(problem),
    };
    if connected.is_err() {
        // It has ended already, or is of no use.
        let _ = starting.child.start_kill();
        let _ = starting.child.wait().await;
    }
    connected
}

/// Removes what a killed process left behind. A socket that is served stays, and the monitor will fail on it.
fn remove_stale_socket(path: &Path) -> io::Result<()> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
