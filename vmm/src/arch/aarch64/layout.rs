//! Where things are in the guest's physical address space, and on which interrupts. Devices lie below 1 GiB, memory from there on
//! without a hole, as on the boards Linux knows best.

/// The distributor of the interrupt controller (`GICv3`, ARM IHI 0069 §12.8): 64 KiB.
pub const DISTRIBUTOR: u64 = 0x0800_0000;
/// The redistributors, one for each processor; the last of 64 ends below [`SERIAL_PORT`].
pub const REDISTRIBUTORS: u64 = 0x080a_0000;
/// Bytes of one redistributor: two frames of 64 KiB (ARM IHI 0069 §12.10).
pub const REDISTRIBUTOR_BYTES: u64 = 0x2_0000;
/// The serial port (PL011), 4 KiB.
pub const SERIAL_PORT: u64 = 0x0900_0000;
/// The first virtio device; the next ones follow at distances of [`DEVICE_BYTES`].
pub const DEVICES_START: u64 = 0x0a00_0000;
/// Addresses of one virtio device.
pub const DEVICE_BYTES: u64 = 0x1000;
/// Shared peripheral interrupt of the serial port, counted from the first shared one (INTID 32).
pub const SERIAL_INTERRUPT: u32 = 0;
/// That of the first virtio device.
pub const FIRST_DEVICE_INTERRUPT: u32 = 1;
/// Start of memory.
pub const MEMORY_START: u64 = 0x4000_0000;
/// The kernel goes to a multiple of this, as its image demands (Linux, Documentation/arch/arm64/booting.rst).
pub const KERNEL_ALIGNMENT: u64 = 2 << 20;

/// Address and length of each piece of `bytes` of memory.
pub fn memory_ranges(bytes: u64) -> Vec<(u64, u64)> {
    vec![(MEMORY_START, bytes)]
}

/// Address of the virtio device with this number, from 0.
pub fn device_address(number: u32) -> u64 {
    DEVICES_START + u64::from(number) * DEVICE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps_with_the_most_processors_and_devices() {
        let places = [
            (DISTRIBUTOR, 0x1_0000),
            (REDISTRIBUTORS, 64 * REDISTRIBUTOR_BYTES),
            (SERIAL_PORT, 0x1000),
            (DEVICES_START, device_address(32) - DEVICES_START),
            (MEMORY_START, 8 << 30),
        ];
        for pair in places.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?}");
        }
        assert!(MEMORY_START.is_multiple_of(KERNEL_ALIGNMENT));
        assert_eq!(memory_ranges(6 << 30), [(MEMORY_START, 6 << 30)]);
    }
}
