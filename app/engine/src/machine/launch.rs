//! The host's part of a start: settings, image, disk, accelerator, monitor.

use std::path::PathBuf;

use rorqual_protocol::{ENVIRONMENT_PORT, READY_PORT};
use rorqual_vmm_protocol as vmm;
use rorqual_vmm_protocol::{Accelerator, FailureCode};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::{
    accelerator::{self, AcceleratorError, Kernels},
    environment::Environment,
    guest::{self, Notices},
    progress::Progress,
    saved_state,
};
use crate::{
    config::{
        AcceleratorChoice, BindPolicy, Config, ConfigError, InEffect, MachineConfig,
        keys::{self, TakesEffect},
    },
    disk::{self, Change, DiskError},
    error::Coded,
    home::{Home, HomeError, MachineName, MachinePaths},
    image::{Image, ImageError},
    monitor::{self, Vmm, VmmError},
};

/// How a machine is to be started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StartChoice {
    /// What runs its processors; `None` takes the configured choice.
    pub(crate) accelerator: Option<AcceleratorChoice>,
    /// Boot even if a saved state could be resumed; it is deleted.
    pub(crate) cold: bool,
}
/// Advice for a machine that ended unexpectedly.
pub(super) const END_ADVICE: &str =
    "read why with `rorqual logs kernel` and `rorqual logs vmm`, then start it with `rorqual start`";
/// Advice for a machine whose engine does not run.
pub(super) const ENGINE_ADVICE: &str =
    "read why with `rorqual logs dockerd` and `rorqual logs containerd`, then run `rorqual restart`";

/// Why a machine did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The state directory.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The accelerator.
    #[error(transparent)]
    Accelerator(#[from] AcceleratorError),
    /// The monitor.
    #[error(transparent)]
    Vmm(#[from] VmmError),
    /// The guest's socket cannot be served.
    #[error("cannot listen on {path}: {source}", path = path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A useless saved state cannot be removed.
    #[error("cannot remove the saved state in {path}: {source}", path = path.display())]
    SavedState {
        /// Its directory.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A defect of the daemon.
    #[error("the start failed within the daemon: {0}")]
    Internal(String),
    /// A stop was requested.
    #[error("the start was cancelled, because the machine was stopped")]
    Cancelled,
    /// It ended while it booted.
    #[error("the machine ended while it started: {0}")]
    Ended(String),
    /// It has not started in time and keeps running.
    #[error("the machine runs, but {what} has not answered within {seconds} s")]
    TooSlow {
        /// "the guest", "the Docker Engine".
        what: &'static str,
        /// Time since the start.
        seconds: u64,
    },
    /// Nothing in it started in time, so it was ended.
    #[error("the guest did not come up within {seconds} s{}",
        .last_words.as_ref()
            .map(|words| format!(", and the last line of its console is {words:?}"))
            .unwrap_or_default())]
    NeverUp {
        /// Time since the start.
        seconds: u64,
        /// The last line of the console.
        last_words: Option<String>,
    },
    /// The machine runs; the Docker Engine in it does not.
    #[error("the machine runs, but the Docker Engine does not: {message}")]
    Engine {
        /// Why.
        message: String,
        /// What to do about it.
        fix: String,
    },
}

impl Coded for StartError {
    fn code(&self) -> &str {
        match self {
            Self::Home(error) => error.code(),
            Self::Config(error) => error.code(),
            Self::Image(error) => error.code(),
            Self::Disk(error) => error.code(),
            Self::Accelerator(error) => error.code(),
            Self::Vmm(error) => error.code(),
            Self::Listen { .. } => "socket-unusable",
            Self::SavedState { .. } => "saved-state",
            Self::Internal(_) => "internal",
            Self::Cancelled => "start-cancelled",
            Self::Ended(_) => "machine-ended",
            Self::TooSlow { .. } | Self::NeverUp { .. } => "start-timeout",
            Self::Engine { .. } => "engine-failed",
        }
    }

