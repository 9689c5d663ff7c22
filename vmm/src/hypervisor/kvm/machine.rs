//! A virtual machine of KVM.

use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd};
use std::sync::Arc;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{IoEventAddress, Kvm, VmFd};
use vmm_sys_util::eventfd::EventFd;

use super::processor::KvmProcessor;
use super::state;
use crate::hypervisor::x86_64::X86Processor;
use crate::hypervisor::{HypervisorError, SavedState, VirtualMachine};

/// Three pages that Intel's processors need below 4 GiB, away from memory and devices.
const TASK_STATE: usize = 0xfffb_d000;
/// One more such page.
const IDENTITY_MAP: u64 = 0xfffb_c000;

/// A virtual machine of KVM.
#[derive(Debug)]
pub struct KvmMachine {
    kvm: Arc<Kvm>,
    machine: VmFd,
}

impl KvmMachine {
    /// Creates a machine with interrupt controllers (local ones, and one with 24 lines), without memory and processors.
    pub fn new() -> Result<Self, HypervisorError> {
        let kvm = Kvm::new().map_err(HypervisorError::of("open /dev/kvm"))?;
        let machine = kvm.create_vm().map_err(HypervisorError::of("create a virtual machine"))?;
        machine
            .set_identity_map_address(IDENTITY_MAP)
            .map_err(HypervisorError::of("set the identity map's address"))?;
        machine.set_tss_address(TASK_STATE).map_err(HypervisorError::of("set the task state's address"))?;
        machine.create_irq_chip().map_err(HypervisorError::of("create interrupt controllers"))?;
        Ok(Self { kvm: Arc::new(kvm), machine })
    }
}

/// A copy of the descriptor in the type of KVM's crate. KVM keeps the event itself, so the copy may be closed
/// afterwards.
fn event_of(event: BorrowedFd<'_>, action: &'static str) -> Result<EventFd, HypervisorError> {
    let copy = event.try_clone_to_owned().map_err(|source| HypervisorError { action, source })?;
    // SAFETY: the descriptor is a new one that nothing else owns, and that of an eventfd, as the trait demands.
    Ok(unsafe { EventFd::from_raw_fd(copy.into_raw_fd()) })
}

impl VirtualMachine for KvmMachine {
    type Processor = dyn X86Processor;

    unsafe fn map_memory(
        &self,
        slot: u32,
        guest_address: u64,
        host: *mut u8,
        bytes: u64,
    ) -> Result<(), HypervisorError> {
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: guest_address,
            memory_size: bytes,
            userspace_addr: host as u64,
        };
        // SAFETY: the caller keeps a mapping of this address and length alive for as long as the machine lives.
        unsafe { self.machine.set_user_memory_region(region) }.map_err(HypervisorError::of("map the machine's memory"))
    }

    fn create_processor(&self, number: u32) -> Result<Box<dyn X86Processor>, HypervisorError> {
        let processor = self.machine.create_vcpu(number.into()).map_err(HypervisorError::of("create a processor"))?;
        Ok(Box::new(KvmProcessor::new(self.kvm.clone(), processor)))
    }

    fn attach_interrupt(&self, event: BorrowedFd<'_>, line: u32) -> Result<(), HypervisorError> {
        const ACTION: &str = "attach an interrupt";
        self.machine.register_irqfd(&event_of(event, ACTION)?, line).map_err(HypervisorError::of(ACTION))
    }

    fn attach_doorbell(&self, event: BorrowedFd<'_>, address: u64, value: u32) -> Result<(), HypervisorError> {
        const ACTION: &str = "attach a doorbell";
        let address = IoEventAddress::Mmio(address);
        self.machine.register_ioevent(&event_of(event, ACTION)?, &address, value).map_err(HypervisorError::of(ACTION))
    }

    fn save(&self) -> Result<SavedState, HypervisorError> {
        state::save_machine(&self.machine)
    }

    fn restore(&self, state: &SavedState) -> Result<(), HypervisorError> {
        state::restore_machine(&self.machine, state)
    }
}
