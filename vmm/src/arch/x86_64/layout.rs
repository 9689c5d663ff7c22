//! The guest's physical address space, ports and interrupt lines, and the memory itself.

use std::fs::File;
use std::io;
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags};
use tracing::debug;
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap, MmapRegion,
};

/// Start of the hole in memory below 4 GiB, for devices and interrupt controllers.
pub const HOLE_START: u64 = 0xc000_0000;
/// End of the hole: memory continues here.
pub const HOLE_END: u64 = 1 << 32;
/// The registers of the first virtio device; the others follow, [`DEVICE_BYTES`] each.
pub const DEVICES_START: u64 = 0xd000_0000;
/// Bytes of one virtio device's registers.
pub const DEVICE_BYTES: u64 = 0x1000;
/// Interrupt line of the first virtio device; the others follow.
pub const FIRST_DEVICE_LINE: u32 = 5;
/// Lines of the interrupt controller.
pub const LINES: u32 = 24;
/// Most virtio devices: one per line from [`FIRST_DEVICE_LINE`] on.
pub const MAX_DEVICES: usize = (LINES - FIRST_DEVICE_LINE) as usize;

/// The ACPI tables, where PCs have their firmware, up to the end of the first MiB.
pub const ACPI_START: u64 = 0xe_0000;
/// End of the memory that a PC's firmware leaves below its own data.
pub const LOW_MEMORY_END: u64 = 0x9_fc00;
/// Start of the kernel's memory.
pub const HIGH_MEMORY_START: u64 = 0x10_0000;
/// The start information of the kernel (PVH).
pub const START_INFO: u64 = 0x6000;
/// The memory map of the start information.
pub const MEMORY_MAP: u64 = 0x7000;
/// The module list of the start information: the initial file system.
pub const MODULES: u64 = 0x8000;
/// The kernel's command line.
pub const COMMAND_LINE: u64 = 0x2_0000;
/// Longest command line in bytes, its closing zero included: a limit of the x86 kernel.
pub const MAX_COMMAND_LINE_BYTES: usize = 2048;

/// The first serial port.
pub const SERIAL_PORT: u16 = 0x3f8;
/// Its interrupt line.
pub const SERIAL_LINE: u32 = 4;
/// The keyboard controller's data port; its command port is four higher.
pub const KEYBOARD_PORT: u16 = 0x60;
/// Its interrupt line.
pub const KEYBOARD_LINE: u32 = 1;
/// ACPI sleep control, sleep status and reset registers, one byte each.
pub const POWER_PORT: u16 = 0x600;
/// Value that the guest writes to the reset register.
pub const RESET_VALUE: u8 = 1;
/// Value that the guest writes to sleep control for power off: sleep type 5 and the enable bit (ACPI 6.5 §4.8.3.7).
pub const POWER_OFF_VALUE: u8 = 5 << 2 | 1 << 5;

/// Address and length of each piece of `bytes` of memory.
pub fn memory_ranges(bytes: u64) -> Vec<(u64, u64)> {
    if bytes <= HOLE_START { vec![(0, bytes)] } else { vec![(0, HOLE_START), (HOLE_END, bytes - HOLE_START)] }
}

/// The host's pages that make up guest memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MemoryPages {
    /// This process's own, taken as the guest touches them, in huge pages where the system has them free. A memfd,
    /// which other processes could share, has only small pages unless an administrator enabled others. Each small page
    /// stops the guest once: a boot made 10,000 such stops instead of 27.
    Ordinary,
    /// Pages of 2 MiB that the host has reserved, all taken at once so that none is missing later. A memfd.
    Huge,
}

/// Guest memory of `bytes`, a multiple of the page size.
pub fn make_memory(bytes: u64, pages: MemoryPages) -> io::Result<GuestMemoryMmap> {
    if pages == MemoryPages::Huge {
        let kind = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_2MB;
        let file = File::from(memfd_create("guest-memory", kind)?);
        file.set_len(bytes)?;
        // Without the mapping's reservation, a missing page would end the monitor by a signal.
        return map_file(file, bytes, MapFlags::MAP_SHARED);
    }
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

/// Guest memory as it was saved in `file`, piece after piece: read when it is touched, and never written back. No
/// memory is reserved for it, since a guest seldom changes all pages.
pub fn map_saved_memory(file: File, bytes: u64) -> io::Result<GuestMemoryMmap> {
    map_file(file, bytes, MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE)
}

fn map_file(file: File, bytes: u64, flags: MapFlags) -> io::Result<GuestMemoryMmap> {
    let file = Arc::new(file);
    let mut offset = 0;
    let mut regions = Vec::new();
    for (start, length) in memory_ranges(bytes) {
        let piece = FileOffset::from_arc(file.clone(), offset);
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let mapping = MmapRegion::build(Some(piece), length as usize, protection.bits(), flags.bits())
            .map_err(io::Error::other)?;
        let region = GuestRegionMmap::new(mapping, GuestAddress(start))
            .ok_or_else(|| io::Error::other("a piece of memory reaches beyond the address space"))?;
        regions.push(region);
        offset += length;
    }
    GuestMemoryMmap::from_regions(regions).map_err(io::Error::other)
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
        let memory = make_memory(4 << 30, MemoryPages::Ordinary).unwrap();
        memory.write_obj(1u64, GuestAddress(0)).unwrap();
        memory.write_obj(2u64, GuestAddress(HOLE_END)).unwrap();
        assert_eq!(memory.read_obj::<u64>(GuestAddress(0)).unwrap(), 1);
        assert!(!memory.address_in_range(GuestAddress(DEVICES_START)));
        assert_eq!(memory.last_addr(), GuestAddress(HOLE_END + (1 << 30) - 1));
    }

    #[test]
    fn huge_pages_are_all_there_or_refused_at_once() {
        // More than any host has reserved. Where some are reserved, a small memory works.
        assert!(make_memory(1 << 46, MemoryPages::Huge).is_err());
        let free = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
        let free: u64 = free.ok().and_then(|count| count.trim().parse().ok()).unwrap_or(0);
        assert_eq!(make_memory(4 << 20, MemoryPages::Huge).is_ok(), free >= 2, "{free} free");
    }
}
