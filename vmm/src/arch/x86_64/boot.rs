//! Loads a kernel with its initial file system into guest memory for a start by the PVH protocol
//! (<https://xenbits.xen.org/docs/unstable/misc/pvh.html>): in 32-bit protected mode; the kernel does the rest itself.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use linux_loader::configurator::pvh::PvhBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::KernelLoader;
use linux_loader::loader::elf::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use linux_loader::loader::elf::{Elf, PvhBootCapability};
use rorqual_vmm_protocol::{Failure, FailureCode};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, ReadVolatile};

use super::layout::{
    ACPI_START, COMMAND_LINE, HIGH_MEMORY_START, LOW_MEMORY_END, MAX_COMMAND_LINE_BYTES, MEMORY_MAP, MODULES,
    START_INFO,
};

const MAGIC: u32 = 0x336e_c578;
const TYPE_MEMORY: u32 = 1;
const TYPE_RESERVED: u32 = 2;
const PAGE_BYTES: u64 = 4096;

/// Where the first processor starts, and with what.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Its first instruction.
    pub address: u32,
    /// The address of the start information, for EBX.
    pub argument: u32,
    /// The whole pages of the kernel, most of which it touches at its start.
    pub kernel: Range<u64>,
}

/// Loads all of it. The ACPI tables are in memory already, the first at `acpi`.
pub fn load(
    memory: &GuestMemoryMmap,
    kernel: &Path,
    initramfs: &Path,
    command_line: &str,
    acpi: u64,
) -> Result<Entry, Failure> {
    let (entry, kernel) = load_kernel(memory, kernel)?;
    let (module_at, module_bytes) = load_initramfs(memory, initramfs, kernel.end)?;
    if command_line.len() >= MAX_COMMAND_LINE_BYTES {
        return Err(Failure::new(
            FailureCode::ConfigInvalid,
            format!("the kernel's command line is longer than {} bytes", MAX_COMMAND_LINE_BYTES - 1),
        ));
    }
    let text = [command_line.as_bytes(), b"\0"].concat();
    memory
        .write_slice(&text, GuestAddress(COMMAND_LINE))
        .map_err(|error| Failure::internal("write the command line", error))?;
    let map = memory_map(memory);
    let module = hvm_modlist_entry { paddr: module_at, size: module_bytes, ..Default::default() };
    let start = hvm_start_info {
        magic: MAGIC,
        version: 1,
        nr_modules: 1,
        modlist_paddr: MODULES,
        cmdline_paddr: COMMAND_LINE,
        rsdp_paddr: acpi,
        memmap_paddr: MEMORY_MAP,
        memmap_entries: map.len() as u32,
        ..Default::default()
    };
    let mut parameters = BootParams::new(&start, GuestAddress(START_INFO));
    parameters.set_sections(&map, GuestAddress(MEMORY_MAP));
    parameters.set_modules(&[module], GuestAddress(MODULES));
    PvhBootConfigurator::write_bootparams(&parameters, memory)
        .map_err(|error| Failure::internal("write the start information", error))?;
    Ok(Entry { address: entry, argument: START_INFO as u32, kernel })
}

fn load_kernel(memory: &GuestMemoryMmap, path: &Path) -> Result<(u32, Range<u64>), Failure> {
    let unsuitable =
        |reason: String| Failure::new(FailureCode::ConfigInvalid, format!("the kernel {} {reason}", path.display()));
    let mut file = File::open(path).map_err(|error| Failure::of_file("open the kernel", path, &error))?;
    let loaded = Elf::load(memory, None, &mut file, Some(GuestAddress(HIGH_MEMORY_START)))
        .map_err(|error| unsuitable(format!("does not load: {error}")))?;
    let PvhBootCapability::PvhEntryPresent(entry) = loaded.pvh_boot_cap else {
        return Err(unsuitable("has no PVH entry: it must be a vmlinux built with CONFIG_PVH".to_owned()));
    };
    let entry = u32::try_from(entry.0).map_err(|_| unsuitable("starts beyond 4 GiB".to_owned()))?;
    // The first byte of a kernel is its 64-bit entry.
    let start = loaded.kernel_load.0 & !(PAGE_BYTES - 1);
    Ok((entry, start..loaded.kernel_end.next_multiple_of(PAGE_BYTES)))
}

/// Loads it as high as the first piece of memory allows: the kernel unpacks itself and allocates from below.
fn load_initramfs(memory: &GuestMemoryMmap, path: &Path, kernel_end: u64) -> Result<(u64, u64), Failure> {
    let failed = |error| Failure::of_file("read the initial file system", path, &error);
    let mut file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let low = memory.find_region(GuestAddress(HIGH_MEMORY_START)).map_or(0, GuestMemoryRegion::len);
    let at =
        low.checked_sub(bytes).map(|at| at & !(PAGE_BYTES - 1)).filter(|at| *at >= kernel_end).ok_or_else(|| {
            let message = format!("the kernel and its initial file system do not fit into {low} bytes of memory");
            Failure::new(FailureCode::NoMemory, message).with_fix("give the machine more memory")
        })?;
    let target = memory
        .get_slice(GuestAddress(at), bytes as usize)
        .map_err(|error| Failure::internal("place the initial file system", error))?;
    file.read_exact_volatile(&mut { target })
        .map_err(|error| Failure::internal("read the initial file system", error))?;
    Ok((at, bytes))
}

fn memory_map(memory: &GuestMemoryMmap) -> Vec<hvm_memmap_table_entry> {
    let entry = |addr, size, type_| hvm_memmap_table_entry { addr, size, type_, ..Default::default() };
    let mut map =
        vec![entry(0, LOW_MEMORY_END, TYPE_MEMORY), entry(ACPI_START, HIGH_MEMORY_START - ACPI_START, TYPE_RESERVED)];
    for region in memory.iter() {
        let start = region.start_addr().0;
        let skipped = HIGH_MEMORY_START.saturating_sub(start);
        map.push(entry(start + skipped, region.len() - skipped, TYPE_MEMORY));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::x86_64::layout::{HOLE_END, HOLE_START, MemoryPages, make_memory};

    #[test]
    fn the_memory_map_has_all_memory_and_never_the_hole() {
        let memory = make_memory(5 << 30, MemoryPages::Ordinary).unwrap();
        let map: Vec<_> = memory_map(&memory).iter().map(|entry| (entry.addr, entry.size, entry.type_)).collect();
        assert_eq!(map[2], (HIGH_MEMORY_START, HOLE_START - HIGH_MEMORY_START, TYPE_MEMORY));
        assert_eq!(map[3], (HOLE_END, 2 << 30, TYPE_MEMORY));
    }

    #[test]
    fn a_file_that_is_no_kernel_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vmlinux");
        std::fs::write(&path, "not a kernel").unwrap();
        let failure =
            load(&make_memory(64 << 20, MemoryPages::Ordinary).unwrap(), &path, &path, "", ACPI_START).unwrap_err();
        assert_eq!(failure.code, FailureCode::ConfigInvalid);
        assert!(failure.message.contains("vmlinux"));
    }
}
