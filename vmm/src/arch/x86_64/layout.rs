//! Where things are in the guest's physical address space, and on which ports and interrupt lines.

use std::io;

use tracing::debug;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

/// Start of what is no memory below 4 GiB: devices and interrupt controllers.
pub const HOLE_START: u64 = 0xc000_0000;
/// Memory goes on here.
pub const HOLE_END: u64 = 1 << 32;
/// The first virtio device; the next ones follow at distances of [`DEVICE_BYTES`].
pub const DEVICES_START: u64 = 0xd000_0000;
/// Addresses of one virtio device.
pub const DEVICE_BYTES: u64 = 0x1000;
/// Interrupt line of the first virtio device; each has one of its own.
pub const FIRST_DEVICE_LINE: u32 = 5;
/// Lines of the interrupt controller, so the most devices are these less [`FIRST_DEVICE_LINE`].
pub const LINES: u32 = 24;
/// Most virtio devices.
pub const DEVICES_MAX: usize = (LINES - FIRST_DEVICE_LINE) as usize;

/// The ACPI tables, in the area where PCs have their firmware; its end is the end of the first MiB.
pub const ACPI_START: u64 = 0xe_0000;
/// End of the memory a PC's firmware leaves below its own data.
pub const LOW_MEMORY_END: u64 = 0x9_fc00;
/// Where the kernel's memory begins.
pub const HIGH_MEMORY_START: u64 = 0x10_0000;
/// What the kernel is told at its start (PVH).
pub const START_INFO: u64 = 0x6000;
/// The memory map of the start information.
pub const MEMORY_MAP: u64 = 0x7000;
/// The module list of the start information: the initial file system.
pub const MODULES: u64 = 0x8000;
/// The kernel's command line.
pub const COMMAND_LINE: u64 = 0x2_0000;
/// Most bytes of a command line, its closing zero included: the kernel of x86 takes no more.
pub const COMMAND_LINE_BYTES_MAX: usize = 2048;

/// The first serial port.
pub const SERIAL_PORT: u16 = 0x3f8;
/// Its interrupt line.
pub const SERIAL_LINE: u32 = 4;
/// The keyboard controller's data port; its commands are at the port four above.
pub const KEYBOARD_PORT: u16 = 0x60;
/// Its interrupt line.
pub const KEYBOARD_LINE: u32 = 1;
/// ACPI sleep control, sleep status and reset registers, one byte each.
pub const POWER_PORT: u16 = 0x600;
/// What is written to the reset register.
pub const RESET_VALUE: u8 = 1;
/// What is written to sleep control for power off: sleep type 5 and the enable bit (ACPI 6.5 §4.8.3.7).
pub const POWER_OFF_VALUE: u8 = 5 << 2 | 1 << 5;

/// Address and length of each piece of `bytes` of memory.
pub fn memory_ranges(bytes: u64) -> Vec<(u64, u64)> {
    if bytes <= HOLE_START { vec![(0, bytes)] } else { vec![(0, HOLE_START), (HOLE_END, bytes - HOLE_START)] }
}

/// Guest memory of `bytes`, a multiple of the page size: this process's own, in huge pages where the system has them. A memfd, which could be shared
/// with another process, has none unless an administrator turned them on, and each small page stops the guest once.
pub fn make_memory(bytes: u64) -> io::Result<GuestMemoryMmap> {
    let pieces = memory_ranges(bytes).into_iter().map(|(start, length)| (GuestAddress(start), length as usize));
    let memory = GuestMemoryMmap::from_ranges(&pieces.collect::<Vec<_>>()).map_err(io::Error::other)?;
    for region in memory.iter() {
        let length = region.len() as usize;
        // SAFETY: the range is the region's mapping, which lives as long as `memory`; the advice changes no content.
        if unsafe { libc::madvise(region.as_ptr().cast(), length, libc::MADV_HUGEPAGE) } != 0 {
            debug!("no huge pages for the guest: {}", io::Error::last_os_error());
        }
    }
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use vm_memory::Bytes;

    use super::*;

    #[test]
    fn memory_leaves_the_hole_below_4_gib_free() {
        assert_eq!(memory_ranges(128 << 20), [(0, 128 << 20)]);
        assert_eq!(memory_ranges(HOLE_START), [(0, HOLE_START)]);
        assert_eq!(memory_ranges(6 << 30), [(0, HOLE_START), (HOLE_END, 3 << 30)]);
    }

    #[test]
    fn memory_beyond_the_hole_is_memory_of_its_own() {
        let memory = make_memory(4 << 30).unwrap();
        memory.write_obj(1u64, GuestAddress(0)).unwrap();
        memory.write_obj(2u64, GuestAddress(HOLE_END)).unwrap();
        assert_eq!(memory.read_obj::<u64>(GuestAddress(0)).unwrap(), 1);
        assert!(!memory.address_in_range(GuestAddress(DEVICES_START)));
        assert_eq!(memory.last_addr(), GuestAddress(HOLE_END + (1 << 30) - 1));
    }
}
