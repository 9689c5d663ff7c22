//! One machine from its start to its end.
//!
//! The main thread starts the guest, then waits for [`Event`]s and decides when and why the machine ends. The control
//! socket's threads and the guest's threads share the [`Machine`] and send events.

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use serde::Serialize;
use serde_json::json;
use tracing::{error, info, warn};

use crate::attachment::notice::ConfigurationNotice;
use crate::config::{Accelerator, Config, Confinement, Net};
use crate::confinement::paths::RESOLV_CONF;
use crate::confinement::{self, Thread};
use crate::console::GuestConsole;
use crate::control::ControlSocket;
use crate::devices::VirtioDevice;
use crate::devices::balloon::{BalloonDevice, BalloonSize};
use crate::devices::block::{BlockDevice, Disk, MAX_QUEUES};
use crate::devices::console::ConsoleDevice;
use crate::devices::counters::Counters;
use crate::devices::net::{MAX_PAIRS, NetDevice, Settings};
use crate::devices::rng::RngDevice;
use crate::devices::vsock::VsockDevice;
use crate::error::{ErrorCode, Failure};
#[cfg(target_arch = "x86_64")]
use crate::kvm::guest::KvmGuest;
use crate::net::gateway::{self, Gateway};
use crate::net::network::{GUEST_MAC, MTU, Network, Subnet4};
use crate::net::publications::{Publisher, Publishers};
use crate::net::routes::Routes;
use crate::signals;
use crate::snapshot;
use crate::snapshot::document::NetworkRecord;
#[cfg(target_arch = "x86_64")]
use crate::snapshot::memory::Progress;
use crate::uml::{GuestEnd, UmlGuest};

/// What a balloon leaves its guest, in MiB: less, and not even the kernel's own memory would fit.
const GUEST_KEEPS_MIB: u64 = 64;

/// What the machine's threads tell its main thread.
#[derive(Debug)]
pub enum Event {
    /// The guest kernel runs and has connected to a device.
    Connected,
    /// The guest kernel has started over.
    Reset,
    /// Someone asked for the machine's end.
    Kill,
    /// The guest is gone, with all its processes.
    Ended(GuestEnd),
}

/// What the machine is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The guest does not run yet.
    Starting,
    /// It runs.
    Running,
    /// It stands still, its devices at rest.
    Paused,
    /// It has been asked to power off.
    Stopping,
}

/// Why the machine ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The guest powered off.
    PowerOff,
    /// The guest asked to start over.
    Reset,
    /// The end was asked for.
    Killed,
    /// The guest or what runs it failed.
    Crashed,
}

/// A device as the control socket sees it.
struct Device {
    id: String,
    kind: &'static str,
    counters: Arc<dyn Counters>,
    disk: Option<Arc<Disk>>,
    balloon: Option<Arc<BalloonSize>>,
    notice: Arc<ConfigurationNotice>,
}

impl Device {
    /// A device as the machine knows it, and as the guest gets it.
    fn new(
        id: &str,
        kind: &'static str,
        counters: Arc<dyn Counters>,
        device: impl VirtioDevice + 'static,
    ) -> (Self, GuestDevice) {
        let notice = Arc::new(ConfigurationNotice::default());
        let known = Self { id: id.to_owned(), kind, counters, disk: None, balloon: None, notice: notice.clone() };
        (known, GuestDevice { id: id.to_owned(), device: Box::new(device), notice })
    }
}

/// A device to give to the guest, in the order it finds them.
pub struct GuestDevice {
    /// Identity, for the log.
    pub id: String,
    /// The device.
    pub device: Box<dyn VirtioDevice>,
    /// Set to the way to its driver once there is one.
    pub notice: Arc<ConfigurationNotice>,
}

/// The guest, whatever runs its processors.
enum Guest {
    Uml(UmlGuest),
    #[cfg(target_arch = "x86_64")]
    Kvm(KvmGuest),
}

impl Guest {
    fn start(
        config: &Config,
        devices: Vec<GuestDevice>,
        console: &GuestConsole,
        events: &Sender<Event>,
    ) -> Result<Self, Failure> {
        match config.accelerator {
            Accelerator::Uml => UmlGuest::start(config, devices, console, events).map(Self::Uml),
            #[cfg(target_arch = "x86_64")]
            Accelerator::Kvm => KvmGuest::start(config, devices, console, events).map(Self::Kvm),
            #[cfg(not(target_arch = "x86_64"))]
            Accelerator::Kvm => Err(Failure::new(
                ErrorCode::AcceleratorUnusable,
                "the accelerator kvm does not support this processor architecture yet",
            )),
        }
    }

