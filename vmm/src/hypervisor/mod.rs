//! The seam between a machine and what runs its processors. One implementation per system; [`kvm`] on Linux.
//!
//! A processor is run by one thread. It returns to that thread for what it cannot do itself; accesses to ports and
//! device memory go to a [`Bus`] meanwhile.

#[cfg(target_arch = "x86_64")]
pub mod kvm;
#[cfg(target_arch = "x86_64")]
mod kvm_state;

use std::io;
use std::os::fd::BorrowedFd;

use thiserror::Error;

/// The hypervisor refused.
#[derive(Debug, Error)]
#[error("the hypervisor refused to {action}: {source}")]
pub struct HypervisorError {
    /// What was being done.
    pub action: &'static str,
    /// The system's answer.
    pub source: io::Error,
}

/// What answers a processor's accesses outside of memory. Widths are 1, 2, 4 or 8 bytes, or several accesses of
/// a string instruction.
pub trait Bus {
    /// Fills `data` from an I/O port.
    fn read_port(&self, port: u16, data: &mut [u8]);
    /// Takes a write to an I/O port.
    fn write_port(&self, port: u16, data: &[u8]);
    /// Fills `data` from a physical address that is no memory.
    fn read_device(&self, address: u64, data: &mut [u8]);
    /// Takes a write to a physical address that is no memory.
    fn write_device(&self, address: u64, data: &[u8]);
}

/// Why a processor returned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Exit {
    /// An access was answered; it can run on.
    Handled,
    /// A signal came.
    Interrupted,
    /// It halted, and no interrupt controller in the kernel will wake it.
    Halted,
    /// A fault within a fault within a fault: the processor shut down.
    Shutdown,
    /// Something no guest of ours does.
    Unexpected(String),
}

/// A virtual machine: memory, interrupts, doorbells.
pub trait VirtualMachine: Send + Sync {
    /// Puts `bytes` of this process's memory at `guest_address`. Each `slot` is used once.
    ///
    /// # Safety
    /// The mapping at `host` must be that long, readable and writable, and must outlive the machine.
    unsafe fn map_memory(
        &self,
        slot: u32,
        guest_address: u64,
        host: *mut u8,
        bytes: u64,
    ) -> Result<(), HypervisorError>;
    /// Makes the processor with this number, from 0.
    fn create_processor(&self, number: u32) -> Result<Box<dyn Processor>, HypervisorError>;
    /// From now on a write to the eventfd interrupts the guest on line `line` of its interrupt controller.
    fn attach_interrupt(&self, event: BorrowedFd<'_>, line: u32) -> Result<(), HypervisorError>;
    /// From now on the guest's write of the 32-bit `value` to `address` raises the eventfd, and does not return to the processor's thread.
    fn attach_doorbell(&self, event: BorrowedFd<'_>, address: u64, value: u32) -> Result<(), HypervisorError>;
    /// Interrupt controllers and clock, for [`restore`](Self::restore). No processor may run.
    fn save(&self) -> Result<SavedState, HypervisorError>;
    /// Takes over what [`save`](Self::save) gave, perhaps in another process; the last thing before processors run.
    fn restore(&self, state: &SavedState) -> Result<(), HypervisorError>;
}

/// State of a machine or a processor between a save and a restore: read by the same kind of hypervisor only, kept as JSON.
pub type SavedState = serde_json::Value;

/// One virtual processor. Number 0 starts at once; the others wait for it to wake them.
pub trait Processor: Send {
    /// What the host offers its guests (CPUID), for [`set_features`](Self::set_features).
    #[cfg(target_arch = "x86_64")]
    fn host_features(&self) -> Result<Vec<crate::arch::x86_64::FeatureLeaf>, HypervisorError>;
    /// What the guest finds (CPUID).
    #[cfg(target_arch = "x86_64")]
    fn set_features(&mut self, leaves: &[crate::arch::x86_64::FeatureLeaf]) -> Result<(), HypervisorError>;
    /// Sets model-specific registers: number and value.
    #[cfg(target_arch = "x86_64")]
    fn set_model_registers(&mut self, registers: &[(u32, u64)]) -> Result<(), HypervisorError>;
    /// Makes it start at `entry` in flat 32-bit protected mode without paging, with `argument` in EBX (the PVH boot protocol).
    #[cfg(target_arch = "x86_64")]
    fn start_protected_mode(&mut self, entry: u32, argument: u32) -> Result<(), HypervisorError>;
    /// Maps `bytes` of memory at `guest_address`, both whole pages, before the guest asks: each page it finds unmapped stops it once.
    /// `false` where the system cannot; the guest runs the same, later.
    fn map_ahead(&mut self, guest_address: u64, bytes: u64) -> bool;
    /// Runs it until it returns for one reason.
    fn run(&mut self, bus: &dyn Bus) -> Result<Exit, HypervisorError>;
    /// Brings the access of its last return to its end without running further, so that it can be saved.
    fn settle(&mut self, bus: &dyn Bus) -> Result<(), HypervisorError>;
    /// Its registers and local interrupt controller, for [`restore`](Self::restore). It must be settled.
    fn save(&mut self) -> Result<SavedState, HypervisorError>;
    /// Takes over what [`save`](Self::save) gave, in a processor that has its features and never ran.
    fn restore(&mut self, state: &SavedState) -> Result<(), HypervisorError>;
}
