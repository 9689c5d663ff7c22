//! Guests, and what runs them.
//!
//! Each accelerator is a folder here that implements [`Platform`]. A platform starts a [`Guest`], which reports to the
//! machine over one channel of [`Event`]s. What a platform cannot do is a fact of its [`Capabilities`] or an absent
//! answer of its guest, so that nothing outside this folder needs to know which accelerator it has.
//! [`accelerators`] is the one list of platforms.

pub mod accelerators;
#[cfg(target_arch = "x86_64")]
mod kvm;
pub mod uml;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use rorqual_vmm_protocol::{Config, Failure};

use crate::attachment::notice::ConfigurationNotice;
use crate::confinement::GuestKind;
use crate::console::GuestConsole;
use crate::devices::VirtioDevice;
use crate::net::record::NetworkRecord;
use crate::snapshot::memory::Progress;

/// A way to run guests.
pub(crate) trait Platform: Sync {
    /// What its machines can have and do.
    fn capabilities(&self) -> Capabilities;
    /// Starts a guest, or resumes it from the snapshot of its configuration. The guest sends [`Event::Connected`] once
    /// it runs, and [`Event::Ended`] when it has ended.
    fn start(&self, start: Start<'_>) -> Result<Box<dyn Guest>, Failure>;
}

/// What the machines of a platform can have and do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Capabilities {
    /// How guests run.
    pub(crate) kind: GuestKind,
    /// Most processors.
    pub(crate) max_cpus: u32,
    /// Whether a guest can be paused, saved and restored.
    pub(crate) snapshots: bool,
    /// Whether guest memory can be made of the host's huge pages.
    pub(crate) huge_pages: bool,
    /// Whether the guest runs while a device serves it. Otherwise both take turns, and requests are served in turn.
    pub(crate) concurrent_devices: bool,
    /// Whether the guest gets its entropy and console from virtio devices.
    pub(crate) virtio_basics: bool,
}

/// What a guest is started with.
pub(crate) struct Start<'a> {
    /// The machine.
    pub(crate) config: &'a Config,
    /// The kernel's command line, without what the platform adds.
    pub(crate) command_line: &'a str,
    /// The addresses of its network, when it has a card.
    pub(crate) network: Option<NetworkRecord>,
    /// The devices, in the order the guest finds them.
    pub(crate) devices: Vec<GuestDevice>,
    /// Receives what the guest prints.
    pub(crate) console: &'a GuestConsole,
    /// Receives what happens to the guest.
    pub(crate) events: &'a Sender<Event>,
}

/// A device to give to a guest.
pub(crate) struct GuestDevice {
    /// Identity, for the log.
    pub(crate) id: String,
    /// The device.
    pub(crate) device: Box<dyn VirtioDevice>,
    /// The way to notify the device's driver; the guest sets it.
    pub(crate) notice: Arc<ConfigurationNotice>,
}

/// A guest that was started.
pub(crate) trait Guest: Send + Sync {
    /// Asks the guest to power off, as its power button does (SIGINT to its init).
    fn press_power_button(&self) -> Result<(), Failure>;
    /// Ends the guest at once. [`Event::Ended`] follows.
    fn kill(&self);
    /// Removes what the guest left in the file system. Call it after the guest's end.
    fn clean_up(&self) {}
    /// The guest as one that can be paused and saved, if its platform can.
    fn pausable(&self) -> Option<&dyn Pausable> {
        None
    }
    /// How often the processors left the guest, by reason. Empty where the platform cannot count it.
    fn exits(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
    /// What the device with this number, in the order they were given, has cost in interrupts and exits. Empty where
    /// the platform cannot count it.
    fn device_traffic(&self, _number: usize) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// A guest that can be paused and saved.
pub(crate) trait Pausable {
    /// Stops the processors, then brings the devices to rest. Does nothing if the guest is paused.
    fn pause(&self);
    /// Resumes a paused guest.
    fn resume(&self);
    /// Writes a paused guest to `directory`. A failure removes what was written there.
    fn save(&self, directory: &Path, progress: &mut Progress<'_>) -> Result<(), Failure>;
}

/// What a guest's threads report to the machine.
#[derive(Debug)]
pub(crate) enum Event {
    /// The guest runs and has connected to a device.
    Connected,
    /// The guest has reset.
    Reset,
    /// A request or a signal demands the machine's end.
    Kill,
    /// The guest has ended, with all its processes.
    Ended(GuestEnd),
}

/// How a guest ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum GuestEnd {
    /// Its kernel exited with this status.
    Exited(i32),
    /// A signal ended its kernel.
    Signalled(i32),
    /// Its supervisor was killed, and with it every process of the guest.
    SupervisorKilled,
    /// A virtual processor cannot continue, for this reason.
    ProcessorFailed(String),
}