    fn press_power_button(&self) -> Result<(), Failure> {
        match self {
            Self::Uml(guest) => guest.press_power_button(),
            #[cfg(target_arch = "x86_64")]
            Self::Kvm(guest) => {
                guest.press_power_button();
                Ok(())
            }
        }
    }

    fn kill(&self) {
        match self {
            Self::Uml(guest) => guest.kill(),
            #[cfg(target_arch = "x86_64")]
            Self::Kvm(guest) => guest.kill(),
        }
    }

    /// The guest, if its accelerator can pause and save it.
    #[cfg(target_arch = "x86_64")]
    fn pausable(&self) -> Result<&KvmGuest, Failure> {
        match self {
            Self::Kvm(guest) => Ok(guest),
            Self::Uml(_) => Err(Failure::new(
                ErrorCode::NotPossible,
                "a machine of the accelerator uml cannot be paused or saved; kvm's can",
            )),
        }
    }

    /// How often the processors have left the guest, by what for; nothing where they do not.
    fn exits(&self) -> Vec<(&'static str, u64)> {
        match self {
            Self::Uml(_) => Vec::new(),
            #[cfg(target_arch = "x86_64")]
            Self::Kvm(guest) => guest.exits(),
        }
    }

    fn device_traffic(&self, number: usize) -> Vec<(&'static str, u64)> {
        match self {
            Self::Uml(_) => Vec::new(),
            #[cfg(target_arch = "x86_64")]
            Self::Kvm(guest) => guest.device_traffic(number),
        }
    }

    fn clean_up(&self) {
        match self {
            Self::Uml(guest) => guest.clean_up(),
            // It leaves nothing in the file system.
            #[cfg(target_arch = "x86_64")]
            Self::Kvm(_) => {}
        }
    }
}

/// The end as it is told to those who watch.
#[derive(Clone, Debug, Eq, PartialEq)]
struct End {
    reason: Reason,
    detail: String,
}

impl End {
    fn line(&self) -> String {
        let Self { reason, detail } = self;
        format!("{}\n", json!({"event": "exited", "reason": reason, "detail": detail}))
    }
}

#[derive(Debug)]
struct Course {
    state: State,
    kill_asked: bool,
    watchers: Vec<UnixStream>,
    end: Option<End>,
}

/// A machine while it lives, shared by the threads that drive it.
pub struct Machine {
    config: Config,
    started: Instant,
    devices: Vec<Device>,
    /// Of the network card's gateway; none without a card.
    publishers: Option<Publishers>,
    progress: Mutex<Course>,
    guest: OnceLock<Guest>,
    /// Held while the machine is paused, saved or resumed: one at a time.
    pausing: Mutex<()>,
    console: GuestConsole,
    events: Sender<Event>,
}

/// Runs the machine of `config` to its end and returns why it ended. `ready` hears once whether the start succeeded.
/// A configuration that could not be read is such a failure too.
pub fn run(config: Result<Config, Failure>, mut ready: Option<File>) -> Result<Reason, Failure> {
    match config.and_then(start) {
        Ok((machine, control, events)) => {
            info!(accelerator = machine.config.accelerator.name(), "the machine runs");
            tell(&mut ready, &json!({"ready": true}));
            drop(ready);
            let end = machine.wait(&events);
            // Before the watchers hear of the end, a new monitor must be able to take the sockets.
            drop(control);
            machine.unlock_disks();
            machine.finish(&end);
            Ok(end.reason)
        }
        Err(failure) => {
            tell(&mut ready, &json!({"error": failure}));
            Err(failure)
        }
    }
}

fn tell(ready: &mut Option<File>, message: &serde_json::Value) {
    if let Some(ready) = ready
        && let Err(error) = ready.write_all(format!("{message}\n").as_bytes())
    {
        warn!("whoever started the monitor does not listen for its readiness: {error}");
    }
}

