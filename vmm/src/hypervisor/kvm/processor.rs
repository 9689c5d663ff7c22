//! A processor of KVM.

use std::ffi::{c_uint, c_ulong};
use std::io;
use std::sync::Arc;

use kvm_bindings::{
    CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, KVMIO, Msrs, kvm_cpuid_entry2, kvm_msr_entry,
    kvm_pre_fault_memory, kvm_segment,
};
use kvm_ioctls::{Cap, Kvm, VcpuExit, VcpuFd};
use vmm_sys_util::ioctl::{_IOC_READ, _IOC_WRITE, ioctl_expr, ioctl_with_mut_ref};

use super::state;
use crate::arch::x86_64::FeatureLeaf;
use crate::hypervisor::x86_64::X86Processor;
use crate::hypervisor::{Bus, Exit, HypervisorError, Processor, SavedState};

/// CPUID leaf 1, ECX: the local timer has a deadline mode, which KVM reports by a capability instead.
const TSC_DEADLINE: u32 = 1 << 24;
/// The number of this request, which KVM's crate lacks.
const PRE_FAULT_MEMORY: c_ulong =
    ioctl_expr(_IOC_READ | _IOC_WRITE, KVMIO, 0xd5, size_of::<kvm_pre_fault_memory>() as c_uint);

/// A processor of KVM.
pub(super) struct KvmProcessor {
    kvm: Arc<Kvm>,
    processor: VcpuFd,
}

impl KvmProcessor {
    /// Takes over a processor that was just created.
    pub(super) fn new(kvm: Arc<Kvm>, processor: VcpuFd) -> Self {
        Self { kvm, processor }
    }
}

impl X86Processor for KvmProcessor {
    fn host_features(&self) -> Result<Vec<FeatureLeaf>, HypervisorError> {
        let offered = self
            .kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(HypervisorError::of("list its processor features"))?;
        let deadline = self.kvm.check_extension(Cap::TscDeadlineTimer);
        let leaf = |entry: &kvm_cpuid_entry2| FeatureLeaf {
            function: entry.function,
            index: (entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0).then_some(entry.index),
            eax: entry.eax,
            ebx: entry.ebx,
            ecx: entry.ecx | if entry.function == 1 && deadline { TSC_DEADLINE } else { 0 },
            edx: entry.edx,
        };
        Ok(offered.as_slice().iter().map(leaf).collect())
    }

    fn set_features(&mut self, leaves: &[FeatureLeaf]) -> Result<(), HypervisorError> {
        const ACTION: &str = "set the processor's features";
        let entry = |leaf: &FeatureLeaf| kvm_cpuid_entry2 {
            function: leaf.function,
            index: leaf.index.unwrap_or(0),
            flags: if leaf.index.is_some() { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } else { 0 },
            eax: leaf.eax,
            ebx: leaf.ebx,
            ecx: leaf.ecx,
            edx: leaf.edx,
            ..Default::default()
        };
        let entries: Vec<_> = leaves.iter().map(entry).collect();
        let features = CpuId::from_entries(&entries)
            .map_err(|_| HypervisorError { action: ACTION, source: io::ErrorKind::ArgumentListTooLong.into() })?;
        self.processor.set_cpuid2(&features).map_err(HypervisorError::of(ACTION))
    }

    fn set_model_registers(&mut self, registers: &[(u32, u64)]) -> Result<(), HypervisorError> {
        const ACTION: &str = "set the processor's model-specific registers";
        let entries: Vec<_> =
            registers.iter().map(|&(index, data)| kvm_msr_entry { index, data, ..Default::default() }).collect();
        let wanted = Msrs::from_entries(&entries)
            .map_err(|_| HypervisorError { action: ACTION, source: io::ErrorKind::ArgumentListTooLong.into() })?;
        match self.processor.set_msrs(&wanted).map_err(HypervisorError::of(ACTION))? {
            set if set == entries.len() => Ok(()),
            _ => Err(HypervisorError { action: ACTION, source: io::ErrorKind::Unsupported.into() }),
        }
    }