    fn fix(&self) -> Option<String> {
        Some(match self {
            Self::Home(error) => return error.fix(),
            Self::Config(error) => return error.fix(),
            Self::Image(error) => return error.fix(),
            Self::Disk(error) => return error.fix(),
            Self::Accelerator(error) => return error.fix(),
            Self::Vmm(error) => return error.fix(),
            Self::Listen { path, .. } => format!("check the permissions of {}", path.display()),
            Self::SavedState { path, .. } => format!("check the permissions of {}, or remove it", path.display()),
            Self::Internal(_) => "read more with `rorqual logs daemon`".to_owned(),
            Self::Cancelled => return None,
            Self::Ended(_) | Self::NeverUp { .. } => END_ADVICE.to_owned(),
            Self::TooSlow { .. } => "wait until `rorqual status` shows it as running, or read what it is doing with \
                                     `rorqual logs dockerd` and `rorqual logs kernel`"
                .to_owned(),
            Self::Engine { fix, .. } => fix.clone(),
        })
    }

    fn grpc_code(&self) -> tonic::Code {
        match self {
            Self::Cancelled => tonic::Code::Cancelled,
            Self::TooSlow { .. } | Self::NeverUp { .. } => tonic::Code::DeadlineExceeded,
            Self::Internal(_) => tonic::Code::Internal,
            _ => tonic::Code::FailedPrecondition,
        }
    }
}

#[cfg(test)]
crate::error::tests::samples!(StartError {
    Home => Self::Home(HomeError::Nowhere),
    Config => {
        let source = crate::error::tests::refusal();
        Self::Config(ConfigError::Io { action: "read", file: "/h".into(), source })
    },
    Image => Self::Image(ImageError::Missing(vec!["/i".into()])),
    Disk => Self::Disk(DiskError::NotAFile("/d".into())),
    Accelerator => Self::Accelerator(AcceleratorError::Probe("it did not end".to_owned())),
    Vmm => Self::Vmm(VmmError::Missing("/usr/bin".into())),
    Listen => Self::Listen { path: "/h/vsock.sock_1024".into(), source: crate::error::tests::refusal() },
    SavedState => Self::SavedState { path: "/h/snapshot".into(), source: crate::error::tests::refusal() },
    Internal => Self::Internal("a task panicked".to_owned()),
    Cancelled => Self::Cancelled,
    Ended => Self::Ended("the guest crashed".to_owned()),
    TooSlow => Self::TooSlow { what: "the guest", seconds: 120 },
    NeverUp => Self::NeverUp { seconds: 120, last_words: Some("booting".to_owned()) },
    NeverUp => Self::NeverUp { seconds: 120, last_words: None },
    Engine => Self::Engine { message: "no space on the data disk".to_owned(), fix: ENGINE_ADVICE.to_owned() },
});

/// What is known of a running machine. It is kept in `started.json` for the next daemon.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) accelerator: String,
    pub(crate) accelerator_reason: String,
    pub(crate) cpus: u32,
    pub(crate) memory_mib: u64,
    pub(crate) image_version: String,
    pub(crate) kernel_release: String,
    /// Milliseconds from the request to the engine's answer; `None` until it has answered.
    pub(crate) ready_after_ms: Option<u64>,
    #[serde(skip)]
    pub(crate) vmm_process: u32,
    #[serde(skip)]
    pub(crate) started: Option<std::time::Instant>,
}

impl Run {
    /// Writes `started.json`. Without it the next daemon only knows less.
    pub(crate) fn save(&self, paths: &MachinePaths) {
        let text = serde_json::to_vec(self).unwrap_or_default();
        if let Err(error) = std::fs::write(paths.started(), text) {
            tracing::warn!("cannot write {}: {error}", paths.started().display());
        }
    }
}

/// A machine whose monitor runs.
pub(crate) struct Launched {
    pub(crate) vmm: Vmm,
    pub(crate) notices: Notices,
    pub(crate) run: Run,
    pub(crate) bind: BindPolicy,
    pub(crate) origin: Origin,
}

/// How a machine came to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Its kernel was started.
    Booted,
    /// It resumed from its saved state.
    Restored,
    /// It ran before this daemon found it.
    Adopted,
}

