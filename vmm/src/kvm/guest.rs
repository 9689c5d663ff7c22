//! A guest run by KVM.
//!
//! Threads: one per processor, one per device, one that writes the console's log, and one that waits for the [`Outcome`], ends the others and tells the machine.

use std::io::{self, PipeWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::pthread::pthread_kill;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use tracing::{debug, error};
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::board::Board;
use crate::arch::x86_64::layout::{
    DEVICE_BYTES, DEVICES_MAX, DEVICES_START, FIRST_DEVICE_LINE, KEYBOARD_LINE, SERIAL_LINE, make_memory,
};
use crate::arch::x86_64::{acpi, boot, features};
use crate::attachment::mmio::{MmioAttachment, QUEUE_NOTIFY};
use crate::config::Config;
use crate::confinement::paths::Paths;
use crate::confinement::{self, Thread};
use crate::error::{ErrorCode, Failure};
use crate::hypervisor::kvm::KvmMachine;
use crate::hypervisor::{Exit, HypervisorError, Processor, VirtualMachine};
use crate::machine::{Event, GuestDevice};
use crate::uml::{ConsoleTail, GuestEnd, copy_console};

/// What the accelerator adds to the command line: the console, no bus of a PC's, and a panic that ends the machine. A reset goes by the
/// keyboard controller (`reboot=k`): after a panic Linux 6.12 never came as far as writing ACPI's reset register.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=1 reboot=k pci=off i8042.noaux i8042.nomux i8042.dumbkbd";
/// Takes a processor out of the guest. Nothing else in the process uses it.
const KICK: Signal = Signal::SIGUSR1;
/// A kick that comes just before the processor enters the guest is lost; another follows.
const KICK_AGAIN: Duration = Duration::from_millis(2);

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
    outcomes: Sender<Outcome>,
}

impl KvmGuest {
    /// Starts the kernel with its devices. Reports [`Event::Connected`] when it runs, and its end.
    pub fn start(
        config: &Config,
        devices: Vec<GuestDevice>,
        tail: &Arc<ConsoleTail>,
        events: &Sender<Event>,
    ) -> Result<Self, Failure> {
        let memory = make_memory(config.memory_mib << 20).map_err(|error| {
            Failure::new(ErrorCode::NoMemory, format!("no {} MiB of memory for the guest: {error}", config.memory_mib))
        })?;
        if devices.len() > DEVICES_MAX {
            let message = format!("a machine has at most {DEVICES_MAX} devices, not {}", devices.len());
            return Err(Failure::new(ErrorCode::ConfigInvalid, message));
        }
        let machine = KvmMachine::new()?;
        map(&machine, &memory)?;
        let attachments = attach(&machine, devices, &memory)?;
        let (outcomes, ends) = mpsc::channel();
        let (printed, console) = io::pipe().map_err(|error| Failure::internal("make a pipe for the console", error))?;
        let console = Console(Arc::new(Mutex::new(Some(console))));
        let board = Board::new(attachments.clone(), Box::new(console.clone()), outcomes.clone())
            .map_err(|error| Failure::internal("make the board", error))?;
        machine.attach_interrupt(board.serial_line.as_fd(), SERIAL_LINE)?;
        machine.attach_interrupt(board.keyboard_line.as_fd(), KEYBOARD_LINE)?;
        let board = Arc::new(board);
        let processors = prepare(&machine, config, &memory, attachments.len())?;

        let failed = |error: io::Error| Failure::internal("start a thread of the guest", error);
        take_kicks().map_err(failed)?;
        // Everything is open now, and no thread runs yet.
        confinement::restrict_paths(&Paths::of(config))?;
        let copying = copy_console(printed, &config.console_log, tail.clone())?;
        let mut threads = Threads {
            ending: Arc::new(AtomicBool::new(false)),
            processors: vec![],
            devices: vec![],
            console: (console, copying),
        };
        for attachment in &attachments {
            threads.devices.push((attachment.clone(), attachment.serve().map_err(failed)?));
        }
        for (number, processor) in processors.into_iter().enumerate() {
            let (board, outcomes, ending) = (board.clone(), outcomes.clone(), threads.ending.clone());
            let body = move || run(processor, &board, &outcomes, &ending);
            let thread = thread::Builder::new().name(format!("cpu-{number}")).spawn(body).map_err(failed)?;
            threads.processors.push(thread);
        }
        let _ = events.send(Event::Connected);
        let events = events.clone();
        // The machine and its memory live as long as this thread, which outlives the processors.
        let last = move || {
            confinement::enter(Thread::GuestEnd);
            watch(&ends, threads, &events);
            drop((machine, memory));
        };
        thread::Builder::new().name("guest-end".to_owned()).spawn(last).map_err(failed)?;
        Ok(Self { board, outcomes })
    }