    fn start_protected_mode(&mut self, entry: u32, argument: u32) -> Result<(), HypervisorError> {
        const ACTION: &str = "set the processor's registers";
        let mut system = self.processor.get_sregs().map_err(HypervisorError::of(ACTION))?;
        let flat = kvm_segment { base: 0, limit: u32::MAX, present: 1, s: 1, g: 1, db: 1, ..Default::default() };
        system.cs = kvm_segment { selector: 0x8, type_: 0b1011, ..flat };
        let data = kvm_segment { selector: 0x10, type_: 0b0011, ..flat };
        (system.ds, system.es, system.fs, system.gs, system.ss) = (data, data, data, data, data);
        // A busy 32-bit task state of the smallest size.
        system.tr = kvm_segment { selector: 0x18, limit: 0x67, type_: 0b1011, present: 1, ..Default::default() };
        // Protection on, paging off.
        (system.cr0, system.cr4, system.efer) = (1, 0, 0);
        self.processor.set_sregs(&system).map_err(HypervisorError::of(ACTION))?;
        let mut registers = self.processor.get_regs().map_err(HypervisorError::of(ACTION))?;
        (registers.rip, registers.rbx, registers.rflags) = (entry.into(), argument.into(), 0b10);
        self.processor.set_regs(&registers).map_err(HypervisorError::of(ACTION))
    }
}

impl Processor for KvmProcessor {
    fn map_ahead(&mut self, guest_address: u64, bytes: u64) -> bool {
        let mut range = kvm_pre_fault_memory { gpa: guest_address, size: bytes, ..Default::default() };
        while range.size > 0 {
            // SAFETY: the descriptor is a processor's, and the kernel only advances the range's start. Kernels before
            // 6.11 refuse the call.
            let answer = unsafe { ioctl_with_mut_ref(&self.processor, PRE_FAULT_MEMORY, &mut range) };
            if answer < 0 && !matches!(io::Error::last_os_error().raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) {
                return false;
            }
        }
        true
    }

    fn run(&mut self, bus: &dyn Bus) -> Result<Exit, HypervisorError> {
        let exit = match self.processor.run() {
            Ok(exit) => exit,
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => return Ok(Exit::Interrupted),
            Err(error) => return Err(HypervisorError::of("run the processor")(error)),
        };
        match exit {
            VcpuExit::IoIn(port, data) => bus.read_port(port, data),
            VcpuExit::IoOut(port, data) => bus.write_port(port, data),
            VcpuExit::MmioRead(address, data) => bus.read_device(address, data),
            VcpuExit::MmioWrite(address, data) => bus.write_device(address, data),
            VcpuExit::Intr => return Ok(Exit::Interrupted),
            VcpuExit::Hlt => return Ok(Exit::Halted),
            VcpuExit::Shutdown => return Ok(Exit::Shutdown),
            other => return Ok(Exit::Unexpected(format!("{other:?}"))),
        }
        Ok(Exit::Handled)
    }

    fn settle(&mut self, bus: &dyn Bus) -> Result<(), HypervisorError> {
        // KVM completes an access when the processor is entered again; with this flag it returns right after.
        self.processor.set_kvm_immediate_exit(1);
        let settled = loop {
            match self.run(bus) {
                Ok(Exit::Handled) => {}
                Ok(Exit::Interrupted) => break Ok(()),
                Ok(exit) => {
                    let source = io::Error::other(format!("{exit:?}"));
                    break Err(HypervisorError { action: "settle the processor", source });
                }
                Err(error) => break Err(error),
            }
        };
        self.processor.set_kvm_immediate_exit(0);
        settled
    }

    fn save(&mut self) -> Result<SavedState, HypervisorError> {
        state::save_processor(&self.kvm, &self.processor)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), HypervisorError> {
        state::restore_processor(&self.processor, state)
    }
}
