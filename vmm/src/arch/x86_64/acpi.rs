//! The ACPI tables: hardware-reduced (ACPI 6.5 §4.1), with the devices of [`layout`](super::layout) and only as much of
//! a PC's legacy as Linux would otherwise probe for.

use acpi_tables::Aml;
use acpi_tables::aml::{Device, EISAName, IO, Interrupt, Memory32Fixed, Name, Package, ResourceTemplate, Scope};
use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::{GenericAddress, Sdt};
use acpi_tables::xsdt::XSDT;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::layout::{
    ACPI_START, DEVICE_BYTES, DEVICES_START, FIRST_DEVICE_LINE, KEYBOARD_LINE, KEYBOARD_PORT, POWER_PORT, RESET_VALUE,
    SERIAL_LINE, SERIAL_PORT,
};

const OEM: [u8; 6] = *b"RORQUA";
const TABLE: [u8; 8] = *b"RORQUAL ";
const REVISION: u32 = 1;
const LOCAL_APIC: u32 = 0xfee0_0000;
const IO_APIC: u32 = 0xfec0_0000;
/// Bytes of a FADT of ACPI 6.
const FADT_BYTES: u32 = 276;
/// FADT flags: hardware-reduced, with a reset register.
const FADT_FLAGS: u32 = 1 << 20 | 1 << 10;
/// IA-PC boot flags: no VGA, no CMOS clock, a keyboard controller.
const BOOT_FLAGS: u16 = 1 << 5 | 1 << 2 | 1 << 1;

