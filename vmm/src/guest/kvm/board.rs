//! What the guest's processors reach outside of memory: serial port, keyboard controller, power and reset switches, and
//! the registers of the virtio devices.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};
use serde::{Deserialize, Serialize};
use tracing::debug;
use vm_superio::serial::{NoEvents, SerialState};
use vm_superio::{Serial, Trigger};

use super::keyboard::{Asked, Keyboard};
use super::outcome::Outcome;
use crate::arch::x86_64::layout::{
    DEVICE_BYTES, DEVICES_START, KEYBOARD_PORT, POWER_OFF_VALUE, POWER_PORT, RESET_VALUE, SERIAL_PORT,
};
use crate::attachment::mmio::MmioAttachment;
use crate::devices::counters::Counters;
use crate::hypervisor::{Bus, Exit, HypervisorError};

const SERIAL_LAST: u16 = SERIAL_PORT + 7;
const KEYBOARD_COMMAND: u16 = KEYBOARD_PORT + 4;
const RESET_PORT: u16 = POWER_PORT + 2;

/// An interrupt line.
#[derive(Clone)]
pub(super) struct Line(Arc<EventFd>);

impl Line {
    fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?)))
    }

    fn raise(&self) {
        // Fails only if the counter is full: then the line is raised already.
        let _ = self.0.write(1);
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.raise();
        Ok(())
    }
}

type Output = Box<dyn Write + Send>;

/// The serial port's registers, for snapshots (National Semiconductor PC16550D, §8), in the order of [`SerialState`].
#[derive(Deserialize, Serialize)]
struct SavedSerial {
    registers: [u8; 9],
    input: Vec<u8>,
}

/// The board at rest, for snapshots.
#[derive(Deserialize, Serialize)]
struct SavedBoard {
    serial: SavedSerial,
    keyboard: Keyboard,
}

impl SavedSerial {
    fn of(state: SerialState) -> Self {
        let registers = [
            state.baud_divisor_low,
            state.baud_divisor_high,
            state.interrupt_enable,
            state.interrupt_identification,
            state.line_control,
            state.line_status,
            state.modem_control,
            state.modem_status,
            state.scratch,
        ];
        Self { registers, input: state.in_buffer }
    }

    fn state(self) -> SerialState {
        let [low, high, enable, identification, line_control, line_status, modem_control, modem_status, scratch] =
            self.registers;
        SerialState {
            baud_divisor_low: low,
            baud_divisor_high: high,
            interrupt_enable: enable,
            interrupt_identification: identification,
            line_control,
            line_status,
            modem_control,
            modem_status,
            scratch,
            in_buffer: self.input,
        }
    }
}

/// How often processors left the guest, by reason. What the kernel handles by itself (doorbells, interrupt controllers,
/// a halt) does not count.
#[derive(Debug, Default)]
pub(super) struct ExitCounters {
    port_io: AtomicU64,
    device_registers: AtomicU64,
    interrupted: AtomicU64,
    halted: AtomicU64,
    other: AtomicU64,
}