fn start(mut config: Config) -> Result<(Arc<Machine>, ControlSocket, Receiver<Event>), Failure> {
    info!(name = %config.name, accelerator = config.accelerator.name(), memory_mib = config.memory_mib, "starting the machine");
    let (sender, events) = mpsc::channel();
    signals::block()?;
    match config.confinement {
        Confinement::On => confinement::begin(config.accelerator)?,
        Confinement::Off => warn!("the monitor is not confined, as its configuration says"),
    }
    // First: it tells two monitors of one machine apart before anything is touched.
    let listening = ControlSocket::bind(&config.control_socket)?;
    let console = GuestConsole::open(&config.console_log)?;
    let Devices { known: devices, attached, publishers } = make_devices(&mut config, &console)?;
    let machine = Arc::new(Machine {
        started: Instant::now(),
        devices,
        publishers,
        progress: Mutex::new(Course { state: State::Starting, kill_asked: false, watchers: Vec::new(), end: None }),
        guest: OnceLock::new(),
        pausing: Mutex::new(()),
        console: console.clone(),
        events: sender.clone(),
        config,
    });
    let any_device = !attached.is_empty();
    let guest = Guest::start(&machine.config, attached, &console, &sender)?;
    let _ = machine.guest.set(guest);
    signals::listen(machine.clone())?;
    let control = listening.serve(machine.clone())?;
    if any_device {
        machine.wait_until_connected(&events).inspect_err(|_| {
            machine.kill_guest();
            machine.clean_up();
        })?;
    }
    machine.runs();
    confinement::enter(Thread::Main);
    Ok((machine, control, events))
}

struct Devices {
    known: Vec<Device>,
    attached: Vec<GuestDevice>,
    publishers: Option<Publishers>,
}

fn make_devices(config: &mut Config, console: &GuestConsole) -> Result<Devices, Failure> {
    let (mut devices, mut attached) = (Vec::new(), Vec::new());
    let mut add = |(device, guest_device)| {
        devices.push(device);
        attached.push(guest_device);
    };
    for block in &config.block {
        let disk = Arc::new(Disk::open(&block.path, block.read_only)?);
        let device = BlockDevice::new(disk.clone(), &block.id);
        // User Mode Linux takes turns with its devices: there is nothing to be done at once.
        let device = match config.accelerator {
            Accelerator::Uml => device,
            Accelerator::Kvm => device.at_once(config.cpus.try_into().unwrap_or(MAX_QUEUES)),
        };
        let (known, attached) = Device::new(&block.id, "block", disk.clone(), device);
        add((Device { disk: Some(disk), ..known }, attached));
    }
    if let Some(vsock) = &config.vsock {
        let device = VsockDevice::new(vsock.guest_cid.into(), &vsock.socket)?;
        add(Device::new("vsock", "vsock", device.statistics(), device));
    }
    // User Mode Linux takes entropy from the host itself, has its console on a pipe, and its memory has no balloon.
    if config.accelerator == Accelerator::Kvm {
        let failed = |action: &'static str| move |error| Failure::internal(action, error);
        let device = RngDevice::new().map_err(failed("make the entropy device"))?;
        add(Device::new("rng", "rng", device.statistics(), device));
        let device = ConsoleDevice::new(Box::new(console.writer()), None).map_err(failed("make the console device"))?;
        add(Device::new("console", "console", device.statistics(), device));
        // Huge pages that were given back would be anyone's: the guest might find none left when it wants them again.
        if !config.huge_pages {
            let device = BalloonDevice::new();
            let size = device.size();
            let (known, attached) = Device::new("balloon", "balloon", size.clone(), device);
            add((Device { balloon: Some(size), ..known }, attached));
        }
    }
    let mut publishers = None;
    if let Some(net) = &config.net {
        let saved = config.restore.as_deref().and_then(snapshot::network);
        // User Mode Linux has one processor.
        let pairs = match config.accelerator {
            Accelerator::Uml => 1,
            Accelerator::Kvm => MAX_PAIRS.min(config.cpus.try_into().unwrap_or(MAX_PAIRS)),
        };
        let Card { device, publishers: of_card, record, parameters } = make_network(&config.name, net, pairs, saved)?;
        add(Device::new("net", "net", device.statistics(), device));
        publishers = Some(of_card);
        config.network = Some(record);
        config.kernel.command_line = format!("{} {parameters}", config.kernel.command_line);
    }
    Ok(Devices { known: devices, attached, publishers })
}

/// The network card with its gateway.
struct Card {
    device: NetDevice,
    publishers: Publishers,
    /// Its addresses, for a snapshot.
    record: NetworkRecord,
    /// What the guest finds of them on its command line.
    parameters: String,
}

