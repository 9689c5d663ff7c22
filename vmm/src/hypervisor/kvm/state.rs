//! The state of a machine and its processors that KVM holds, read from the kernel and written back.
//!
//! The order of a restore matters: the local interrupt controller needs its base address, which is among the system
//! registers; its deadline timer needs the time stamp counter; events come last, since other ioctls may queue some.

use std::io;

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, Msrs, kvm_clock_data, kvm_debugregs,
    kvm_irqchip, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs,
    kvm_xsave,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use serde::{Deserialize, Serialize};
use tracing::debug;

use crate::hypervisor::{HypervisorError, SavedState};

/// Deadline of the local timer (`IA32_TSC_DEADLINE`).
const TSC_DEADLINE: u32 = 0x6e0;
/// Difference between the rates of two time stamp counters, in millionths, that a guest's clock corrects by itself.
const TSC_TOLERANCE: u64 = 250;

#[derive(Serialize, Deserialize)]
struct MachineState {
    interrupt_controllers: Vec<kvm_irqchip>,
    clock: kvm_clock_data,
}

#[derive(Serialize, Deserialize)]
struct ProcessorState {
    run_state: kvm_mp_state,
    registers: kvm_regs,
    system: kvm_sregs,
    extended: kvm_xsave,
    extended_control: kvm_xcrs,
    debug: kvm_debugregs,
    local_interrupts: kvm_lapic_state,
    model_registers: Vec<kvm_msr_entry>,
    events: kvm_vcpu_events,
    /// Rate of the time stamp counter in kHz; none where KVM does not report it.
    tsc_khz: Option<u32>,
}

fn wrong(action: &'static str, reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> HypervisorError {
    HypervisorError { action, source: io::Error::new(io::ErrorKind::InvalidData, reason) }
}

fn to_value(state: &impl Serialize) -> Result<SavedState, HypervisorError> {
    serde_json::to_value(state).map_err(|error| wrong("serialize its state", error))
}

/// Reads interrupt controllers and clock.
pub(super) fn save_machine(machine: &VmFd) -> Result<SavedState, HypervisorError> {
    let mut interrupt_controllers = Vec::new();
    for chip_id in [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC] {
        let mut chip = kvm_irqchip { chip_id, ..Default::default() };
        machine.get_irqchip(&mut chip).map_err(HypervisorError::of("read its interrupt controllers"))?;
        interrupt_controllers.push(chip);
    }
    let clock = machine.get_clock().map_err(HypervisorError::of("read its clock"))?;
    to_value(&MachineState { interrupt_controllers, clock })
}

/// The reverse of [`save_machine`].
pub(super) fn restore_machine(machine: &VmFd, state: &SavedState) -> Result<(), HypervisorError> {
    let state = MachineState::deserialize(state).map_err(|error| wrong("read its saved state", error))?;
    for chip in &state.interrupt_controllers {
        machine.set_irqchip(chip).map_err(HypervisorError::of("set its interrupt controllers"))?;
    }
    // The flags record how the clock was read; the guest's clock resumes from where it stopped.
    let clock = kvm_clock_data { clock: state.clock.clock, ..Default::default() };
    machine.set_clock(&clock).map_err(HypervisorError::of("set its clock"))
}

/// Reads all of a processor.
pub(super) fn save_processor(kvm: &Kvm, processor: &VcpuFd) -> Result<SavedState, HypervisorError> {
    const ACTION: &str = "read a processor's state";
    // The guest's watchdog for soft lockups learns of the pause this way; a guest without KVM's clock has no such flag.
    if let Err(error) = processor.kvmclock_ctrl() {
        debug!("the guest is not notified of the pause: {error}");
    }
    // First, because it makes KVM take pending INIT and SIPI signals, which changes the rest.
    let run_state = processor.get_mp_state().map_err(HypervisorError::of(ACTION))?;
    let wanted = kvm.get_msr_index_list().map_err(HypervisorError::of("list its model-specific registers"))?;
    let state = ProcessorState {
        run_state,
        registers: processor.get_regs().map_err(HypervisorError::of(ACTION))?,
        system: processor.get_sregs().map_err(HypervisorError::of(ACTION))?,
        extended: processor.get_xsave().map_err(HypervisorError::of(ACTION))?,
        extended_control: processor.get_xcrs().map_err(HypervisorError::of(ACTION))?,
        debug: processor.get_debug_regs().map_err(HypervisorError::of(ACTION))?,
        local_interrupts: processor.get_lapic().map_err(HypervisorError::of(ACTION))?,
        model_registers: read_model_registers(processor, wanted.as_slice())?,
        events: processor.get_vcpu_events().map_err(HypervisorError::of(ACTION))?,
        tsc_khz: processor.get_tsc_khz().ok(),
    };
    to_value(&state)
}

