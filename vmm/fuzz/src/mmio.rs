//! The registers of virtio-mmio, written by one processor in a given order, or by two at once while the device's thread
//! runs.

use std::io;
use std::sync::Arc;
use std::thread;

use rorqual_vmm::attachment::mmio::MmioAttachment;
use rorqual_vmm::devices::VirtioDevice;
use rorqual_vmm::devices::console::ConsoleDevice;
use rorqual_vmm::devices::rng::RngDevice;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::program::Program;

const MEMORY_BYTES: usize = 0x1_0000;
const REGISTERS: [u64; 28] = [
    0x0, 0x4, 0x8, 0xc, 0x10, 0x14, 0x20, 0x24, 0x30, 0x34, 0x38, 0x44, 0x50, 0x60, 0x64, 0x70, 0x80, 0x84, 0x90, 0x94,
    0xa0, 0xa4, 0xac, 0xb0, 0xc0, 0xfc, 0x100, 0xffc,
];
const STATUS: u64 = 0x70;

struct Processor {
    device: Arc<MmioAttachment>,
    memory: GuestMemoryMmap,
    /// Nobody else serves the device.
    alone: bool,
}

impl Processor {
    fn read(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.device.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn write(&self, offset: u64, value: u32) {
        self.device.write(offset, &value.to_le_bytes());
    }

    /// What every driver does, up to the status given.
    fn set_up(&self, queue: u32, size: u32, status: u32) {
        self.write(STATUS, 3);
        for page in 0..2 {
            self.write(0x14, page);
            self.write(0x24, page);
            self.write(0x20, self.read(0x10));
        }
        self.write(STATUS, 11);
        self.write(0x30, queue);
        self.write(0x38, size);
        for (offset, address) in [(0x80, 0x1000), (0x90, 0x2000), (0xa0, 0x3000)] {
            self.write(offset, address + 0x4000 * (queue & 1));
            self.write(offset + 4, 0);
        }
        self.write(0x44, 1);
        self.write(STATUS, status);
    }

    fn step(&self, program: &mut Program) {
        match program.byte() & 15 {
            0..=3 => {
                let offset = REGISTERS[program.below(REGISTERS.len())];
                let value = match program.byte() {
                    0..=127 => program.byte().into(),
                    128..=191 => u32::from(program.short()),
                    192..=223 => u32::MAX,
                    _ => program.word(),
                };
                self.write(offset, value);
            }
            4 => {
                let offset = u64::from(program.short() & 0xfff);
                let width = [1, 2, 4, 8][program.below(4)];
                let mut data = [0; 8];
                self.device.read(offset, &mut data[..width]);
            }
            5 => {
                let offset = u64::from(program.short() & 0xfff);
                let width = [1, 2, 4, 8][program.below(4)];
                self.device.write(offset, &program.long().to_le_bytes()[..width]);
            }
            6 | 7 => {
                let status = if program.flag() { 15 } else { 11 };
                self.set_up(u32::from(program.byte() & 1), 1 << program.below(8), status);
            }
            8 => {
                let address = u64::from(program.short());
                let count = program.below(64);
                let _ = self.memory.write(program.bytes(count), GuestAddress(address));
            }
            9 | 10 => {
                // A buffer on one of the two queues.
                let queue = u64::from(program.byte() & 1) * 0x4000;
                let mut raw = [0; 16];
                raw[..8].copy_from_slice(&(0xa000 + u64::from(program.byte()) * 16).to_le_bytes());
                raw[8..12].copy_from_slice(&program.length().to_le_bytes());
                raw[12] = program.byte() & 7;
                let place = u64::from(program.byte() & 7);
                let _ = self.memory.write_slice(&raw, GuestAddress(0x1000 + queue + place * 16));
                let available: u16 = self.memory.read_obj(GuestAddress(0x2002 + queue)).unwrap();
                let _ =
                    self.memory.write_obj(place as u16, GuestAddress(0x2004 + queue + u64::from(available % 8) * 2));
                let _ = self.memory.write_obj(available.wrapping_add(1), GuestAddress(0x2002 + queue));
            }
            11 => self.write(STATUS, 0),
            12 => self.device.configuration_changed(),
            _ => {
                self.write(0x50, u32::from(program.byte()) & 3);
                if self.alone {
                    self.device.serve_now();
                }
            }
        }
    }

    fn run(&self, mut program: Program) {
        while !program.ended() {
            self.step(&mut program);
        }
    }
}

pub(crate) fn run(program: &[u8]) {
    let Some((choice, program)) = program.split_first() else { return };
    let device: Box<dyn VirtioDevice> = if choice & 1 == 0 {
        Box::new(RngDevice::new().unwrap())
    } else {
        Box::new(ConsoleDevice::new(Box::new(io::sink()), None).unwrap())
    };
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).unwrap();
    let device = Arc::new(MmioAttachment::new("fuzz", device, memory.clone()).unwrap());
    let alone = choice & 0x0e != 0;
    let processor = Processor { device: device.clone(), memory, alone };
    if alone {
        processor.run(Program::new(program));
    } else {
        let serving = device.serve().unwrap();
        let (one, other) = program.split_at(program.len() / 2);
        thread::scope(|scope| {
            scope.spawn(|| processor.run(Program::new(one)));
            processor.run(Program::new(other));
        });
        device.end();
        serving.join().unwrap();
    }
    // Whatever was done to it, a reset brings it back.
    processor.write(STATUS, 0);
    assert_eq!(
        (processor.read(0), processor.read(STATUS), processor.read(0x44), processor.read(0x60)),
        (0x7472_6976, 0, 0, 0)
    );
    processor.set_up(0, 8, 15);
    assert_eq!(processor.read(STATUS) & 15, 15, "a driver that keeps the rules is not served after a reset");
    assert_eq!(processor.read(0x44), 1);
}
