//! Scripts for the [`kernel`](crate::kernel), and the steps of a virtio driver as script operations.

use crate::kernel::SCRIPT;

/// Registers of the device with this number.
pub(crate) fn device(number: u32) -> u32 {
    0xd000_0000 + number * 0x1000
}

/// Registers of virtio-mmio (virtio 1.3 §4.2.2).
pub(crate) const NOTIFY: u32 = 0x50;
pub(crate) const STATUS: u32 = 0x70;
pub(crate) const NEEDS_RESET: u32 = 64;

const DESCRIPTOR_BYTES: u32 = 16;
pub(crate) const NEXT: u32 = 1;
pub(crate) const WRITE: u32 = 2;
pub(crate) const INDIRECT: u32 = 4;

/// Address of a queue in memory; the rings of different queues do not overlap.
#[derive(Clone, Copy)]
pub(crate) struct Rings {
    pub(crate) device: u32,
    pub(crate) queue: u32,
    pub(crate) size: u32,
}

impl Rings {
    pub(crate) fn descriptors(self) -> u32 {
        0x40_0000 + self.device * 0x1_0000 + self.queue * 0x4000
    }

    pub(crate) fn available(self) -> u32 {
        self.descriptors() + 0x1000
    }

    pub(crate) fn used(self) -> u32 {
        self.descriptors() + 0x2000
    }
}

/// Buffers are at this address and above.
pub(crate) const BUFFER: u32 = 0x80_0000;

/// A script under construction.
#[derive(Default)]
pub(crate) struct Script {
    operations: Vec<[u32; 4]>,
    /// The printed texts: the operation that prints each, and the text.
    texts: Vec<(usize, Vec<u8>)>,
}

impl Script {
    fn push(&mut self, operation: [u32; 4]) -> &mut Self {
        self.operations.push(operation);
        self
    }

    pub(crate) fn write8(&mut self, address: u32, value: u32) -> &mut Self {
        self.push([1, address, value, 0])
    }

    pub(crate) fn write16(&mut self, address: u32, value: u32) -> &mut Self {
        self.push([2, address, value, 0])
    }

    pub(crate) fn write(&mut self, address: u32, value: u32) -> &mut Self {
        self.push([3, address, value, 0])
    }

    pub(crate) fn read_all_widths(&mut self, address: u32) -> &mut Self {
        self.push([4, address, 0, 0])
    }

    pub(crate) fn out(&mut self, port: u16, value: u8) -> &mut Self {
        self.push([5, port.into(), value.into(), 1])
    }

    pub(crate) fn out_all_widths(&mut self, port: u16, value: u32) -> &mut Self {
        self.push([5, port.into(), value, 4])
    }

    pub(crate) fn in_all_widths(&mut self, port: u16) -> &mut Self {
        self.push([6, port.into(), 0, 0])
    }

    /// Waits until the masked word at `address` is `value`; a timeout ends the script.
    pub(crate) fn wait(&mut self, address: u32, mask: u32, value: u32) -> &mut Self {
        self.push([7, address, mask, value])
    }

    pub(crate) fn say(&mut self, line: &str) -> &mut Self {
        let text = format!("{line}\n").into_bytes();
        self.push([8, 0, text.len() as u32, 0]);
        self.texts.push((self.operations.len() - 1, text));
        self
    }

    /// A string instruction writes `bytes` bytes of memory to the port.
    pub(crate) fn out_string(&mut self, port: u16, address: u32, bytes: u32) -> &mut Self {
        self.push([13, port.into(), address, bytes])
    }

    /// Repeats the operations that `body` adds; cannot be nested.
    pub(crate) fn repeat(&mut self, times: u32, body: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.here();
        body(self);
        self.push([9, start, 0, times])
    }

    /// The address of the next operation.
    pub(crate) fn here(&self) -> u32 {
        SCRIPT + self.operations.len() as u32 * 16
    }

    pub(crate) fn add(&mut self, address: u32, value: u32) -> &mut Self {
        self.push([10, address, value, 0])
    }

    pub(crate) fn halt(&mut self) -> &mut Self {
        self.push([11, 0, 0, 0])
    }

