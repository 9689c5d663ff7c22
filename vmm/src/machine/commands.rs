//! The machine and its commands, as the control socket and the signals give them.
//!
//! The threads of the control socket, of the signals and of the guest share the [`Machine`]; the main thread decides
//! when and why it ends (see [`monitor`](crate::monitor)).

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use rorqual_vmm_protocol::{
    BalloonResized, Config, Counts, DeviceStats, DiskResized, Failure, FailureCode, MachineState, State, Stats,
};
use tracing::{error, info, warn};

use super::course::Course;
use super::devices::Device;
use super::end::{Before, End};
use crate::confinement;
use crate::guest::{Event, Guest, Pausable};
use crate::net::publications::{Publisher, Publishers};
use crate::snapshot::memory::Progress;

/// Memory that a balloon leaves the guest, in MiB: with less, not even the kernel's own would fit.
const GUEST_KEEPS_MIB: u64 = 64;

/// A machine while it lives, shared by the threads that drive it.
pub(crate) struct Machine {
    config: Config,
    started: Instant,
    devices: Vec<Device>,
    /// Of the network card's gateway; none without a card.
    publishers: Option<Publishers>,
    course: Mutex<Course>,
    guest: OnceLock<Box<dyn Guest>>,
    /// Held while the machine is paused, saved or resumed, one at a time.
    pausing: Mutex<()>,
    events: Sender<Event>,
}

impl Machine {
    /// A machine whose guest has not been started. [`kill`](Self::kill) sends to `events`.
    pub(crate) fn new(
        config: Config,
        devices: Vec<Device>,
        publishers: Option<Publishers>,
        events: Sender<Event>,
    ) -> Self {
        Self {
            config,
            started: Instant::now(),
            devices,
            publishers,
            course: Mutex::new(Course::new()),
            guest: OnceLock::new(),
            pausing: Mutex::new(()),
            events,
        }
    }

    /// The configuration.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The guest has been started.
    pub(crate) fn set_guest(&self, guest: Box<dyn Guest>) {
        if self.guest.set(guest).is_err() {
            error!("a machine's guest was started twice");
        }
    }

    /// The guest runs.
    pub(crate) fn run(&self) {
        self.course().run();
    }

    /// What had been asked of the machine when its guest ended, perhaps by a reset.
    pub(crate) fn before_end(&self, reset: bool) -> Before {
        self.course().before_end(reset)
    }

    /// Ends the guest at once.
    pub(crate) fn kill_guest(&self) {
        if let Some(guest) = self.guest.get() {
            guest.kill();
        }
    }

    /// Removes what the guest left in the file system.
    pub(crate) fn clean_up(&self) {
        if let Some(guest) = self.guest.get() {
            guest.clean_up();
        }
    }

    /// Unlocks the disks: the next monitor may start before this process has given its memory back.
    pub(crate) fn unlock_disks(&self) {
        for disk in self.devices.iter().filter_map(|device| device.disk.as_ref()) {
            if let Err(failure) = disk.unlock() {
                warn!("a disk stays locked until this process ends: {failure}");
            }
        }
    }