/// The reverse of [`save_processor`].
pub(super) fn restore_processor(processor: &VcpuFd, state: &SavedState) -> Result<(), HypervisorError> {
    const ACTION: &str = "set a processor's state";
    let state = ProcessorState::deserialize(state).map_err(|error| wrong("read a processor's saved state", error))?;
    keep_counter_rate(processor, state.tsc_khz)?;
    processor.set_mp_state(state.run_state).map_err(HypervisorError::of(ACTION))?;
    processor.set_regs(&state.registers).map_err(HypervisorError::of(ACTION))?;
    processor.set_sregs(&state.system).map_err(HypervisorError::of(ACTION))?;
    // SAFETY: the structure has the 4 KiB that KVM reads: no state component that needs more was enabled.
    unsafe { processor.set_xsave(&state.extended) }.map_err(HypervisorError::of(ACTION))?;
    if state.extended_control.nr_xcrs > 0 {
        processor.set_xcrs(&state.extended_control).map_err(HypervisorError::of(ACTION))?;
    }
    processor.set_debug_regs(&state.debug).map_err(HypervisorError::of(ACTION))?;
    processor.set_lapic(&state.local_interrupts).map_err(HypervisorError::of(ACTION))?;
    let (deadline, others): (Vec<_>, Vec<_>) =
        state.model_registers.iter().copied().partition(|register| register.index == TSC_DEADLINE);
    write_model_registers(processor, &others)?;
    write_model_registers(processor, &deadline)?;
    processor.set_vcpu_events(&state.events).map_err(HypervisorError::of(ACTION))
}

/// Keeps the time stamp counter at the rate that the guest has measured.
fn keep_counter_rate(processor: &VcpuFd, saved_khz: Option<u32>) -> Result<(), HypervisorError> {
    let (Some(saved), Ok(here)) = (saved_khz, processor.get_tsc_khz()) else { return Ok(()) };
    if u64::from(saved.abs_diff(here)) * 1_000_000 <= u64::from(here) * TSC_TOLERANCE {
        return Ok(());
    }
    processor.set_tsc_khz(saved).map_err(HypervisorError::of("set the time stamp counter's rate"))
}

fn registers_of(entries: &[kvm_msr_entry]) -> Result<Msrs, HypervisorError> {
    Msrs::from_entries(entries).map_err(|_| wrong("list its model-specific registers", "they are too many"))
}

/// Leaves out registers that cannot be read: KVM lists what it could emulate, not what this processor has.
fn read_model_registers(processor: &VcpuFd, wanted: &[u32]) -> Result<Vec<kvm_msr_entry>, HypervisorError> {
    let (mut read, mut rest) = (Vec::with_capacity(wanted.len()), wanted);
    while !rest.is_empty() {
        let entries: Vec<_> = rest.iter().map(|&index| kvm_msr_entry { index, ..Default::default() }).collect();
        let mut registers = registers_of(&entries)?;
        let count = processor.get_msrs(&mut registers).map_err(HypervisorError::of("read model-specific registers"))?;
        read.extend_from_slice(&registers.as_slice()[..count]);
        rest = rest.get(count + 1..).unwrap_or_default();
    }
    Ok(read)
}

/// Writes registers; one that cannot be written must have the value already.
fn write_model_registers(processor: &VcpuFd, wanted: &[kvm_msr_entry]) -> Result<(), HypervisorError> {
    let mut rest = wanted;
    while !rest.is_empty() {
        let registers = registers_of(rest)?;
        let count = processor.set_msrs(&registers).map_err(HypervisorError::of("write model-specific registers"))?;
        let Some(refused) = rest.get(count) else { return Ok(()) };
        let now = read_model_registers(processor, &[refused.index])?;
        if now.first().is_some_and(|now| now.data != refused.data) {
            let reason = format!("register {:#x} does not take {:#x}", refused.index, refused.data);
            return Err(wrong("write model-specific registers", reason));
        }
        rest = &rest[count + 1..];
    }
    Ok(())
}
