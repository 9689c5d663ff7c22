//! The keyboard controller of a PC (i8042), as much of it as Linux needs to find a keyboard. Ctrl-Alt-Del, which
//! reaches the guest's init, is the machine's power button.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Status: a byte waits to be read.
const OUTPUT_FULL: u8 = 1;
/// Status: the controller has passed its self-test.
const SYSTEM: u8 = 4;
/// Configuration: interrupt on a byte from the keyboard.
const INTERRUPT: u8 = 1;
/// Configuration: the second port, which does not exist, is off; scan codes are translated to set 1.
const CONFIGURATION: u8 = 0x65;
/// Pressed and released, in scan code set 1: Ctrl, Alt, Del.
const CTRL_ALT_DEL: [u8; 6] = [0x1d, 0x38, 0x53, 0xd3, 0xb8, 0x9d];
const ACKNOWLEDGED: u8 = 0xfa;
/// Most bytes that wait to be read. Answers beyond them are lost, as with a real controller.
const MAX_OUTPUT: usize = 64;

/// Meaning of the next byte written to the data port.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
enum Expected {
    Keyboard,
    Configuration,
    Ignored,
}

/// The controller with its keyboard.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Keyboard {
    output: VecDeque<u8>,
    configuration: u8,
    expected: Expected,
    /// Whether the next byte is a parameter of the last keyboard command.
    parameter: bool,
}

/// What an access asks the machine to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Asked {
    Nothing,
    Interrupt,
    Reset,
}

impl Keyboard {
    pub(super) fn new() -> Self {
        Self { output: VecDeque::new(), configuration: CONFIGURATION, expected: Expected::Keyboard, parameter: false }
    }

    fn interrupt(&mut self) -> Asked {
        self.output.truncate(MAX_OUTPUT);
        if self.configuration & INTERRUPT != 0 && !self.output.is_empty() { Asked::Interrupt } else { Asked::Nothing }
    }

    /// Presses Ctrl-Alt-Del.
    pub(super) fn press(&mut self) -> Asked {
        self.output.extend(CTRL_ALT_DEL);
        self.interrupt()
    }

    /// Reads the status port.
    pub(super) fn status(&self) -> u8 {
        SYSTEM | if self.output.is_empty() { 0 } else { OUTPUT_FULL }
    }

    /// Reads the data port. The next byte interrupts again.
    pub(super) fn read(&mut self) -> (u8, Asked) {
        let byte = self.output.pop_front().unwrap_or(0);
        (byte, self.interrupt())
    }

    /// Writes the command port.
    pub(super) fn command(&mut self, command: u8) -> Asked {
        match command {
            0x20 => self.output.push_back(self.configuration),
            0x60 => self.expected = Expected::Configuration,
            // Self-test, and the test of the first port: passed.
            0xaa => self.output.push_back(0x55),
            0xab => self.output.push_back(0),
            // The second port's test: it does not exist.
            0xa9 => self.output.push_back(1),
            // Writes to ports and lines that do not exist.
            0xd1..=0xd4 => self.expected = Expected::Ignored,
            0xfe => return Asked::Reset,
            _ => {}
        }
        self.interrupt()
    }

    /// Writes the data port.
    pub(super) fn write(&mut self, byte: u8) -> Asked {
        match std::mem::replace(&mut self.expected, Expected::Keyboard) {
            Expected::Configuration => self.configuration = byte,
            Expected::Ignored => {}
            Expected::Keyboard if std::mem::take(&mut self.parameter) => self.output.push_back(ACKNOWLEDGED),
            Expected::Keyboard => {
                self.output.push_back(ACKNOWLEDGED);
                match byte {
                    // Identify: an ordinary keyboard. Reset: passed.
                    0xf2 => self.output.extend([0xab, 0x83]),
                    0xff => self.output.push_back(0xaa),
                    // Lights, scan code set and repetition have a parameter.
                    0xed | 0xf0 | 0xf3 => self.parameter = true,
                    _ => {}
                }
            }
        }
        self.interrupt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_finds_a_keyboard_and_hears_ctrl_alt_del() {
        let mut keyboard = Keyboard::new();
        keyboard.command(0xaa);
        assert_eq!((keyboard.status() & OUTPUT_FULL, keyboard.read().0), (OUTPUT_FULL, 0x55));
        keyboard.write(0xf2);
        assert_eq!([keyboard.read().0, keyboard.read().0, keyboard.read().0], [0xfa, 0xab, 0x83]);
        assert_eq!(keyboard.press(), Asked::Interrupt);
        let read: Vec<u8> = (0..6).map(|_| keyboard.read().0).collect();
        assert_eq!(read, CTRL_ALT_DEL);
        assert_eq!(keyboard.status() & OUTPUT_FULL, 0);
    }

    #[test]
    fn a_guest_that_never_reads_takes_no_more_memory() {
        let mut keyboard = Keyboard::new();
        for _ in 0..1000 {
            keyboard.command(0x20);
            keyboard.write(0xf2);
        }
        assert_eq!(keyboard.output.len(), MAX_OUTPUT);
    }

    #[test]
    fn interrupts_can_be_turned_off_and_reset_is_asked_for() {
        let mut keyboard = Keyboard::new();
        keyboard.command(0x60);
        keyboard.write(CONFIGURATION & !INTERRUPT);
        assert_eq!(keyboard.press(), Asked::Nothing);
        assert_eq!(keyboard.command(0xfe), Asked::Reset);
    }
}
