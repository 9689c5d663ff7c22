//! The seam between a machine and what runs its processors: the traits a hypervisor implements, one folder each.
//!
//! One thread runs one processor. The processor returns to that thread for what it cannot do itself; meanwhile its
//! accesses to ports and device memory go to a [`Bus`]. What a processor of one architecture has besides is a trait of
//! its own, such as [`x86_64::X86Processor`].

mod error;
#[cfg(target_arch = "x86_64")]
pub mod kvm;
#[cfg(target_arch = "x86_64")]
pub mod x86_64;

use std::os::fd::BorrowedFd;

pub use self::error::HypervisorError;

/// What answers a processor's accesses outside of memory. An access is 1, 2, 4 or 8 bytes wide, or several accesses of
/// a string instruction.
pub trait Bus {
    /// Fills `data` from an I/O port.
    fn read_port(&self, port: u16, data: &mut [u8]);
    /// Takes a write to an I/O port.
    fn write_port(&self, port: u16, data: &[u8]);
    /// Fills `data` from a physical address outside of memory.
    fn read_device(&self, address: u64, data: &mut [u8]);
    /// Takes a write to a physical address outside of memory.
    fn write_device(&self, address: u64, data: &[u8]);
}

/// Why a processor returned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Exit {
    /// The bus answered an access; the processor can run on.
    Handled,
    /// A signal came.
    Interrupted,
    /// The processor halted, and no interrupt controller in the kernel will wake it.
    Halted,
    /// A triple fault: the processor shut down.
    Shutdown,
    /// An exit that no guest of ours causes, described for the log.
    Unexpected(String),
}

/// A virtual machine: memory, interrupts, doorbells.
pub trait VirtualMachine: Send + Sync {
    /// Its processors, with what their architecture adds.
    type Processor: Processor + ?Sized;

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
    /// Creates the processor with this number, from 0.
    fn create_processor(&self, number: u32) -> Result<Box<Self::Processor>, HypervisorError>;
    /// From now on a write to the eventfd interrupts the guest on line `line` of its interrupt controller.
    fn attach_interrupt(&self, event: BorrowedFd<'_>, line: u32) -> Result<(), HypervisorError>;
    /// From now on a write of the 32-bit `value` to `address` by the guest raises the eventfd, without returning to the
    /// processor's thread.
    fn attach_doorbell(&self, event: BorrowedFd<'_>, address: u64, value: u32) -> Result<(), HypervisorError>;
    /// Interrupt controllers and clock, for [`restore`](Self::restore). No processor may run.
    fn save(&self) -> Result<SavedState, HypervisorError>;
    /// Restores what [`save`](Self::save) returned, perhaps in another process: the last step before processors run.
    fn restore(&self, state: &SavedState) -> Result<(), HypervisorError>;
}

/// State of a machine or a processor between a save and a restore, as JSON. Only the same kind of hypervisor reads it.
pub type SavedState = serde_json::Value;

/// One virtual processor. Number 0 starts at once; the others wait until it wakes them.
pub trait Processor: Send {
    /// Maps `bytes` of memory at `guest_address`, both whole pages, before the guest asks: each page it finds unmapped
    /// stops it once. False where the system cannot; the guest runs the same, later.
    fn map_ahead(&mut self, guest_address: u64, bytes: u64) -> bool;
    /// Runs until the processor returns for one reason.
    fn run(&mut self, bus: &dyn Bus) -> Result<Exit, HypervisorError>;
    /// Completes the access of the last return without running further, so that the processor can be saved.
    fn settle(&mut self, bus: &dyn Bus) -> Result<(), HypervisorError>;
    /// Registers and local interrupt controller, for [`restore`](Self::restore). The processor must be settled.
    fn save(&mut self) -> Result<SavedState, HypervisorError>;
    /// Restores what [`save`](Self::save) returned, in a processor that has its features and never ran.
    fn restore(&mut self, state: &SavedState) -> Result<(), HypervisorError>;
}
