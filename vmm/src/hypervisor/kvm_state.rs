//! What KVM knows of a machine and its processors, out of the kernel and back into it.
//!
//! The order of a restore matters: the local interrupt controller wants its base address, which is among the system
//! registers; its deadline timer wants the time stamp counter; events come last, since other ioctls may queue some.

use std::io;

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, Msrs, kvm_clock_data, kvm_debugregs,
    kvm_irqchip, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs,
    kvm_xsave,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use serde::{Deserialize, Serialize};
use tracing::debug;

use super::kvm::failed;
use super::{HypervisorError, SavedState};

/// Deadline of the local timer (`IA32_TSC_DEADLINE`).
const TSC_DEADLINE: u32 = 0x6e0;
/// The time stamp counter of two hosts counts alike when it is within so many millionths: what clocks correct by themselves.
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
    /// kHz of the time stamp counter; none where KVM does not tell.
    tsc_khz: Option<u32>,
}

fn wrong(action: &'static str, reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> HypervisorError {
    HypervisorError { action, source: io::Error::new(io::ErrorKind::InvalidData, reason) }
}

fn to_value(state: &impl Serialize) -> Result<SavedState, HypervisorError> {
    serde_json::to_value(state).map_err(|error| wrong("write its state down", error))
}

/// Interrupt controllers and clock.
pub(super) fn save_machine(machine: &VmFd) -> Result<SavedState, HypervisorError> {
    let mut interrupt_controllers = Vec::new();
    for chip_id in [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC] {
        let mut chip = kvm_irqchip { chip_id, ..Default::default() };
        machine.get_irqchip(&mut chip).map_err(failed("tell the state of its interrupt controllers"))?;
        interrupt_controllers.push(chip);
    }
    let clock = machine.get_clock().map_err(failed("tell its clock"))?;
    to_value(&MachineState { interrupt_controllers, clock })
}

/// The reverse of [`save_machine`].
pub(super) fn restore_machine(machine: &VmFd, state: &SavedState) -> Result<(), HypervisorError> {
    let state = MachineState::deserialize(state).map_err(|error| wrong("read its saved state", error))?;
    for chip in &state.interrupt_controllers {
        machine.set_irqchip(chip).map_err(failed("set the state of its interrupt controllers"))?;
    }
    // The flags tell how the clock was read; the guest's clock goes on from where it stood.
    let clock = kvm_clock_data { clock: state.clock.clock, ..Default::default() };
    machine.set_clock(&clock).map_err(failed("set its clock"))
}

/// All of a processor.
pub(super) fn save_processor(kvm: &Kvm, processor: &VcpuFd) -> Result<SavedState, HypervisorError> {
    const ACTION: &str = "tell a processor's state";
    // Lets the guest's watchdog for soft lockups know of the pause; a guest without KVM's clock has nothing to be told.
    if let Err(error) = processor.kvmclock_ctrl() {
        debug!("the guest is not told of the pause: {error}");
    }
    // First: it lets pending INIT and SIPI be taken, which changes the others.
    let run_state = processor.get_mp_state().map_err(failed(ACTION))?;
    let wanted = kvm.get_msr_index_list().map_err(failed("list its model-specific registers"))?;
    let state = ProcessorState {
        run_state,
        registers: processor.get_regs().map_err(failed(ACTION))?,
        system: processor.get_sregs().map_err(failed(ACTION))?,
        extended: processor.get_xsave().map_err(failed(ACTION))?,
        extended_control: processor.get_xcrs().map_err(failed(ACTION))?,
        debug: processor.get_debug_regs().map_err(failed(ACTION))?,
        local_interrupts: processor.get_lapic().map_err(failed(ACTION))?,
        model_registers: read_model_registers(processor, wanted.as_slice())?,
        events: processor.get_vcpu_events().map_err(failed(ACTION))?,
        tsc_khz: processor.get_tsc_khz().ok(),
    };
    to_value(&state)
}

/// The reverse of [`save_processor`].
pub(super) fn restore_processor(processor: &VcpuFd, state: &SavedState) -> Result<(), HypervisorError> {
    const ACTION: &str = "set a processor's state";
    let state = ProcessorState::deserialize(state).map_err(|error| wrong("read a processor's saved state", error))?;
    keep_counting(processor, state.tsc_khz)?;
    processor.set_mp_state(state.run_state).map_err(failed(ACTION))?;
    processor.set_regs(&state.registers).map_err(failed(ACTION))?;
    processor.set_sregs(&state.system).map_err(failed(ACTION))?;
    // SAFETY: the structure has the 4 KiB that KVM reads: no state component that needs more was asked for.
    unsafe { processor.set_xsave(&state.extended) }.map_err(failed(ACTION))?;
    if state.extended_control.nr_xcrs > 0 {
        processor.set_xcrs(&state.extended_control).map_err(failed(ACTION))?;
    }
    processor.set_debug_regs(&state.debug).map_err(failed(ACTION))?;
    processor.set_lapic(&state.local_interrupts).map_err(failed(ACTION))?;
    let (deadline, others): (Vec<_>, Vec<_>) =
        state.model_registers.iter().copied().partition(|register| register.index == TSC_DEADLINE);
    write_model_registers(processor, &others)?;
    write_model_registers(processor, &deadline)?;
    processor.set_vcpu_events(&state.events).map_err(failed(ACTION))
}

/// The guest has measured its time stamp counter: it must go on at that rate.
fn keep_counting(processor: &VcpuFd, saved_khz: Option<u32>) -> Result<(), HypervisorError> {
    let (Some(saved), Ok(here)) = (saved_khz, processor.get_tsc_khz()) else { return Ok(()) };
    if u64::from(saved.abs_diff(here)) * 1_000_000 <= u64::from(here) * TSC_TOLERANCE {
        return Ok(());
    }
    processor.set_tsc_khz(saved).map_err(failed("let the time stamp counter count as fast as when the state was saved"))
}

fn registers_of(entries: &[kvm_msr_entry]) -> Result<Msrs, HypervisorError> {
    Msrs::from_entries(entries).map_err(|_| wrong("take its model-specific registers", "there are too many"))
}

/// Registers that cannot be read are left out: KVM lists what it could emulate, not what this processor has.
fn read_model_registers(processor: &VcpuFd, wanted: &[u32]) -> Result<Vec<kvm_msr_entry>, HypervisorError> {
    let (mut read, mut rest) = (Vec::with_capacity(wanted.len()), wanted);
    while !rest.is_empty() {
        let entries: Vec<_> = rest.iter().map(|&index| kvm_msr_entry { index, ..Default::default() }).collect();
        let mut registers = registers_of(&entries)?;
        let count = processor.get_msrs(&mut registers).map_err(failed("read model-specific registers"))?;
        read.extend_from_slice(&registers.as_slice()[..count]);
        rest = rest.get(count + 1..).unwrap_or_default();
    }
    Ok(read)
}

/// Writes registers; one that refuses must have the value already.
fn write_model_registers(processor: &VcpuFd, wanted: &[kvm_msr_entry]) -> Result<(), HypervisorError> {
    let mut rest = wanted;
    while !rest.is_empty() {
        let registers = registers_of(rest)?;
        let count = processor.set_msrs(&registers).map_err(failed("write model-specific registers"))?;
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