/// Writes the tables for these numbers of processors and virtio devices; returns the address of the first (RSDP).
pub fn write_tables(memory: &GuestMemoryMmap, processors: u8, devices: usize) -> Result<u64, GuestMemoryError> {
    let rsdp_at = ACPI_START;
    // The RSDP is 36 bytes; each table starts on a boundary of 64.
    let mut next = ACPI_START + 64;
    let mut place = |bytes: &[u8]| -> Result<u64, GuestMemoryError> {
        let at = next;
        memory.write_slice(bytes, GuestAddress(at))?;
        next = (at + bytes.len() as u64).next_multiple_of(64);
        Ok(at)
    };
    let dsdt = place(dsdt(processors, devices).as_slice())?;
    let fadt = place(fadt(dsdt).as_slice())?;
    let madt = place(&madt(processors))?;
    let mut xsdt = XSDT::new(OEM, TABLE, REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = place(&bytes_of(&xsdt))?;
    memory.write_slice(&bytes_of(&Rsdp::new(OEM, xsdt)), GuestAddress(rsdp_at))?;
    Ok(rsdp_at)
}

fn bytes_of(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn fadt(dsdt: u64) -> Sdt {
    let register = |number| GenericAddress::io_port_address::<u8>(POWER_PORT + number);
    // Offsets are those of ACPI 6.5, table 5.9.
    let mut table = Sdt::new(*b"FACP", FADT_BYTES, 6, OEM, TABLE, REVISION);
    table.write_u16(109, BOOT_FLAGS);
    table.write_u32(112, FADT_FLAGS);
    table.write(116, register(2));
    table.write_u8(128, RESET_VALUE);
    table.write_u8(131, 5);
    table.write_u64(140, dsdt);
    table.write(244, register(0));
    table.write(256, register(1));
    table
}

fn madt(processors: u8) -> Vec<u8> {
    let mut table = MADT::new(OEM, TABLE, REVISION, LocalInterruptController::Address(LOCAL_APIC));
    for number in 0..processors {
        table.add_structure(ProcessorLocalApic::new(number, number, EnabledStatus::Enabled));
    }
    table.add_structure(IoApic::new(0, IO_APIC, 0));
    bytes_of(&table)
}

fn dsdt(processors: u8, devices: usize) -> Sdt {
    let mut body = Vec::new();
    let edge = |line| Interrupt::new(true, true, false, false, line);
    let pnp = |id| EISAName::new(id);
    for number in 0..u32::from(processors) {
        declare(&mut body, &format!("C{number:03}"), &"ACPI0007", number, vec![]);
    }
    for number in 0..devices as u32 {
        let address = DEVICES_START as u32 + number * DEVICE_BYTES as u32;
        let registers = Memory32Fixed::new(true, address, DEVICE_BYTES as u32);
        let line = edge(FIRST_DEVICE_LINE + number);
        declare(&mut body, &format!("V{number:03}"), &"LNRO0005", number, vec![&registers, &line]);
    }
    let ports = IO::new(SERIAL_PORT, SERIAL_PORT, 0, 8);
    declare(&mut body, "COM1", &pnp("PNP0501"), 0, vec![&edge(SERIAL_LINE), &ports]);
    let (data, command) = (IO::new(KEYBOARD_PORT, KEYBOARD_PORT, 1, 1), KEYBOARD_PORT + 4);
    let command = IO::new(command, command, 1, 1);
    declare(&mut body, "PS2_", &pnp("PNP0303"), 0, vec![&data, &command, &edge(KEYBOARD_LINE)]);
    // Sleep state 5 is power off; its type is what the guest writes to the sleep control register.
    Name::new("_S5_".into(), &Package::new(vec![&5u8])).to_aml_bytes(&mut body);
    let mut table = Sdt::new(*b"DSDT", 36, 2, OEM, TABLE, REVISION);
    table.append_slice(&body);
    table
}

/// Appends a device; all of them are coherent with the processors' caches (`_CCA`).
fn declare(body: &mut Vec<u8>, name: &str, kind: &dyn Aml, number: u32, resources: Vec<&dyn Aml>) {
    Scope::new(
        "_SB_".into(),
        vec![&Device::new(
            name.into(),
            vec![
                &Name::new("_HID".into(), kind),
                &Name::new("_UID".into(), &number),
                &Name::new("_CCA".into(), &1u8),
                &Name::new("_CRS".into(), &ResourceTemplate::new(resources)),
            ],
        )],
    )
    .to_aml_bytes(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::x86_64::layout::{HIGH_MEMORY_START, MAX_DEVICES};

    fn read(memory: &GuestMemoryMmap, at: u64, bytes: usize) -> Vec<u8> {
        let mut content = vec![0; bytes];
        memory.read_slice(&mut content, GuestAddress(at)).unwrap();
        content
    }

    fn table(memory: &GuestMemoryMmap, at: u64) -> Vec<u8> {
        let bytes: u32 = memory.read_obj(GuestAddress(at + 4)).unwrap();
        let content = read(memory, at, bytes as usize);
        assert_eq!(content.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0, "checksum");
        assert!(at + u64::from(bytes) <= HIGH_MEMORY_START);
        content
    }

    #[test]
    fn the_largest_machine_s_tables_fit_and_are_linked() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 2 << 20)]).unwrap();
        let root = write_tables(&memory, 64, MAX_DEVICES).unwrap();
        let rsdp = read(&memory, root, 36);
        assert_eq!(&rsdp[..8], b"RSD PTR ");
        let pointer = |content: &[u8], at: usize| u64::from_le_bytes(content[at..at + 8].try_into().unwrap());
        let xsdt = table(&memory, pointer(&rsdp, 24));
        let fadt = table(&memory, pointer(&xsdt, 36));
        let madt = table(&memory, pointer(&xsdt, 44));
        assert_eq!((&fadt[..4], &madt[..4]), (&b"FACP"[..], &b"APIC"[..]));
        assert_eq!(madt.len(), 44 + 64 * 8 + 12);
        let dsdt = table(&memory, pointer(&fadt, 140));
        assert_eq!(dsdt.windows(8).filter(|part| part == b"LNRO0005").count(), MAX_DEVICES);
    }
}
