//! A guest run by KVM, from its start to its end.
//!
//! Threads: one per processor ([`processors`](super::processors)), one per device, and one that waits for the
//! [`Outcome`], ends the others and notifies the machine.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use rorqual_vmm_protocol::{Config, Failure, FailureCode};
use tracing::{debug, error};
use vm_memory::GuestMemoryMmap;

use super::board::Board;
use super::outcome::Outcome;
use super::prepare::{self, Prepared};
use super::processors::Processors;
use super::restore;
use crate::arch::x86_64::FeatureLeaf;
use crate::arch::x86_64::layout::{
    KEYBOARD_LINE, MAX_DEVICES, MemoryPages, SERIAL_LINE, make_memory, map_saved_memory,
};
use crate::attachment::mmio::MmioAttachment;
use crate::confinement::paths::Paths;
use crate::confinement::{self, Thread};
use crate::console::GuestConsole;
use crate::devices::counters::Counters;
use crate::guest::{Event, Guest, GuestEnd, Pausable, Start};
use crate::hypervisor::VirtualMachine;
use crate::hypervisor::kvm::KvmMachine;
use crate::net::record::NetworkRecord;
use crate::snapshot::Opened;
use crate::snapshot::document::Document;

/// Lists the pages of a mapping that exist; opened before the monitor is confined to its own files.
const PAGE_MAP: &str = "/proc/self/pagemap";

/// A started guest.
pub(super) struct KvmGuest {
    pub(super) config: Config,
    pub(super) network: Option<NetworkRecord>,
    pub(super) board: Arc<Board>,
    pub(super) processors: Arc<Processors>,
    /// The features each processor finds, by number.
    pub(super) features: Vec<Vec<FeatureLeaf>>,
    pub(super) attachments: Vec<Arc<MmioAttachment>>,
    pub(super) machine: Arc<KvmMachine>,
    // After the machine, which it must outlive.
    pub(super) memory: GuestMemoryMmap,
    pub(super) page_map: File,
    outcomes: Sender<Outcome>,
}

impl KvmGuest {
    /// Boots the kernel with its devices, or resumes where the snapshot of the configuration ends.
    pub(super) fn start(start: Start<'_>) -> Result<Self, Failure> {
        let Start { config, command_line, network, devices, console, events } = start;
        if devices.len() > MAX_DEVICES {
            let message = format!("the machine has {} devices; at most {MAX_DEVICES} are possible", devices.len());
            return Err(Failure::new(FailureCode::ConfigInvalid, message));
        }
        let saved = config.restore.as_deref();
        let saved = saved.map(|directory| restore::open(directory, config, network.as_ref())).transpose()?;
        let memory = memory(config, saved.as_ref())?;
        let page_map = File::open(PAGE_MAP).map_err(|error| Failure::of_file("open", Path::new(PAGE_MAP), &error))?;
        let machine = Arc::new(KvmMachine::new()?);
        prepare::map(&machine, &memory)?;
        let attachments = prepare::attach(&machine, devices, &memory)?;
        let (outcomes, ends) = mpsc::channel();
        let document = saved.as_ref().map(|saved| &saved.document);
        let board = Arc::new(board(&attachments, console, &outcomes, document)?);
        machine.attach_interrupt(board.serial_line.as_fd(), SERIAL_LINE)?;
        machine.attach_interrupt(board.keyboard_line.as_fd(), KEYBOARD_LINE)?;
        let Prepared { processors, features } = match document {
            Some(document) => restore::processors(&machine, config.cpus, document, &attachments),
            None => prepare::processors(&machine, config, command_line, &memory, attachments.len()),
        }?;
        if let Some(saved) = &saved {
            saved.consume()?;
        }
        let processors = Arc::new(Processors::new(processors.into_iter().map(|processor| processor as _).collect()));
        // Everything is open now, and no thread runs yet.
        confinement::restrict_paths(&Paths::of(config))?;
        console.serve()?;
        let failed = |error: io::Error| Failure::internal("start a thread of the guest", error);
        let mut served = Vec::new();
        for attachment in &attachments {
            served.push((attachment.clone(), attachment.serve().map_err(failed)?));
            if saved.is_some() {
                attachment.resume();
            }
        }
        processors.start(&board, &outcomes).map_err(failed)?;
        let _ = events.send(Event::Connected);
        let (events, ending) = (events.clone(), processors.clone());
        // The machine and its memory live as long as this thread, which outlives the processors.
        let last = {
            let (machine, memory) = (machine.clone(), memory.clone());
            move || {
                confinement::enter(Thread::GuestEnd);
                watch(&ends, &ending, served, &events);
                drop((machine, memory));
            }
        };
        thread::Builder::new().name("guest-end".to_owned()).spawn(last).map_err(failed)?;
        let config = config.clone();
        Ok(Self { config, network, board, processors, features, attachments, machine, memory, page_map, outcomes })
    }
}