/// A card with so many pairs of queues. A saved guest keeps the addresses it has.
fn make_network(machine: &str, net: &Net, pairs: usize, saved: Option<NetworkRecord>) -> Result<Card, Failure> {
    let routes = Routes::of_host();
    let subnet = saved.as_ref().map(|saved| saved.subnet.as_str()).or(net.subnet.as_deref());
    let wanted = subnet.and_then(Subnet4::parse);
    if let Some((to, bits)) = wanted.and_then(|subnet| routes.clash(subnet)) {
        warn!(?subnet, "this computer has a route to {to}/{bits}, where the machine does not reach anybody now");
    }
    let subnet = wanted.unwrap_or_else(|| routes.choose());
    let prefix6 = saved.map_or_else(|| routes.choose6(), |saved| saved.prefix6);
    let record = NetworkRecord { subnet: format!("{}/{}", subnet.address, subnet.prefix), prefix6 };
    let network = Network::new(subnet, prefix6, net.host_access, net.block_link_local);
    let resolv_conf = Path::new(RESOLV_CONF);
    let gateway = Gateway::new(machine, network, resolv_conf)
        .map_err(|error| Failure::internal("open the sockets of the machine's network", error))?;
    let mut parameters = network.command_line();
    let search = gateway::search_domains(resolv_conf);
    if !search.is_empty() {
        parameters = format!("{parameters} rorqual.search={}", search.join(","));
    }
    info!(guest = %network.v4.guest, gateway = %network.v4.gateway, "the machine's network");
    let (statistics, publishers) = (gateway.statistics(), gateway.publishers());
    let device = NetDevice::new(Settings { mac: GUEST_MAC, mtu: MTU, pairs }, Box::new(gateway), Some(statistics));
    Ok(Card { device, publishers, record, parameters })
}

impl Machine {
    /// Somebody who publishes ports of the guest.
    pub(crate) fn publisher(&self) -> Result<Publisher, Failure> {
        let publishers = self.publishers.as_ref().ok_or_else(|| {
            Failure::new(ErrorCode::NotPossible, "this machine has no network card to publish ports by")
        })?;
        Ok(publishers.publisher())
    }

