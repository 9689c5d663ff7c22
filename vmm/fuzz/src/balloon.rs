//! The balloon: numbers of pages and free pages, which the host takes away. Pages that were taken read as zeroes, so
//! only panics, endless loops and an impossible size reported to the host are findings.

use std::sync::Arc;

use rorqual_vmm::devices::VirtioDevice;
use rorqual_vmm::devices::balloon::{BalloonDevice, BalloonSize};

use crate::guest::{Guest, Subject, attack};
use crate::program::Program;

struct Balloon {
    device: BalloonDevice,
    size: Arc<BalloonSize>,
}

impl Subject for Balloon {
    fn device(&mut self) -> &mut dyn VirtioDevice {
        &mut self.device
    }

    fn request(&mut self, program: &mut Program, guest: &mut Guest) {
        let queue = program.below(5);
        if queue < 2 {
            // Page numbers, some of them beyond memory, and perhaps not a whole number of them.
            let mut numbers = Vec::new();
            for _ in 0..program.below(16) {
                let number = if program.flag() { program.word() } else { u32::from(program.byte()) };
                numbers.extend(number.to_le_bytes());
            }
            let odd = usize::from(program.byte() & 1);
            numbers.extend(program.bytes(odd));
            let length = numbers.len() as u32;
            guest.offer(queue, &[(length, false)], &numbers);
        } else {
            guest.offer(queue, &[(program.length(), true), (0x1000, true)][..=program.below(2)], &[]);
        }
    }

    fn host(&mut self, program: &mut Program) {
        let asked = program.long();
        assert!(self.size.want(asked) <= asked);
    }

    fn check(&mut self) {
        assert_eq!(self.size.actual() % 4096, 0);
    }

    fn takes_memory(&self) -> bool {
        true
    }
}

pub(crate) fn run(program: &[u8]) {
    let device = BalloonDevice::new();
    let size = device.size();
    attack(&mut Balloon { device, size }, &mut Program::new(program));
}
