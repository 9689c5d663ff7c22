//! The entropy device.

use rorqual_vmm::devices::VirtioDevice;
use rorqual_vmm::devices::rng::RngDevice;

use crate::guest::{Guest, Subject, attack};
use crate::program::Program;

struct Rng(RngDevice);

impl Subject for Rng {
    fn device(&mut self) -> &mut dyn VirtioDevice {
        &mut self.0
    }

    fn request(&mut self, program: &mut Program, guest: &mut Guest) {
        let lengths = [(1 + program.length() % 0x8000, true), (program.byte().into(), true)];
        guest.offer(0, &lengths[..=program.below(2)], &[]);
    }

    fn host(&mut self, _program: &mut Program) {}

    fn check(&mut self) {}
}

pub(crate) fn run(program: &[u8]) {
    attack(&mut Rng(RngDevice::new().unwrap()), &mut Program::new(program));
}
