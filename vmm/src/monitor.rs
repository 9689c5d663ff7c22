//! The monitor of one machine: composed from sockets, confinement, devices and a guest, waited for, and ended.
//!
//! The main thread runs all of this. Once the guest has been started it waits for [`Event`]s and decides when and why
//! the machine ends.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use rorqual_vmm_protocol::{Config, Confinement, EndReason, Failure, FailureCode, Readiness};
use tracing::{error, info, warn};

use crate::confinement::{self, Thread};
use crate::console::GuestConsole;
use crate::control::ControlSocket;
use crate::guest::{Event, Start, accelerators};
use crate::machine::Machine;
use crate::machine::card::Card;
use crate::machine::devices::Devices;
use crate::machine::end::{End, describe};
use crate::signals;
use crate::snapshot;

/// A monitor whose guest runs.
struct Monitor {
    machine: Arc<Machine>,
    console: GuestConsole,
    control: ControlSocket,
    events: Receiver<Event>,
}

/// Runs the machine of `config` to its end and returns why it ended. `ready` receives one line when the start succeeded
/// or failed. A configuration that could not be read is such a failure.
pub fn run(config: Result<Config, Failure>, mut ready: Option<File>) -> Result<EndReason, Failure> {
    match config.and_then(Monitor::start) {
        Ok(monitor) => {
            info!(accelerator = monitor.machine.config().accelerator.name(), "the machine runs");
            announce(&mut ready, &Readiness::Ready(true));
            drop(ready);
            Ok(monitor.wait())
        }
        Err(failure) => {
            announce(&mut ready, &Readiness::Error(failure.clone()));
            Err(failure)
        }
    }
}

fn announce(ready: &mut Option<File>, readiness: &Readiness) {
    let Some(ready) = ready else { return };
    let line = serde_json::to_string(readiness).map_err(std::io::Error::other);
    if let Err(error) = line.and_then(|line| ready.write_all(format!("{line}\n").as_bytes())) {
        warn!("the process that started the monitor does not listen for its readiness: {error}");
    }
}

impl Monitor {
    /// Composes the machine and starts its guest.
    fn start(config: Config) -> Result<Self, Failure> {
        let accelerator = config.accelerator;
        let memory_mib = config.memory_mib;
        info!(name = %config.name, accelerator = accelerator.name(), memory_mib, "starting the machine");
        let platform = accelerators::platform(accelerator)?;
        let (sender, events) = mpsc::channel();
        signals::block()?;
        match config.confinement {
            Confinement::On => confinement::begin(platform.capabilities().kind)?,
            Confinement::Off => warn!("the monitor is not confined, as its configuration demands"),
        }
        // First: a second monitor of the same machine fails here, before it touches anything.
        let listening = ControlSocket::bind(&config.control_socket)?;
        let console = GuestConsole::open(&config.console_log)?;
        let saved = config.restore.as_deref().and_then(snapshot::network);
        let card = config.net.as_ref().map(|net| Card::make(&config.name, net, config.cpus, saved)).transpose()?;
        let network = card.as_ref().map(|card| card.record.clone());
        let publishers = card.as_ref().map(|card| card.publishers.clone());
        let command_line = match &card {
            Some(card) => format!("{} {}", config.kernel.command_line, card.parameters),
            None => config.kernel.command_line.clone(),
        };
        let Devices { known, attached: devices } = Devices::make(&config, platform.capabilities(), &console, card)?;
        let any_device = !devices.is_empty();
        let machine = Arc::new(Machine::new(config, known, publishers, sender.clone()));
        let guest = platform.start(Start {
            config: machine.config(),
            command_line: &command_line,
            network,
            devices,
            console: &console,
            events: &sender,
        })?;
        machine.set_guest(guest);
        signals::listen(machine.clone())?;
        let control = listening.serve(machine.clone())?;
        let monitor = Self { machine, console, control, events };
        if any_device {
            monitor.wait_until_connected().inspect_err(|_| {
                monitor.machine.kill_guest();
                monitor.machine.clean_up();
            })?;
        }
        monitor.machine.run();
        confinement::enter(Thread::Main);
        Ok(monitor)
    }

    /// Waits for the guest's first use of a device.
    fn wait_until_connected(&self) -> Result<(), Failure> {
        match self.events.recv() {
            Ok(Event::Connected) => Ok(()),
            Ok(Event::Kill) => {
                Err(Failure::new(FailureCode::Internal, "a request or a signal ended the machine while it started"))
            }
            Ok(Event::Reset) | Err(_) => {
                Err(Failure::new(FailureCode::Internal, "the monitor lost the guest kernel while it started"))
            }
            Ok(Event::Ended(end)) => {
                let (how, last_words) = (describe(&end), self.console.last_words());
                let message = format!("the guest kernel ended before it used a device ({how}): {last_words}");
                Err(Failure::new(FailureCode::AcceleratorUnusable, message))
            }
        }
    }

    /// Waits for the machine's end, and ends what belongs to it.
    fn wait(self) -> EndReason {
        let end = self.wait_for_end();
        let Self { machine, console, control, events: _ } = self;
        // A watcher that hears of the end may start a new monitor at once, which takes the sockets and the disks.
        drop(control);
        machine.unlock_disks();
        machine.clean_up();
        console.close();
        if end.reason == EndReason::Crashed {
            error!("the machine crashed: {}", end.detail);
        } else {
            info!(reason = ?end.reason, detail = %end.detail, "the machine has ended");
        }
        machine.end(&end);
        end.reason
    }

    fn wait_for_end(&self) -> End {
        let mut reset = false;
        loop {
            match self.events.recv() {
                Ok(Event::Connected) => {}
                Ok(Event::Reset) => {
                    info!("the guest has reset, which ends this machine");
                    reset = true;
                    self.machine.kill_guest();
                }
                Ok(Event::Kill) => self.machine.kill_guest(),
                Ok(Event::Ended(guest)) => {
                    return End::of(&guest, self.machine.before_end(reset), &self.console.last_words());
                }
                Err(_) => {
                    let detail = "the monitor lost the threads of the guest".to_owned();
                    return End { reason: EndReason::Crashed, detail };
                }
            }
        }
    }
}
