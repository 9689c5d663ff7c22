//! A guest run by KVM: started by its kernel or from a snapshot, paused, saved, ended.
//!
//! Threads: one per processor ([`processors`](super::processors)), one per device, and one that waits for the [`Outcome`], ends the
//! others and tells the machine.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use tracing::{debug, error};
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::board::Board;
use super::processors::Processors;
use crate::arch::x86_64::layout::{
    DEVICE_BYTES, DEVICES_MAX, DEVICES_START, FIRST_DEVICE_LINE, KEYBOARD_LINE, MemoryPages, SERIAL_LINE, make_memory,
    map_saved_memory,
};
use crate::arch::x86_64::{FeatureLeaf, acpi, boot, features};
use crate::attachment::mmio::{MmioAttachment, QUEUE_NOTIFY};
use crate::config::Config;
use crate::confinement::paths::Paths;
use crate::confinement::{self, Thread};
use crate::console::GuestConsole;
use crate::devices::counters::Counters;
use crate::error::{ErrorCode, Failure};
use crate::hypervisor::kvm::KvmMachine;
use crate::hypervisor::{HypervisorError, Processor, VirtualMachine};
use crate::machine::{Event, GuestDevice};
use crate::snapshot::document::{Document, ProcessorRecord, Shape};
use crate::snapshot::{self, memory::Progress};
use crate::uml::GuestEnd;

/// What the accelerator adds to the command line: the console, no bus of a PC's, and a panic that ends the machine. A reset goes by the
/// keyboard controller (`reboot=k`): after a panic Linux 6.12 never came as far as writing ACPI's reset register.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=1 reboot=k pci=off i8042.noaux i8042.nomux i8042.dumbkbd";
/// Which pages of a mapping are there; opened before the monitor is confined to its own files.
const PAGE_MAP: &str = "/proc/self/pagemap";

/// How a guest ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// By its power switch.
    PowerOff,
    /// By its reset switch.
    Reset,
    /// By the machine.
    Killed,
    /// A processor cannot go on; why.
    Failed(String),
}

/// A started guest.
pub struct KvmGuest {
    board: Arc<Board>,
    processors: Arc<Processors>,
    /// What each processor finds of its features, by number.
    features: Vec<Vec<FeatureLeaf>>,
    attachments: Vec<Arc<MmioAttachment>>,
    machine: Arc<KvmMachine>,
    // After the machine, which it must outlive.
    memory: GuestMemoryMmap,
    page_map: File,
    outcomes: Sender<Outcome>,
}

impl KvmGuest {
    /// Starts the kernel with its devices, or goes on where the snapshot of the configuration ends. Reports
    /// [`Event::Connected`] when it runs, and its end.
    pub fn start(
        config: &Config,
        devices: Vec<GuestDevice>,
        console: &GuestConsole,
        events: &Sender<Event>,
    ) -> Result<Self, Failure> {
        if devices.len() > DEVICES_MAX {
            let message = format!("a machine has at most {DEVICES_MAX} devices, not {}", devices.len());
            return Err(Failure::new(ErrorCode::ConfigInvalid, message));
        }
        let saved = config.restore.as_deref().map(|directory| open_snapshot(directory, config)).transpose()?;
        let bytes = config.memory_mib << 20;
        let memory = match &saved {
            Some(saved) => saved.memory.try_clone().and_then(|file| map_saved_memory(file, bytes)),
            None if config.huge_pages => make_memory(bytes, MemoryPages::Huge),
            None => make_memory(bytes, MemoryPages::Ordinary),
        };
        let memory = memory.map_err(|error| no_memory(config, &error))?;
        let page_map = File::open(PAGE_MAP).map_err(|error| Failure::of_file("open", Path::new(PAGE_MAP), &error))?;
        let machine = Arc::new(KvmMachine::new()?);
        map(&machine, &memory)?;
        let attachments = attach(&machine, devices, &memory)?;
        let (outcomes, ends) = mpsc::channel();
        let serial = Box::new(console.writer());
        let document = saved.as_ref().map(|saved| &saved.document);
        let board = match document {
            Some(document) => Board::restored(attachments.clone(), serial, outcomes.clone(), &document.board)
                .map_err(|reason| Failure::new(ErrorCode::SnapshotInvalid, reason)),
            None => Board::new(attachments.clone(), serial, outcomes.clone())
                .map_err(|error| Failure::internal("make the board", error)),
        };
        let board = Arc::new(board?);
        machine.attach_interrupt(board.serial_line.as_fd(), SERIAL_LINE)?;
        machine.attach_interrupt(board.keyboard_line.as_fd(), KEYBOARD_LINE)?;
        let (processors, features) = match document {
            Some(document) => restore(&machine, config, document, &attachments),
            None => prepare(&machine, config, &memory, attachments.len()),
        }?;
        if let Some(saved) = &saved {
            saved.consume()?;
        }
        let processors = Arc::new(Processors::new(processors));
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
        Ok(Self { board, processors, features, attachments, machine, memory, page_map, outcomes })
    }