/// The guest's memory: what was saved, or as much as the configuration demands.
fn memory(config: &Config, saved: Option<&Opened>) -> Result<GuestMemoryMmap, Failure> {
    let bytes = config.memory_mib << 20;
    let memory = match saved {
        Some(saved) => saved.memory.try_clone().and_then(|file| map_saved_memory(file, bytes)),
        None if config.huge_pages => make_memory(bytes, MemoryPages::Huge),
        None => make_memory(bytes, MemoryPages::Ordinary),
    };
    memory.map_err(|error| no_memory(config, &error))
}

/// The board with these devices, as it was saved or new.
fn board(
    attachments: &[Arc<MmioAttachment>],
    console: &GuestConsole,
    outcomes: &Sender<Outcome>,
    saved: Option<&Document>,
) -> Result<Board, Failure> {
    let (attachments, serial, outcomes) = (attachments.to_vec(), Box::new(console.writer()), outcomes.clone());
    match saved {
        Some(document) => Board::restored(attachments, serial, outcomes, &document.board).map_err(restore::unfit),
        None => Board::new(attachments, serial, outcomes).map_err(|error| Failure::internal("create the board", error)),
    }
}

impl Guest for KvmGuest {
    /// Presses Ctrl-Alt-Del.
    fn press_power_button(&self) -> Result<(), Failure> {
        self.board.press_power_button();
        Ok(())
    }

    fn kill(&self) {
        let _ = self.outcomes.send(Outcome::Killed);
    }

    fn pausable(&self) -> Option<&dyn Pausable> {
        Some(self)
    }

    fn exits(&self) -> Vec<(&'static str, u64)> {
        self.board.exits.snapshot()
    }

    fn device_traffic(&self, number: usize) -> Vec<(&'static str, u64)> {
        self.board.device_traffic(number)
    }
}

fn no_memory(config: &Config, error: &io::Error) -> Failure {
    let size = config.memory_mib;
    if config.huge_pages {
        let message = format!("cannot take {size} MiB of huge pages for the guest's memory: {error}");
        let pages = size / 2;
        let fix =
            format!("reserve {pages} pages of 2 MiB (sysctl vm.nr_hugepages={pages}), or set huge_pages to false");
        return Failure::new(FailureCode::NoMemory, message).with_fix(fix);
    }
    Failure::new(FailureCode::NoMemory, format!("cannot allocate {size} MiB for the guest's memory: {error}"))
}

/// Waits for the guest's end, ends its threads, and notifies the machine.
fn watch(
    ends: &Receiver<Outcome>,
    processors: &Processors,
    devices: Vec<(Arc<MmioAttachment>, JoinHandle<()>)>,
    events: &Sender<Event>,
) {
    let outcome = ends.recv().unwrap_or(Outcome::Killed);
    debug!(?outcome, "the guest ends");
    processors.end();
    // A device's thread completes what the guest asked of the device before it ends.
    for (attachment, thread) in devices {
        attachment.end();
        if thread.join().is_err() {
            error!("the thread of a device has failed");
        }
        // The board keeps the registers until the process ends; sockets and locks must be free before the end is
        // reported.
        attachment.remove_device();
    }
    if outcome == Outcome::Reset {
        let _ = events.send(Event::Reset);
    }
    let _ = events.send(Event::Ended(match outcome {
        Outcome::Failed(reason) => GuestEnd::ProcessorFailed(reason),
        Outcome::PowerOff | Outcome::Reset | Outcome::Killed => GuestEnd::Exited(0),
    }));
}