    /// The machine has ended: notifies those that watch it.
    pub(crate) fn end(&self, end: &End) {
        self.course().end(end);
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running_guest(&self) -> Result<&dyn Guest, Failure> {
        let guest = self.guest.get().map(Box::as_ref);
        guest.ok_or_else(|| Failure::new(FailureCode::Internal, "the guest has not been started yet"))
    }

    fn pausable_guest(&self) -> Result<&dyn Pausable, Failure> {
        self.running_guest()?.pausable().ok_or_else(|| {
            let name = self.config.accelerator.name();
            let message = format!("a machine of the accelerator {name} cannot be paused or saved");
            Failure::new(FailureCode::NotPossible, message).with_fix("use the accelerator kvm, or stop the machine")
        })
    }

    /// The answer to `state`.
    pub(crate) fn state(&self) -> MachineState {
        MachineState {
            accelerator: self.config.accelerator,
            confinement: confinement::status(),
            process: std::process::id(),
            state: self.course().state(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// The answer to `stats`.
    pub(crate) fn stats(&self) -> Stats {
        let guest = self.guest.get();
        let device = |(number, device): (usize, &Device)| DeviceStats {
            counters: counts(device.counters.snapshot()),
            id: device.id.clone(),
            kind: device.kind.to_owned(),
            traffic: guest.and_then(|guest| counted(guest.device_traffic(number))),
        };
        Stats {
            devices: self.devices.iter().enumerate().map(device).collect(),
            exits: guest.and_then(|guest| counted(guest.exits())),
        }
    }

    /// Asks the guest to power off.
    pub(crate) fn stop(&self) -> Result<(), Failure> {
        let guest = self.running_guest()?;
        self.course().stop()?;
        info!("asking the guest to power off");
        guest.press_power_button()
    }

    /// Whether the guest has been asked to power off.
    pub(crate) fn is_stopping(&self) -> bool {
        self.course().state() == State::Stopping
    }

    /// Ends the machine at once.
    pub(crate) fn kill(&self) {
        info!("ending the machine at once");
        self.course().kill();
        let _ = self.events.send(Event::Kill);
    }

    /// Stops the guest where it is. A paused guest stays paused.
    pub(crate) fn pause(&self) -> Result<(), Failure> {
        let _pausing = self.pausing.lock().unwrap_or_else(PoisonError::into_inner);
        self.pause_now().map(drop)
    }

    /// Resumes a paused guest. A running guest keeps running.
    pub(crate) fn resume(&self) -> Result<(), Failure> {
        let _pausing = self.pausing.lock().unwrap_or_else(PoisonError::into_inner);
        self.resume_now()
    }

    /// Writes the machine to `directory` and leaves it paused. After a failure it is as it was before.
    pub(crate) fn save(&self, directory: &Path, progress: &mut Progress<'_>) -> Result<(), Failure> {
        let _pausing = self.pausing.lock().unwrap_or_else(PoisonError::into_inner);
        let paused_now = self.pause_now()?;
        let saved = self.pausable_guest()?.save(directory, progress);
        match &saved {
            Ok(()) => info!(directory = %directory.display(), "the machine is saved"),
            Err(failure) => {
                warn!("the machine is not saved: {failure}");
                if paused_now {
                    self.resume_now()?;
                }
            }
        }
        saved
    }

    /// Pauses a running guest; false if it was paused already. The caller holds `pausing`.
    fn pause_now(&self) -> Result<bool, Failure> {
        let guest = self.pausable_guest()?;
        let paused_now = self.course().enter(State::Running, State::Paused)?;
        if paused_now {
            guest.pause();
        }
        Ok(paused_now)
    }

    /// Resumes a paused guest. The caller holds `pausing`.
    fn resume_now(&self) -> Result<(), Failure> {
        let guest = self.pausable_guest()?;
        if self.course().enter(State::Paused, State::Running)? {
            guest.resume();
        }
        Ok(())
    }

    /// Reads the size of a disk again whose image grew on the host, and notifies the guest if it listens.
    pub(crate) fn resize_disk(&self, id: &str) -> Result<DiskResized, Failure> {
        let found =
            self.devices.iter().find_map(|device| Some((device, device.disk.as_ref()?)).filter(|_| device.id == id));
        let (device, disk) = found.ok_or_else(|| {
            Failure::new(FailureCode::ConfigInvalid, format!("the machine has no disk with the id {id:?}"))
        })?;
        let bytes = disk.reread_size()?;
        let guest_told = notify(device)?;
        info!(disk = id, bytes, guest_told, "the disk has a new size");
        Ok(DiskResized { bytes, guest_told })
    }

    /// Asks the guest for `bytes` of its memory, which the host gets back.
    pub(crate) fn set_balloon(&self, bytes: u64) -> Result<BalloonResized, Failure> {
        let found = self.devices.iter().find_map(|device| Some((device, device.balloon.as_ref()?)));
        let (device, balloon) = found.ok_or_else(|| {
            Failure::new(FailureCode::ConfigInvalid, "the machine has no balloon")
                .with_fix("use a machine of the accelerator kvm without huge_pages")
        })?;
        let most = self.config.memory_mib.saturating_sub(GUEST_KEEPS_MIB) << 20;
        if bytes > most {
            let message = format!("a balloon of {bytes} bytes would leave the guest less than {GUEST_KEEPS_MIB} MiB");
            return Err(
                Failure::new(FailureCode::ConfigInvalid, message).with_fix(format!("ask for {most} bytes at most"))
            );
        }
        let bytes = balloon.want(bytes);
        let guest_told = notify(device)?;
        info!(bytes, guest_told, "the balloon has a new size");
        Ok(BalloonResized { actual_bytes: balloon.actual(), bytes, guest_told })
    }

    /// A publisher of the guest's ports.
    pub(crate) fn publisher(&self) -> Result<Publisher, Failure> {
        let publishers = self.publishers.as_ref().ok_or_else(|| {
            Failure::new(FailureCode::NotPossible, "this machine has no network card, so it cannot publish ports")
        })?;
        Ok(publishers.publisher())
    }

    /// Notifies `watcher` of the machine's end when it comes, or now if it has come.
    pub(crate) fn watch(&self, watcher: UnixStream) {
        self.course().watch(watcher);
    }
}

/// Notifies the driver of a device that its configuration changed. False if there is no driver yet.
fn notify(device: &Device) -> Result<bool, Failure> {
    device.notice.configuration_changed().map_err(|error| Failure::internal("notify the guest", error))
}

fn counts(counters: Vec<(&'static str, u64)>) -> Counts {
    counters.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// The counters, unless the list is empty.
fn counted(counters: Vec<(&'static str, u64)>) -> Option<Counts> {
    (!counters.is_empty()).then(|| counts(counters))
}