    /// Asks the guest to power off, as by Ctrl-Alt-Del (SIGINT to its init).
    pub fn press_power_button(&self) {
        self.board.press_power_button();
    }

    /// How often the processors have left the guest, by what for.
    pub fn exits(&self) -> Vec<(&'static str, u64)> {
        self.board.exits.snapshot()
    }

    /// What the device with this number, in the order they were given, has cost in exits and interrupts.
    pub fn device_traffic(&self, number: usize) -> Vec<(&'static str, u64)> {
        self.board.device_traffic(number)
    }

    /// Ends the guest at once.
    pub fn kill(&self) {
        let _ = self.outcomes.send(Outcome::Killed);
    }

    /// Stops the processors, then brings the devices to rest. Paused already: nothing.
    pub fn pause(&self) {
        self.processors.pause();
        self.attachments.iter().for_each(|attachment| attachment.pause());
    }

    /// Lets a paused guest go on.
    pub fn resume(&self) {
        self.attachments.iter().for_each(|attachment| attachment.resume());
        self.processors.resume();
    }

    /// Writes a paused guest to `directory`. What was begun there is removed when it fails.
    pub fn save(&self, config: &Config, directory: &Path, progress: &mut Progress<'_>) -> Result<(), Failure> {
        let saved = self.write_snapshot(config, directory, progress);
        if saved.is_err() {
            // The first failure is the one to tell.
            if let Err(failure) = snapshot::remove(directory) {
                error!("what was written of the machine's state stays behind: {failure}");
            }
        }
        saved
    }

    fn write_snapshot(&self, config: &Config, directory: &Path, progress: &mut Progress<'_>) -> Result<(), Failure> {
        let unwritten = |error: serde_json::Error| Failure::internal("write the machine's state down", error);
        let processors = self.processors.each(|processor| processor.save())?;
        let machine = self.machine.save()?;
        let board = self.board.save().map_err(unwritten)?;
        let devices = self.attachments.iter().map(|attachment| attachment.save());
        let devices = devices.collect::<Result<_, _>>().map_err(unwritten)?;
        let file = snapshot::create_memory(directory)?;
        let memory = snapshot::memory::write(&self.memory, &self.page_map, &file, progress).map_err(|error| {
            let reason = match error.kind() {
                io::ErrorKind::StorageFull => "the disk is full; free some space, or stop the machine instead".into(),
                io::ErrorKind::Interrupted => "it was cancelled".into(),
                _ => error.to_string(),
            };
            let message = format!("cannot write the guest's memory to {}: {reason}", directory.display());
            Failure::new(ErrorCode::Internal, message)
        })?;
        let features = self.features.iter().cloned();
        let document = Document {
            monitor: env!("CARGO_PKG_VERSION").to_owned(),
            shape: Shape::of(config).map_err(|error| Failure::internal("look at the disk images", error))?,
            memory,
            processors: features.zip(processors).map(|(features, state)| ProcessorRecord { features, state }).collect(),
            machine,
            board,
            devices,
        };
        snapshot::commit(directory, &document)
    }
}

/// Opens a snapshot and sees that it is one of this machine.
fn open_snapshot(directory: &Path, config: &Config) -> Result<snapshot::Opened, Failure> {
    let saved = snapshot::open(directory)?;
    let shape = Shape::of(config).map_err(|error| Failure::internal("look at the disk images", error))?;
    match saved.document.shape.difference(&shape) {
        Some(difference) => Err(saved.unfit(difference)),
        None if saved.document.memory.bytes != config.memory_mib << 20 => {
            Err(saved.unfit("its memory has another size"))
        }
        None => Ok(saved),
    }
}

fn no_memory(config: &Config, error: &io::Error) -> Failure {
    let size = config.memory_mib;
    let message = if config.huge_pages {
        format!(
            "no {size} MiB of huge pages for the guest: {error}; reserve {} pages of 2 MiB (sysctl vm.nr_hugepages), or set \
             huge_pages to false",
            size / 2
        )
    } else {
        format!("no {size} MiB of memory for the guest: {error}")
    };
    Failure::new(ErrorCode::NoMemory, message)
}

fn map(machine: &KvmMachine, memory: &GuestMemoryMmap) -> Result<(), HypervisorError> {
    for (slot, region) in memory.iter().enumerate() {
        let start = region.start_addr();
        let host = memory
            .get_host_address(start)
            .map_err(|error| HypervisorError { action: "map memory", source: io::Error::other(error) })?;
        // SAFETY: the region is a readable and writable mapping of this length. The thread that owns the machine owns a
        // reference to the memory too, and drops it last.
        unsafe { machine.map_memory(slot as u32, start.0, host, region.len()) }?;
    }
    Ok(())
}