    pub(crate) fn triple_fault(&mut self) -> &mut Self {
        self.push([12, 0, 0, 0])
    }

    /// Accepts every offered feature.
    pub(crate) fn negotiate(&mut self, number: u32) -> &mut Self {
        let at = device(number);
        self.write(at + STATUS, 0).write(at + STATUS, 1).write(at + STATUS, 3);
        // VERSION_1 only: with event indexes, kicks could be missed.
        self.write(at + 0x24, 0).write(at + 0x20, 0).write(at + 0x24, 1).write(at + 0x20, 1);
        self.write(at + STATUS, 11).wait(at + STATUS, 8, 8)
    }

    /// Sets a queue's address without checking that the device accepts it.
    pub(crate) fn place(&mut self, rings: Rings, descriptors: u32, available: u32, used: u32) -> &mut Self {
        let at = device(rings.device);
        self.write(at + 0x30, rings.queue).write(at + 0x38, rings.size);
        for (register, address) in [(0x80, descriptors), (0x90, available), (0xa0, used)] {
            self.write(at + register, address).write(at + register + 4, 0);
        }
        self.write(at + 0x44, 1)
    }

    /// Sets up an empty queue, as a driver does.
    pub(crate) fn set_up(&mut self, rings: Rings) -> &mut Self {
        self.write(rings.available(), 0).write(rings.used(), 0);
        self.place(rings, rings.descriptors(), rings.available(), rings.used());
        self.wait(device(rings.device) + 0x44, 1, 1)
    }

    pub(crate) fn driver_ok(&mut self, number: u32) -> &mut Self {
        self.write(device(number) + STATUS, 15)
    }

    /// Prepares a device with its first `queues` queues.
    pub(crate) fn start(&mut self, number: u32, queues: u32) -> &mut Self {
        self.negotiate(number);
        for queue in 0..queues {
            self.set_up(Rings { device: number, queue, size: 64 });
        }
        self.driver_ok(number)
    }

    pub(crate) fn descriptor(&mut self, table: u32, index: u32, fields: (u32, u32, u32, u32)) -> &mut Self {
        let (address, length, flags, next) = fields;
        let at = table + index * DESCRIPTOR_BYTES;
        self.write(at, address).write(at + 4, 0).write(at + 8, length).write(at + 12, flags | next << 16)
    }

    /// Makes the chain at `head` available as number `number` (from 0) and kicks.
    pub(crate) fn offer(&mut self, rings: Rings, number: u32, head: u32) -> &mut Self {
        self.write16(rings.available() + 4 + number % rings.size * 2, head);
        self.write16(rings.available() + 2, number + 1);
        self.write(device(rings.device) + NOTIFY, rings.queue)
    }

    /// Reads the first sector of a disk and checks its first word.
    pub(crate) fn read_disk(&mut self, number: u32, word: u32) -> &mut Self {
        let rings = Rings { device: number, queue: 0, size: 64 };
        let table = rings.descriptors();
        self.start(number, 1);
        self.write(BUFFER, 0).write(BUFFER + 4, 0).write(BUFFER + 8, 0).write(BUFFER + 12, 0);
        self.write(BUFFER + 0x1000, 0).write8(BUFFER + 0x2000, 0xff);
        self.descriptor(table, 0, (BUFFER, 16, NEXT, 1));
        self.descriptor(table, 1, (BUFFER + 0x1000, 512, NEXT | WRITE, 2));
        self.descriptor(table, 2, (BUFFER + 0x2000, 1, WRITE, 0));
        self.offer(rings, 0, 0);
        self.wait(rings.used(), 0xffff_0000, 1 << 16);
        self.wait(BUFFER + 0x2000, 0xff, 0).wait(BUFFER + 0x1000, u32::MAX, word)
    }

    /// The script's bytes; it ends with a power-off.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.push([0; 4]);
        let mut at = self.here();
        for (operation, text) in &self.texts {
            self.operations[*operation][1] = at;
            at += text.len() as u32;
        }
        let words = self.operations.iter().flatten().flat_map(|word| word.to_le_bytes());
        words.chain(self.texts.into_iter().flat_map(|(_, text)| text)).collect()
    }
}
