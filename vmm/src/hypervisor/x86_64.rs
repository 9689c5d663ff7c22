//! What a processor of x86-64 has besides those of every architecture.

use super::{HypervisorError, Processor};
use crate::arch::x86_64::FeatureLeaf;

/// A virtual processor of x86-64.
pub trait X86Processor: Processor {
    /// What the host offers its guests (CPUID), for [`set_features`](Self::set_features).
    fn host_features(&self) -> Result<Vec<FeatureLeaf>, HypervisorError>;
    /// Sets what the guest finds (CPUID).
    fn set_features(&mut self, leaves: &[FeatureLeaf]) -> Result<(), HypervisorError>;
    /// Sets model-specific registers: number and value.
    fn set_model_registers(&mut self, registers: &[(u32, u64)]) -> Result<(), HypervisorError>;
    /// Makes it start at `entry` in flat 32-bit protected mode without paging, with `argument` in EBX (the PVH boot
    /// protocol).
    fn start_protected_mode(&mut self, entry: u32, argument: u32) -> Result<(), HypervisorError>;
}