/// Finds a machine that runs already.
pub(crate) async fn adopt(home: &Home, name: &MachineName) -> Result<Option<Launched>, StartError> {
    let paths = home.machine(name);
    let Some(vmm) = Vmm::adopt(&paths).await? else { return Ok(None) };
    let notices = listen(home, &paths)?;
    let read = |path| std::fs::read(path).unwrap_or_default();
    let mut run: Run = serde_json::from_slice(&read(paths.started())).unwrap_or_default();
    if let Ok(config) = serde_json::from_slice::<vmm::Config>(&read(paths.vmm_config())) {
        config.accelerator.name().clone_into(&mut run.accelerator);
        (run.cpus, run.memory_mib) = (config.cpus, config.memory_mib);
    }
    (run.vmm_process, run.started) = (vmm.process, Some(vmm.started));
    // Damaged settings must neither close the ports of a running machine nor open them to others.
    let config = Config::load(home).ok();
    if let Some(config) = &config {
        InEffect::update(&paths.in_effect(), |in_effect| {
            in_effect.record(&keys::CONFIG, config, |name, _| name == "ports.bind");
        });
    }
    let bind = config.map_or(BindPolicy::Localhost, |config| config.bind);
    Ok(Some(Launched { vmm, notices, run, bind, origin: Origin::Adopted }))
}

/// Starts a machine, or finds it running. `cancel` has no effect once the monitor is started: the caller ends the
/// machine this returns.
pub(crate) async fn launch(
    home: Home,
    name: MachineName,
    program: Option<PathBuf>,
    how: StartChoice,
    progress: Progress,
    cancel: CancellationToken,
) -> Result<Launched, StartError> {
    if let Some(running) = adopt(&home, &name).await? {
        return Ok(running);
    }
    let mut plan = tokio::select! {
        plan = prepare(&home, &name, program.clone(), how, &progress) => plan?,
        () = cancel.cancelled() => return Err(StartError::Cancelled),
    };
    // Before the guest runs, so that its call is not missed.
    let notices = listen(&home, &plan.paths)?;
    let vmm = match monitor::launch(&plan.program, &plan.vmm_config, &plan.paths).await {
        Err(VmmError::Refused(failure))
            if failure.code == FailureCode::SnapshotInvalid && plan.vmm_config.restore.is_some() =>
        {
            tracing::warn!("{failure}; booting instead");
            progress.note(format!("Booting instead: {failure}"));
            let how = StartChoice { cold: true, ..how };
            plan = tokio::select! {
                plan = prepare(&home, &name, program, how, &progress) => plan?,
                () = cancel.cancelled() => return Err(StartError::Cancelled),
            };
            monitor::launch(&plan.program, &plan.vmm_config, &plan.paths).await?
        }
        launched => launched?,
    };
    let mut run = plan.run;
    (run.vmm_process, run.started) = (vmm.process, Some(vmm.started));
    run.save(&plan.paths);
    let origin = if plan.vmm_config.restore.is_some() { Origin::Restored } else { Origin::Booted };
    Ok(Launched { vmm, notices, run, bind: plan.bind, origin })
}

struct Plan {
    paths: MachinePaths,
    program: PathBuf,
    vmm_config: vmm::Config,
    run: Run,
    bind: BindPolicy,
}