    fn progress(&self) -> MutexGuard<'_, Course> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn runs(&self) {
        let mut progress = self.progress();
        // A stop may have been asked for meanwhile.
        if progress.state == State::Starting {
            progress.state = State::Running;
        }
    }

    /// Waits for the guest kernel's first sign of life.
    fn wait_until_connected(&self, events: &Receiver<Event>) -> Result<(), Failure> {
        match events.recv() {
            Ok(Event::Connected) => Ok(()),
            Ok(Event::Kill) => Err(Failure::new(ErrorCode::Internal, "the machine was told to end while it started")),
            Ok(Event::Reset) | Err(_) => {
                Err(Failure::new(ErrorCode::Internal, "the guest kernel was lost while it started"))
            }
            Ok(Event::Ended(end)) => Err(Failure::new(
                ErrorCode::AcceleratorUnusable,
                format!(
                    "the guest kernel ended before it used a device ({}): {}",
                    describe(&end),
                    self.console.last_words()
                ),
            )),
        }
    }

    /// Waits for the machine's end.
    fn wait(&self, events: &Receiver<Event>) -> End {
        let mut reset = false;
        loop {
            match events.recv() {
                Ok(Event::Connected) => {}
                Ok(Event::Reset) => {
                    info!("the guest starts over, which ends this machine");
                    reset = true;
                    self.kill_guest();
                }
                Ok(Event::Kill) => self.kill_guest(),
                Ok(Event::Ended(end)) => return self.explain(&end, reset),
                Err(_) => return End { reason: Reason::Crashed, detail: "the monitor lost its threads".to_owned() },
            }
        }
    }

    fn explain(&self, end: &GuestEnd, reset: bool) -> End {
        let (state, kill_asked) = {
            let progress = self.progress();
            (progress.state, progress.kill_asked)
        };
        let (reason, detail) = match end {
            _ if kill_asked => (Reason::Killed, String::new()),
            // Before its init takes over the power button, a kernel answers it with a reset.
            _ if reset && state == State::Stopping => {
                (Reason::PowerOff, "the guest reset when asked to stop".to_owned())
            }
            // A kernel that panicked resets, too (`panic=1`).
            _ if reset && self.console.last_words().contains("Kernel panic") => {
                (Reason::Crashed, self.console.last_words())
            }
            _ if reset => (Reason::Reset, String::new()),
            GuestEnd::Exited(0) => (Reason::PowerOff, String::new()),
            end => (Reason::Crashed, format!("{}: {}", describe(end), self.console.last_words())),
        };
        End { reason, detail }
    }

    /// The next monitor may start before this process has given its memory back.
    fn unlock_disks(&self) {
        for disk in self.devices.iter().filter_map(|device| device.disk.as_ref()) {
            if let Err(failure) = disk.unlock() {
                warn!("a disk stays locked until this process ends: {failure}");
            }
        }
    }

    fn finish(&self, end: &End) {
        self.clean_up();
        self.console.close();
        if end.reason == Reason::Crashed {
            error!("the machine crashed: {}", end.detail);
        } else {
            info!(reason = ?end.reason, detail = %end.detail, "the machine has ended");
        }
        let mut progress = self.progress();
        progress.end = Some(end.clone());
        for watcher in progress.watchers.drain(..) {
            send_end(watcher, end);
        }
    }

    fn clean_up(&self) {
        if let Some(guest) = self.guest.get() {
            guest.clean_up();
        }
    }

    fn kill_guest(&self) {
        if let Some(guest) = self.guest.get() {
            guest.kill();
        }
    }

    /// The answer to `state`.
    pub fn state(&self) -> serde_json::Value {
        json!({
            "state": self.progress().state,
            "accelerator": self.config.accelerator.name(),
            "process": std::process::id(),
            "confinement": confinement::status(),
            "uptime_ms": u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// The answer to `stats`.
    pub fn stats(&self) -> serde_json::Value {
        let guest = self.guest.get();
        let device = |(number, device): (usize, &Device)| {
            let mut answer =
                json!({"id": device.id, "kind": device.kind, "counters": object(device.counters.snapshot())});
            match guest.map(|guest| guest.device_traffic(number)) {
                Some(traffic) if !traffic.is_empty() => answer["traffic"] = object(traffic),
                _ => {}
            }
            answer
        };
        let mut answer = json!({"devices": self.devices.iter().enumerate().map(device).collect::<Vec<_>>()});
        match guest.map(Guest::exits) {
            Some(exits) if !exits.is_empty() => answer["exits"] = object(exits),
            _ => {}
        }
        answer
    }

    /// Asks the guest to power off.
    pub fn stop(&self) -> Result<(), Failure> {
        let guest = self.running_guest()?;
        if self.progress().state == State::Paused {
            let message = "the machine is paused and hears nothing; resume it first, or kill it";
            return Err(Failure::new(ErrorCode::NotPossible, message));
        }
        self.progress().state = State::Stopping;
        info!("asking the guest to power off");
        guest.press_power_button()
    }

    /// Stops the guest where it is. Paused already: nothing.
    #[cfg(target_arch = "x86_64")]
    pub fn pause(&self) -> Result<(), Failure> {
        let _pausing = self.pausing.lock().unwrap_or_else(PoisonError::into_inner);
        self.enter(State::Running, State::Paused)?.inspect(|guest| guest.pause());
        Ok(())
    }

    /// Lets a paused guest go on. Running already: nothing.
    #[cfg(target_arch = "x86_64")]
    pub fn resume(&self) -> Result<(), Failure> {
        let _pausing = self.pausing.lock().unwrap_or_else(PoisonError::into_inner);
        self.enter(State::Paused, State::Running)?.inspect(|guest| guest.resume());
        Ok(())
    }

    /// Writes the machine to `directory` and leaves it paused. When that fails it goes on as before.
    #[cfg(target_arch = "x86_64")]
    pub fn save(&self, directory: &Path, progress: &mut Progress<'_>) -> Result<(), Failure> {
        let _pausing = self.pausing.lock().unwrap_or_else(PoisonError::into_inner);
        let paused_now = self.enter(State::Running, State::Paused)?.inspect(|guest| guest.pause());
        let saved = self.running_guest()?.pausable()?.save(&self.config, directory, progress);
        match &saved {
            Ok(()) => info!(directory = %directory.display(), "the machine is saved"),
            Err(failure) => {
                warn!("the machine is not saved: {failure}");
                if paused_now.is_some() {
                    self.enter(State::Paused, State::Running)?.inspect(|guest| guest.resume());
                }
            }
        }
        saved
    }

    /// Goes from one state to another. Returns the guest when it was in the first; nothing when it is in the other already.
    #[cfg(target_arch = "x86_64")]
    fn enter(&self, from: State, to: State) -> Result<Option<&KvmGuest>, Failure> {
        let guest = self.running_guest()?.pausable()?;
        let mut progress = self.progress();
        match progress.state {
            state if state == to => Ok(None),
            state if state == from => {
                progress.state = to;
                Ok(Some(guest))
            }
            State::Stopping => {
                Err(Failure::new(ErrorCode::NotPossible, "the machine is stopping; wait until it has ended"))
            }
            State::Starting | State::Running | State::Paused => {
                Err(Failure::new(ErrorCode::NotPossible, "the machine is starting; try again when it runs"))
            }
        }
    }

    fn running_guest(&self) -> Result<&Guest, Failure> {
        self.guest.get().ok_or_else(|| Failure::new(ErrorCode::Internal, "the guest has not been started yet"))
    }

    /// Ends the machine at once.
    pub fn kill(&self) {
        info!("ending the machine at once");
        self.progress().kill_asked = true;
        let _ = self.events.send(Event::Kill);
    }

    /// True when a stop has been asked for.
    pub fn is_stopping(&self) -> bool {
        self.progress().state == State::Stopping
    }

    /// Takes over the size of a disk whose image was grown on the host; tells the guest if it listens.
    pub fn resize_disk(&self, id: &str) -> Result<serde_json::Value, Failure> {
        let found =
            self.devices.iter().find_map(|device| Some((device, device.disk.as_ref()?)).filter(|_| device.id == id));
        let (device, disk) = found.ok_or_else(|| {
            Failure::new(ErrorCode::ConfigInvalid, format!("the machine has no disk with the id {id:?}"))
        })?;
        let bytes = disk.reread_size()?;
        let told = device.notice.configuration_changed().map_err(|error| Failure::internal("tell the guest", error))?;
        info!(disk = id, bytes, told, "the disk has a new size");
        Ok(json!({"bytes": bytes, "guest_told": told}))
    }

    /// Asks the guest for so many bytes of its memory, which the host gets back; its `actual_bytes` tell how far it has come.
    pub fn set_balloon(&self, bytes: u64) -> Result<serde_json::Value, Failure> {
        let found = self.devices.iter().find_map(|device| Some((device, device.balloon.as_ref()?)));
        let (device, balloon) = found.ok_or_else(|| {
            let message =
                "the machine has no balloon: only machines of the accelerator kvm without huge_pages have one";
            Failure::new(ErrorCode::ConfigInvalid, message)
        })?;
        let most = self.config.memory_mib.saturating_sub(GUEST_KEEPS_MIB) << 20;
        if bytes > most {
            let message =
                format!("a balloon of {bytes} bytes leaves the guest too little; at most {most} can be asked for");
            return Err(Failure::new(ErrorCode::ConfigInvalid, message));
        }
        let bytes = balloon.want(bytes);
        let told = device.notice.configuration_changed().map_err(|error| Failure::internal("tell the guest", error))?;
        info!(bytes, told, "the balloon has a new size");
        Ok(json!({"bytes": bytes, "actual_bytes": balloon.actual(), "guest_told": told}))
    }

    /// Tells `watcher` of the machine's end when it comes, or now if it has.
    pub fn watch(&self, watcher: UnixStream) {
        let mut progress = self.progress();
        match progress.end.clone() {
            Some(end) => send_end(watcher, &end),
            None => progress.watchers.push(watcher),
        }
    }
}

fn object(counters: Vec<(&'static str, u64)>) -> serde_json::Value {
    counters.into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect::<serde_json::Map<_, _>>().into()
}

fn send_end(mut watcher: UnixStream, end: &End) {
    // One that has gone away needs no telling.
    let _ = watcher.write_all(end.line().as_bytes());
}

fn describe(end: &GuestEnd) -> String {
    match end {
        GuestEnd::Exited(status) => format!("the guest kernel exited with status {status}"),
        GuestEnd::Signalled(signal) => match nix::sys::signal::Signal::try_from(*signal) {
            Ok(signal) => format!("the guest kernel was ended by {signal}"),
            Err(_) => format!("the guest kernel was ended by signal {signal}"),
        },
        GuestEnd::ProcessorFailed(reason) => format!("the guest's processor cannot go on: {reason}"),
        GuestEnd::SupervisorKilled => "the supervisor of the guest kernel was killed".to_owned(),
    }
}