/// Puts each device behind registers, with its doorbells and its interrupt line.
fn attach(
    machine: &KvmMachine,
    devices: Vec<GuestDevice>,
    memory: &GuestMemoryMmap,
) -> Result<Vec<Arc<MmioAttachment>>, Failure> {
    let mut attachments = Vec::new();
    for (number, GuestDevice { id, device, notice }) in devices.into_iter().enumerate() {
        let attachment = MmioAttachment::new(&id, device, memory.clone())
            .map_err(|error| Failure::internal(&format!("attach device {id}"), error))?;
        let attachment = Arc::new(attachment);
        let doorbell_at = DEVICES_START + number as u64 * DEVICE_BYTES + QUEUE_NOTIFY;
        for (queue, doorbell) in attachment.doorbells().enumerate() {
            machine.attach_doorbell(doorbell, doorbell_at, queue as u32)?;
        }
        machine.attach_interrupt(attachment.interrupt(), FIRST_DEVICE_LINE + number as u32)?;
        let told = attachment.clone();
        notice.set(move || {
            told.configuration_changed();
            Ok(())
        });
        attachments.push(attachment);
    }
    Ok(attachments)
}

type Prepared = (Vec<Box<dyn Processor>>, Vec<Vec<FeatureLeaf>>);

/// Makes the processors, the first at the kernel's entry.
fn prepare(
    machine: &KvmMachine,
    config: &Config,
    memory: &GuestMemoryMmap,
    devices: usize,
) -> Result<Prepared, Failure> {
    let acpi = acpi::write_tables(memory, config.cpus as u8, devices)
        .map_err(|error| Failure::internal("write the ACPI tables", error))?;
    let command_line = format!("{COMMAND_LINE} {}", config.kernel.command_line);
    let entry = boot::load(memory, &config.kernel.path, &config.kernel.initramfs, &command_line, acpi)?;
    let (mut processors, mut found) = (Vec::new(), Vec::new());
    for number in 0..config.cpus {
        let mut processor = machine.create_processor(number)?;
        let features = features::shape(&processor.host_features()?, number, config.cpus);
        processor.set_features(&features)?;
        processor.set_model_registers(&features::MODEL_REGISTERS)?;
        if number == 0 {
            processor.start_protected_mode(entry.address, entry.argument)?;
            // The loader has filled these pages, so this takes no memory. It spares half of the stops of a boot.
            let kernel = &entry.kernel;
            let mapped = processor.map_ahead(kernel.start, kernel.end - kernel.start);
            debug!(mapped, "the kernel's pages are mapped ahead");
        }
        processors.push(processor);
        found.push(features);
    }
    Ok((processors, found))
}

/// Makes the processors and puts everything where it was when the snapshot was made. Devices stay paused.
fn restore(
    machine: &KvmMachine,
    config: &Config,
    document: &Document,
    attachments: &[Arc<MmioAttachment>],
) -> Result<Prepared, Failure> {
    let unfit =
        |reason: String| Failure::new(ErrorCode::SnapshotInvalid, format!("the saved state cannot be used: {reason}"));
    let refused = |error: HypervisorError| unfit(error.to_string());
    if document.processors.len() != config.cpus as usize || document.devices.len() != attachments.len() {
        return Err(unfit("it has another number of processors or devices".to_owned()));
    }
    let (mut processors, mut found) = (Vec::new(), Vec::new());
    for (number, record) in (0..config.cpus).zip(&document.processors) {
        let mut processor = machine.create_processor(number)?;
        let here = features::shape(&processor.host_features()?, number, config.cpus);
        if let Some(reason) = features::missing(&record.features, &here) {
            return Err(unfit(reason));
        }
        processor.set_features(&record.features).map_err(refused)?;
        processors.push(processor);
        found.push(record.features.clone());
    }
    // All are there before one is restored: interrupts go between them.
    for (processor, record) in processors.iter_mut().zip(&document.processors) {
        processor.restore(&record.state).map_err(refused)?;
    }
    for (attachment, saved) in attachments.iter().zip(&document.devices) {
        attachment.restore(saved).map_err(unfit)?;
    }
    machine.restore(&document.machine).map_err(refused)?;
    Ok((processors, found))
}

/// Waits for the guest's end, ends its threads, and tells the machine.
fn watch(
    ends: &Receiver<Outcome>,
    processors: &Processors,
    devices: Vec<(Arc<MmioAttachment>, JoinHandle<()>)>,
    events: &Sender<Event>,
) {
    let outcome = ends.recv().unwrap_or(Outcome::Killed);
    debug!(?outcome, "the guest ends");
    processors.end();
    // What the guest had asked of the devices is done when they have ended.
    for (attachment, thread) in devices {
        attachment.end();
        if thread.join().is_err() {
            error!("the thread of a device has failed");
        }
        // The board keeps the registers to the end of the process; sockets and locks must be free before the end is told.
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
