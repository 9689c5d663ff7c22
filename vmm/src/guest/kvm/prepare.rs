//! What a guest consists of before it runs: memory mapped, devices attached, processors at the kernel's entry.

use std::io;
use std::sync::Arc;

use rorqual_vmm_protocol::{Config, Failure};
use tracing::debug;
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use crate::arch::x86_64::layout::{DEVICE_BYTES, DEVICES_START, FIRST_DEVICE_LINE};
use crate::arch::x86_64::{FeatureLeaf, acpi, boot, features};
use crate::attachment::mmio::{MmioAttachment, QUEUE_NOTIFY};
use crate::guest::GuestDevice;
use crate::hypervisor::kvm::KvmMachine;
use crate::hypervisor::x86_64::X86Processor;
use crate::hypervisor::{HypervisorError, VirtualMachine};

/// What the accelerator adds to the command line: the console, no PC buses, and a panic that ends the machine. A reset
/// uses the keyboard controller (`reboot=k`): after a panic Linux 6.12 never got as far as writing ACPI's reset
/// register.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=1 reboot=k pci=off i8042.noaux i8042.nomux i8042.dumbkbd";

/// Processors that are ready to run.
pub(super) struct Prepared {
    /// The processors, by number.
    pub(super) processors: Vec<Box<dyn X86Processor>>,
    /// The features each finds, by number.
    pub(super) features: Vec<Vec<FeatureLeaf>>,
}

/// Gives the machine its memory.
pub(super) fn map(machine: &KvmMachine, memory: &GuestMemoryMmap) -> Result<(), HypervisorError> {
    for (slot, region) in memory.iter().enumerate() {
        let start = region.start_addr();
        let host = memory
            .get_host_address(start)
            .map_err(|error| HypervisorError { action: "map memory", source: io::Error::other(error) })?;
        // SAFETY: the region is a readable and writable mapping of this length. The thread that owns the machine owns a
        // reference to the memory too, and drops it last.
        unsafe { machine.map_memory(slot as u32, start.0, host, region.len()) }?;
    }
    Ok(())
}

/// Puts each device behind registers, with its doorbells and its interrupt line.
pub(super) fn attach(
    machine: &KvmMachine,
    devices: Vec<GuestDevice>,
    memory: &GuestMemoryMmap,
) -> Result<Vec<Arc<MmioAttachment>>, Failure> {
    let mut attachments = Vec::new();
    for (number, GuestDevice { id, device, notice }) in devices.into_iter().enumerate() {
        let attachment = MmioAttachment::new(&id, device, memory.clone())
            .map_err(|error| Failure::internal(&format!("attach device {id}"), error))?;
        let attachment = Arc::new(attachment);
        let doorbell_at = DEVICES_START + number as u64 * DEVICE_BYTES + QUEUE_NOTIFY;
        for (queue, doorbell) in attachment.doorbells().enumerate() {
            machine.attach_doorbell(doorbell, doorbell_at, queue as u32)?;
        }
        machine.attach_interrupt(attachment.interrupt(), FIRST_DEVICE_LINE + number as u32)?;
        let notified = attachment.clone();
        notice.set(move || {
            notified.configuration_changed();
            Ok(())
        });
        attachments.push(attachment);
    }
    Ok(attachments)
}

/// Loads the kernel and creates the processors, the first at the kernel's entry.
pub(super) fn processors(
    machine: &KvmMachine,
    config: &Config,
    command_line: &str,
    memory: &GuestMemoryMmap,
    devices: usize,
) -> Result<Prepared, Failure> {
    let acpi = acpi::write_tables(memory, config.cpus as u8, devices)
        .map_err(|error| Failure::internal("write the ACPI tables", error))?;
    let command_line = format!("{COMMAND_LINE} {command_line}");
    let entry = boot::load(memory, &config.kernel.path, &config.kernel.initramfs, &command_line, acpi)?;
    let mut prepared = Prepared { processors: Vec::new(), features: Vec::new() };
    for number in 0..config.cpus {
        let mut processor = machine.create_processor(number)?;
        let features = features::shape(&processor.host_features()?, number, config.cpus);
        processor.set_features(&features)?;
        processor.set_model_registers(&features::MODEL_REGISTERS)?;
        if number == 0 {
            processor.start_protected_mode(entry.address, entry.argument)?;
            // The loader has filled these pages, so mapping them takes no memory. It avoids half of the stops of a
            // boot.
            let kernel = &entry.kernel;
            let mapped = processor.map_ahead(kernel.start, kernel.end - kernel.start);
            debug!(mapped, "the kernel's pages are mapped ahead");
        }
        prepared.processors.push(processor);
        prepared.features.push(features);
    }
    Ok(prepared)
}