fn increment(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl ExitCounters {
    /// Counts an exit that is not an access: the bus counts those.
    pub(super) fn count(&self, exit: &Result<Exit, HypervisorError>) {
        match exit {
            Ok(Exit::Handled) => {}
            Ok(Exit::Interrupted) => increment(&self.interrupted),
            Ok(Exit::Halted) => increment(&self.halted),
            Ok(Exit::Shutdown | Exit::Unexpected(_)) | Err(_) => increment(&self.other),
        }
    }
}

impl Counters for ExitCounters {
    fn snapshot(&self) -> Vec<(&'static str, u64)> {
        [
            ("port-io", &self.port_io),
            ("device-registers", &self.device_registers),
            ("interrupted", &self.interrupted),
            ("halted", &self.halted),
            ("other", &self.other),
        ]
        .into_iter()
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
        .collect()
    }
}

/// The board of one machine, shared by its processors.
pub(super) struct Board {
    pub(super) serial_line: Line,
    pub(super) keyboard_line: Line,
    serial: Mutex<Serial<Line, NoEvents, Output>>,
    keyboard: Mutex<Keyboard>,
    devices: Vec<Arc<MmioAttachment>>,
    outcomes: Sender<Outcome>,
    pub(super) exits: ExitCounters,
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// A board with these devices. The serial port prints to `console`; the guest's end is sent to `outcomes`.
    pub(super) fn new(
        devices: Vec<Arc<MmioAttachment>>,
        console: Output,
        outcomes: Sender<Outcome>,
    ) -> io::Result<Self> {
        let serial_line = Line::new()?;
        Ok(Self {
            serial: Mutex::new(Serial::new(serial_line.clone(), console)),
            serial_line,
            keyboard_line: Line::new()?,
            keyboard: Mutex::new(Keyboard::new()),
            devices,
            outcomes,
            exits: ExitCounters::default(),
        })
    }

    /// The same with the state that [`save`](Self::save) returned. The error names what is wrong with it.
    pub(super) fn restored(
        devices: Vec<Arc<MmioAttachment>>,
        console: Output,
        outcomes: Sender<Outcome>,
        saved: &serde_json::Value,
    ) -> Result<Self, String> {
        let saved = SavedBoard::deserialize(saved).map_err(|error| format!("its board is invalid: {error}"))?;
        let failed = |error: io::Error| error.to_string();
        let serial_line = Line::new().map_err(failed)?;
        let serial = Serial::from_state(&saved.serial.state(), serial_line.clone(), NoEvents, console)
            .map_err(|error| format!("its serial port is invalid: {error:?}"))?;
        Ok(Self {
            serial: Mutex::new(serial),
            serial_line,
            keyboard_line: Line::new().map_err(failed)?,
            keyboard: Mutex::new(saved.keyboard),
            devices,
            outcomes,
            exits: ExitCounters::default(),
        })
    }

    /// The whole state without the devices. No processor may run.
    pub(super) fn save(&self) -> serde_json::Result<serde_json::Value> {
        let serial = SavedSerial::of(lock(&self.serial).state());
        let keyboard = lock(&self.keyboard).clone();
        serde_json::to_value(SavedBoard { serial, keyboard })
    }

    /// Presses Ctrl-Alt-Del.
    pub(super) fn press_power_button(&self) {
        let asked = lock(&self.keyboard).press();
        self.answer(asked);
    }

    fn answer(&self, asked: Asked) {
        match asked {
            Asked::Nothing => {}
            Asked::Interrupt => self.keyboard_line.raise(),
            Asked::Reset => self.end(Outcome::Reset),
        }
    }

    fn end(&self, outcome: Outcome) {
        // Nobody listens once the guest has ended.
        let _ = self.outcomes.send(outcome);
    }

    /// The traffic of the device with this number.
    pub(super) fn device_traffic(&self, number: usize) -> Vec<(&'static str, u64)> {
        self.devices.get(number).map(|device| device.traffic().snapshot()).unwrap_or_default()
    }

    fn device(&self, address: u64) -> Option<(&MmioAttachment, u64)> {
        let offset = address.checked_sub(DEVICES_START)?;
        let device = self.devices.get(usize::try_from(offset / DEVICE_BYTES).ok()?)?;
        Some((device, offset % DEVICE_BYTES))
    }
}

impl Bus for Board {
    fn read_port(&self, port: u16, data: &mut [u8]) {
        increment(&self.exits.port_io);
        // An absent port reads as ones.
        data.fill(0xff);
        let Some(first) = data.first_mut() else { return };
        match port {
            SERIAL_PORT..=SERIAL_LAST => *first = lock(&self.serial).read((port - SERIAL_PORT) as u8),
            KEYBOARD_PORT => {
                let (byte, asked) = lock(&self.keyboard).read();
                *first = byte;
                self.answer(asked);
            }
            KEYBOARD_COMMAND => *first = lock(&self.keyboard).status(),
            POWER_PORT..=RESET_PORT => *first = 0,
            _ => {}
        }
    }

    fn write_port(&self, port: u16, data: &[u8]) {
        increment(&self.exits.port_io);
        match (port, data) {
            // A string instruction writes several bytes.
            (SERIAL_PORT..=SERIAL_LAST, bytes) => {
                let mut serial = lock(&self.serial);
                for byte in bytes {
                    if let Err(error) = serial.write((port - SERIAL_PORT) as u8, *byte) {
                        debug!("the serial port lost a byte: {error:?}");
                    }
                }
            }
            (KEYBOARD_PORT, [byte]) => {
                let asked = lock(&self.keyboard).write(*byte);
                self.answer(asked);
            }
            (KEYBOARD_COMMAND, [byte]) => {
                let asked = lock(&self.keyboard).command(*byte);
                self.answer(asked);
            }
            (POWER_PORT, [POWER_OFF_VALUE]) => self.end(Outcome::PowerOff),
            (RESET_PORT, [RESET_VALUE]) => self.end(Outcome::Reset),
            _ => {}
        }
    }

    fn read_device(&self, address: u64, data: &mut [u8]) {
        increment(&self.exits.device_registers);
        match self.device(address) {
            Some((device, offset)) => device.read(offset, data),
            None => data.fill(0xff),
        }
    }

    fn write_device(&self, address: u64, data: &[u8]) {
        increment(&self.exits.device_registers);
        if let Some((device, offset)) = self.device(address) {
            device.write(offset, data);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn power_off_reset_and_console_differ() {
        let (sender, outcomes) = mpsc::channel();
        let board = Board::new(Vec::new(), Box::new(io::sink()), sender).unwrap();
        board.write_port(SERIAL_PORT, b"x");
        board.write_port(POWER_PORT, &[0]);
        assert!(outcomes.try_recv().is_err());
        board.write_port(POWER_PORT, &[POWER_OFF_VALUE]);
        board.write_port(RESET_PORT, &[RESET_VALUE]);
        assert_eq!(outcomes.try_iter().collect::<Vec<_>>(), [Outcome::PowerOff, Outcome::Reset]);
    }

    #[test]
    fn a_restored_board_has_its_serial_port_set_up_and_its_keyboard_waiting() {
        let board = Board::new(Vec::new(), Box::new(io::sink()), mpsc::channel().0).unwrap();
        board.write_port(SERIAL_PORT + 7, &[0x5a]);
        board.press_power_button();
        let saved = board.save().unwrap();
        let again = Board::restored(Vec::new(), Box::new(io::sink()), mpsc::channel().0, &saved).unwrap();
        let (mut scratch, mut status) = ([0], [0]);
        again.read_port(SERIAL_PORT + 7, &mut scratch);
        again.read_port(KEYBOARD_COMMAND, &mut status);
        assert_eq!((scratch, status), ([0x5a], [5]));
        assert_eq!(again.save().unwrap(), saved);
        let nonsense = serde_json::json!({"serial": 1});
        assert!(Board::restored(Vec::new(), Box::new(io::sink()), mpsc::channel().0, &nonsense).is_err());
    }

    #[test]
    fn what_is_not_there_reads_as_ones() {
        let board = Board::new(Vec::new(), Box::new(io::sink()), mpsc::channel().0).unwrap();
        let mut data = [0; 4];
        board.read_device(DEVICES_START, &mut data);
        assert_eq!(data, [0xff; 4]);
        board.read_port(0xcf8, &mut data);
        assert_eq!(data, [0xff; 4]);
        board.exits.count(&Ok(Exit::Interrupted));
        board.exits.count(&Ok(Exit::Handled));
        let exits = [("port-io", 1), ("device-registers", 1), ("interrupted", 1), ("halted", 0), ("other", 0)];
        assert_eq!(board.exits.snapshot(), exits);
    }
}