/// Everything before the monitor. May be dropped at any time.
async fn prepare(
    home: &Home,
    name: &MachineName,
    program: Option<PathBuf>,
    how: StartChoice,
    progress: &Progress,
) -> Result<Plan, StartError> {
    progress.step("image", "Checking the guest image");
    let config = Config::load(home)?;
    let paths = home.create_machine(name)?;
    let settings = MachineConfig::load(&paths, &config.machine)?;
    let program = program.map_or_else(monitor::find_program, Ok)?;
    let image = Image::locate(home, &config)?;
    progress.note(format!("Checking the guest image {}", image.version()));
    // The accelerators are probed while the image is read.
    let uml_kernel = image.kernel(Accelerator::Uml).ok().map(|(kernel, _)| kernel);
    let kernels = Kernels { kvm: image.kernel(Accelerator::Kvm).is_ok(), uml: uml_kernel.is_some() };
    let choice = how.accelerator.unwrap_or(config.accelerator);
    let restore = saved_state(&paths, choice, how.cold)?;
    let (verified, decided) = tokio::join!(
        blocking({
            let home = home.clone();
            move || image.verify(&home).map(|()| image).map_err(StartError::from)
        }),
        async {
            if restore.is_some() {
                // Only kvm saves machines, and resuming takes less time than another probe of kvm.
                return Ok((Accelerator::Kvm, "where it was saved".to_owned()));
            }
            let findings = accelerator::probe(&program, uml_kernel.as_deref()).await?;
            accelerator::choose(choice, &kernels.limit(findings))
        },
    );
    let image = verified?;

    prepare_disk(&paths, settings.disk_gib, progress).await?;

    let (accelerator, reason) = decided?;
    let doing = if restore.is_some() { "Restoring" } else { "Starting" };
    progress.step("machine", format!("{doing} the machine ({}: {reason})", accelerator.name()));
    let vmm_config = monitor::document(name, &paths, &image, accelerator, &config, &settings, restore)?;
    record_in_effect(&paths, &config, &settings, vmm_config.restore.is_some());
    let run = Run {
        accelerator: accelerator.name().to_owned(),
        accelerator_reason: reason,
        cpus: vmm_config.cpus,
        memory_mib: vmm_config.memory_mib,
        image_version: image.version().to_owned(),
        kernel_release: image.kernel_release(accelerator.name()).to_owned(),
        ..Run::default()
    };
    Ok(Plan { paths, program, vmm_config, run, bind: config.bind })
}

/// Creates or grows the data disk.
async fn prepare_disk(paths: &MachinePaths, gib: u32, progress: &Progress) -> Result<(), StartError> {
    progress.step("disk", format!("Preparing the data disk of {gib} GiB"));
    let data_disk = paths.data_disk();
    let prepared = blocking(move || disk::prepare(&data_disk, gib).map_err(StartError::from)).await?;
    match prepared.change {
        Change::Created => progress.note(format!("Created a data disk of {gib} GiB")),
        Change::Grown => progress.note(format!("The data disk has grown to {gib} GiB")),
        Change::None => {}
    }
    if let Some(warning) = prepared.warning {
        tracing::warn!("{warning}");
        progress.note(format!("Low on space: {warning}"));
    }
    Ok(())
}

/// Records the settings that this start applies. A machine that `resumes` keeps those of its boot.
fn record_in_effect(paths: &MachinePaths, config: &Config, settings: &MachineConfig, resumes: bool) {
    InEffect::update(&paths.in_effect(), |in_effect| {
        let applies = |takes_effect| match takes_effect {
            TakesEffect::MachineStart => true,
            TakesEffect::MachineBoot => !resumes,
            TakesEffect::NewMachine | TakesEffect::DaemonStart | TakesEffect::StartCommand => false,
        };
        in_effect.record(&keys::CONFIG, config, |_, key| applies(key.takes_effect));
        in_effect.record(std::slice::from_ref(&keys::MACHINE), settings, |_, key| applies(key.takes_effect));
    });
}

/// The saved state to resume from. One that is not wanted, or that another accelerator saved, is discarded, because the
/// disk will no longer match it.
fn saved_state(paths: &MachinePaths, choice: AcceleratorChoice, cold: bool) -> Result<Option<PathBuf>, StartError> {
    if !saved_state::exists(paths) {
        return Ok(None);
    }
    let path = paths.snapshot();
    if cold || choice == AcceleratorChoice::Uml {
        tracing::warn!("the machine's saved state is deleted: it boots");
        saved_state::delete(paths).map_err(|source| StartError::SavedState { path, source })?;
        return Ok(None);
    }
    Ok(Some(path))
}

fn listen(home: &Home, paths: &MachinePaths) -> Result<Notices, StartError> {
    let path = paths.vsock_port(ENVIRONMENT_PORT);
    let environment = Environment::serve(&path, home.clone(), paths.in_effect());
    let environment = environment.map_err(|source| StartError::Listen { path, source })?;
    let path = paths.vsock_port(READY_PORT);
    guest::listen(path.clone(), environment).map_err(|source| StartError::Listen { path, source })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StartError> + Send + 'static,
) -> Result<T, StartError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| StartError::Internal(error.to_string()))?
}
