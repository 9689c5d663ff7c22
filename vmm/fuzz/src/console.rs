//! The console device, with input from a socket.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;

use rorqual_vmm::devices::VirtioDevice;
use rorqual_vmm::devices::console::ConsoleDevice;

use crate::guest::{Guest, Subject, attack};
use crate::program::Program;

struct Console {
    device: ConsoleDevice,
    input: Option<UnixStream>,
}

/// Fails now and then, as a full disk does.
struct Output(u8);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.wrapping_add(1);
        if self.0 == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Subject for Console {
    fn device(&mut self) -> &mut dyn VirtioDevice {
        &mut self.device
    }

    fn request(&mut self, program: &mut Program, guest: &mut Guest) {
        if program.flag() {
            guest.offer(0, &[(program.byte().into(), true), (64, true)][..=program.below(2)], &[]);
        } else {
            guest.offer(1, &[(program.length() % 0x8000, false), (8, false)][..=program.below(2)], b"console output");
        }
    }

    fn host(&mut self, program: &mut Program) {
        let text = program.byte();
        if text == 255 {
            self.input = None;
        } else if let Some(input) = &mut self.input {
            // Full when the guest takes nothing.
            let _ = input.write(&vec![text; usize::from(text) * 32]);
        }
    }

    fn check(&mut self) {}
}

pub(crate) fn run(program: &[u8]) {
    let (input, theirs) = UnixStream::pair().unwrap();
    input.set_nonblocking(true).unwrap();
    let device = ConsoleDevice::new(Box::new(Output(0)), Some(theirs.into())).unwrap();
    attack(&mut Console { device, input: Some(input) }, &mut Program::new(program));
}