    /// Asks the guest to power off, as by Ctrl-Alt-Del (SIGINT to its init).
    pub fn press_power_button(&self) {
        self.board.press_power_button();
    }

    /// Ends the guest at once.
    pub fn kill(&self) {
        let _ = self.outcomes.send(Outcome::Killed);
    }
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

/// Makes the processors, the first at the kernel's entry.
fn prepare(
    machine: &KvmMachine,
    config: &Config,
    memory: &GuestMemoryMmap,
    devices: usize,
) -> Result<Vec<Box<dyn Processor>>, Failure> {
    let acpi = acpi::write_tables(memory, config.cpus as u8, devices)
        .map_err(|error| Failure::internal("write the ACPI tables", error))?;
    let command_line = format!("{COMMAND_LINE} {}", config.kernel.command_line);
    let entry = boot::load(memory, &config.kernel.path, &config.kernel.initramfs, &command_line, acpi)?;
    let mut processors = Vec::new();
    for number in 0..config.cpus {
        let mut processor = machine.create_processor(number)?;
        let offered = processor.host_features()?;
        processor.set_features(&features::shape(&offered, number, config.cpus))?;
        processor.set_model_registers(&features::MODEL_REGISTERS)?;
        if number == 0 {
            processor.start_protected_mode(entry.address, entry.argument)?;
        }
        processors.push(processor);
    }
    Ok(processors)
}

/// A processor's thread.
fn run(mut processor: Box<dyn Processor>, board: &Board, outcomes: &Sender<Outcome>, ending: &AtomicBool) {
    confinement::enter(Thread::Processor);
    let failure = loop {
        if ending.load(Ordering::SeqCst) {
            return;
        }
        match processor.run(board) {
            Ok(Exit::Handled | Exit::Interrupted) => {}
            Ok(Exit::Halted) => break "it halted for ever".to_owned(),
            Ok(Exit::Shutdown) => break "it shut down after a triple fault".to_owned(),
            Ok(Exit::Unexpected(exit)) => break format!("it stopped: {exit}"),
            Err(error) => break error.to_string(),
        }
    };
    let _ = outcomes.send(Outcome::Failed(failure));
}

struct Threads {
    ending: Arc<AtomicBool>,
    processors: Vec<JoinHandle<()>>,
    devices: Vec<(Arc<MmioAttachment>, JoinHandle<()>)>,
    console: (Console, JoinHandle<()>),
}

/// Waits for the guest's end, ends its threads, and tells the machine.
fn watch(ends: &Receiver<Outcome>, threads: Threads, events: &Sender<Event>) {
    let outcome = ends.recv().unwrap_or(Outcome::Killed);
    debug!(?outcome, "the guest ends");
    threads.ending.store(true, Ordering::SeqCst);
    for processor in threads.processors {
        while !processor.is_finished() {
            if let Err(error) = pthread_kill(processor.as_pthread_t(), KICK) {
                debug!("a processor's thread had ended: {error}");
            }
            thread::sleep(KICK_AGAIN);
        }
        let _ = processor.join();
    }
    // Its last words are part of what is told about its end.
    let (console, copying) = threads.console;
    console.close();
    if copying.join().is_err() {
        error!("the thread that copies the console has failed");
    }
    // What the guest had asked of the devices is done when they have ended.
    for (attachment, thread) in threads.devices {
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

/// Without a handler the signal would end the process.
fn take_kicks() -> io::Result<()> {
    extern "C" fn nothing(_signal: libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, so it is safe at any point, and no handler of the signal's was there before.
    unsafe { sigaction(KICK, &action) }?;
    Ok(())
}

/// The serial port's output: a pipe to the thread that writes the log. A processor's thread must not open files, as turning the log over does.
#[derive(Clone)]
struct Console(Arc<Mutex<Option<PipeWriter>>>);

impl Console {
    fn pipe(&self) -> MutexGuard<'_, Option<PipeWriter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the output: the thread that copies it ends when it has read the rest.
    fn close(&self) {
        *self.pipe() = None;
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.pipe().as_mut() {
            Some(pipe) => pipe.write(bytes),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
