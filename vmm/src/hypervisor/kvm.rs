//! KVM: the hypervisor of Linux. Interrupt controllers are the kernel's, so halted processors wait there too.

use std::ffi::{c_uint, c_ulong};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd};
use std::sync::Arc;

use kvm_bindings::{
    CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, KVMIO, Msrs, kvm_cpuid_entry2, kvm_msr_entry,
    kvm_pre_fault_memory, kvm_segment, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VcpuExit, VcpuFd, VmFd};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::ioctl::{_IOC_READ, _IOC_WRITE, ioctl_expr, ioctl_with_mut_ref};

use super::{Bus, Exit, HypervisorError, Processor, SavedState, VirtualMachine, kvm_state};
use crate::arch::x86_64::FeatureLeaf;

/// Three pages Intel's processors want below the end of the first 4 GiB, away from memory and devices.
const TASK_STATE: usize = 0xfffb_d000;
/// One page more of the kind.
const IDENTITY_MAP: u64 = 0xfffb_c000;
/// CPUID leaf 1, ECX: the local timer has a deadline mode. KVM names it by a capability instead.
const TSC_DEADLINE: u32 = 1 << 24;
/// The request's number, which KVM's crate does not have yet.
const PRE_FAULT_MEMORY: c_ulong =
    ioctl_expr(_IOC_READ | _IOC_WRITE, KVMIO, 0xd5, size_of::<kvm_pre_fault_memory>() as c_uint);

/// A machine of KVM's.
#[derive(Debug)]
pub struct KvmMachine {
    kvm: Arc<Kvm>,
    machine: VmFd,
}

pub(super) fn failed(action: &'static str) -> impl Fn(kvm_ioctls::Error) -> HypervisorError {
    move |error| HypervisorError { action, source: io::Error::from_raw_os_error(error.errno()) }
}

impl KvmMachine {
    /// A machine without memory and processors, with interrupt controllers (local ones, and one with 24 lines).
    pub fn new() -> Result<Self, HypervisorError> {
        let kvm = Kvm::new().map_err(failed("open /dev/kvm"))?;
        let machine = kvm.create_vm().map_err(failed("make a virtual machine"))?;
        machine.set_identity_map_address(IDENTITY_MAP).map_err(failed("set the identity map's address"))?;
        machine.set_tss_address(TASK_STATE).map_err(failed("set the task state's address"))?;
        machine.create_irq_chip().map_err(failed("make interrupt controllers"))?;
        Ok(Self { kvm: Arc::new(kvm), machine })
    }
}

/// A copy of the descriptor in the type KVM's crate wants. KVM keeps the event itself: the copy may be closed afterwards.
fn event_of(event: BorrowedFd<'_>, action: &'static str) -> Result<EventFd, HypervisorError> {
    let copy = event.try_clone_to_owned().map_err(|source| HypervisorError { action, source })?;
    // SAFETY: the descriptor is a new one that nothing else owns, and that of an eventfd, as the trait demands.
    Ok(unsafe { EventFd::from_raw_fd(copy.into_raw_fd()) })
}

impl VirtualMachine for KvmMachine {
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
        unsafe { self.machine.set_user_memory_region(region) }.map_err(failed("give the machine memory"))
    }

    fn create_processor(&self, number: u32) -> Result<Box<dyn Processor>, HypervisorError> {
        let processor = self.machine.create_vcpu(number.into()).map_err(failed("make a processor"))?;
        Ok(Box::new(KvmProcessor { kvm: self.kvm.clone(), processor }))
    }

    fn attach_interrupt(&self, event: BorrowedFd<'_>, line: u32) -> Result<(), HypervisorError> {
        const ACTION: &str = "attach an interrupt";
        self.machine.register_irqfd(&event_of(event, ACTION)?, line).map_err(failed(ACTION))
    }

    fn attach_doorbell(&self, event: BorrowedFd<'_>, address: u64, value: u32) -> Result<(), HypervisorError> {
        const ACTION: &str = "attach a doorbell";
        let address = IoEventAddress::Mmio(address);
        self.machine.register_ioevent(&event_of(event, ACTION)?, &address, value).map_err(failed(ACTION))
    }

    fn save(&self) -> Result<SavedState, HypervisorError> {
        kvm_state::save_machine(&self.machine)
    }

    fn restore(&self, state: &SavedState) -> Result<(), HypervisorError> {
        kvm_state::restore_machine(&self.machine, state)
    }
}

struct KvmProcessor {
    kvm: Arc<Kvm>,
    processor: VcpuFd,
}

impl Processor for KvmProcessor {
    fn host_features(&self) -> Result<Vec<FeatureLeaf>, HypervisorError> {
        let offered =
            self.kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(failed("name its processor's features"))?;
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
        self.processor.set_cpuid2(&features).map_err(failed(ACTION))
    }

    fn set_model_registers(&mut self, registers: &[(u32, u64)]) -> Result<(), HypervisorError> {
        const ACTION: &str = "set the processor's model-specific registers";
        let entries: Vec<_> =
            registers.iter().map(|&(index, data)| kvm_msr_entry { index, data, ..Default::default() }).collect();
        let wanted = Msrs::from_entries(&entries)
            .map_err(|_| HypervisorError { action: ACTION, source: io::ErrorKind::ArgumentListTooLong.into() })?;
        match self.processor.set_msrs(&wanted).map_err(failed(ACTION))? {
            set if set == entries.len() => Ok(()),
            _ => Err(HypervisorError { action: ACTION, source: io::ErrorKind::Unsupported.into() }),
        }
    }

    fn start_protected_mode(&mut self, entry: u32, argument: u32) -> Result<(), HypervisorError> {
        const ACTION: &str = "set the processor's registers";
        let mut system = self.processor.get_sregs().map_err(failed(ACTION))?;
        let flat = kvm_segment { base: 0, limit: u32::MAX, present: 1, s: 1, g: 1, db: 1, ..Default::default() };
        system.cs = kvm_segment { selector: 0x8, type_: 0b1011, ..flat };
        let data = kvm_segment { selector: 0x10, type_: 0b0011, ..flat };
        (system.ds, system.es, system.fs, system.gs, system.ss) = (data, data, data, data, data);
        // A busy 32-bit task state of the smallest size.
        system.tr = kvm_segment { selector: 0x18, limit: 0x67, type_: 0b1011, present: 1, ..Default::default() };
        // Protection on, paging off.
        (system.cr0, system.cr4, system.efer) = (1, 0, 0);
        self.processor.set_sregs(&system).map_err(failed(ACTION))?;
        let mut registers = self.processor.get_regs().map_err(failed(ACTION))?;
        (registers.rip, registers.rbx, registers.rflags) = (entry.into(), argument.into(), 0b10);
        self.processor.set_regs(&registers).map_err(failed(ACTION))
    }

    fn map_ahead(&mut self, guest_address: u64, bytes: u64) -> bool {
        let mut range = kvm_pre_fault_memory { gpa: guest_address, size: bytes, ..Default::default() };
        while range.size > 0 {
            // SAFETY: the descriptor is a processor's, and the kernel only moves the range's start on. Kernels before 6.11 do not know
            // the call and say so.
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
            Err(error) => return Err(failed("run the processor")(error)),
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
        // KVM finishes an access when the processor is entered again, and with this set it leaves right after.
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
        kvm_state::save_processor(&self.kvm, &self.processor)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), HypervisorError> {
        kvm_state::restore_processor(&self.processor, state)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

    use super::*;

    #[derive(Default)]
    struct Recorder(RefCell<Vec<(u64, Vec<u8>)>>);

    impl Bus for Recorder {
        fn read_port(&self, _port: u16, data: &mut [u8]) {
            data.fill(0x5a);
        }
        fn write_port(&self, port: u16, data: &[u8]) {
            self.0.borrow_mut().push((port.into(), data.to_vec()));
        }
        fn read_device(&self, _address: u64, data: &mut [u8]) {
            data.fill(0);
        }
        fn write_device(&self, address: u64, data: &[u8]) {
            self.0.borrow_mut().push((address, data.to_vec()));
        }
    }

    /// A guest of a few instructions. Where /dev/kvm does not open there is nothing to test.
    #[test]
    fn a_guest_in_protected_mode_reaches_ports_device_memory_and_doorbells() {
        let Ok(machine) = KvmMachine::new() else { return };
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
        // in al, 0x40; out 0x41, al; mov [0xd0000050], ebx; mov dword [0xd0000050], 7; out 0x42, al
        let mut code = vec![0xe4, 0x40, 0xe6, 0x41, 0x89, 0x1d];
        code.extend_from_slice(&0xd000_0050u32.to_le_bytes());
        code.extend_from_slice(&[0xc7, 0x05]);
        code.extend_from_slice(&0xd000_0050u32.to_le_bytes());
        code.extend_from_slice(&7u32.to_le_bytes());
        code.extend_from_slice(&[0xe6, 0x42]);
        memory.write_slice(&code, GuestAddress(0x1000)).unwrap();
        let host = memory.get_host_address(GuestAddress(0)).unwrap();
        // SAFETY: the mapping has this length and is dropped after the machine, which is moved into this block's end.
        unsafe { machine.map_memory(0, 0, host, 0x1_0000) }.unwrap();
        let doorbell = EventFd::new(libc::EFD_NONBLOCK).unwrap();
        // SAFETY: the event outlives the borrow.
        let borrowed = unsafe { BorrowedFd::borrow_raw(std::os::fd::AsRawFd::as_raw_fd(&doorbell)) };
        machine.attach_doorbell(borrowed, 0xd000_0050, 7).unwrap();
        let mut processor = machine.create_processor(0).unwrap();
        processor.start_protected_mode(0x1000, 9).unwrap();
        let bus = Recorder::default();
        for _ in 0..20 {
            if bus.0.borrow().iter().any(|(at, _)| *at == 0x42) {
                break;
            }
            assert!(matches!(processor.run(&bus).unwrap(), Exit::Handled | Exit::Interrupted));
        }
        drop(processor);
        drop(machine);
        let seen = bus.0.into_inner();
        assert_eq!(seen, [(0x41, vec![0x5a]), (0xd000_0050, vec![9, 0, 0, 0]), (0x42, vec![0x5a])]);
        assert_eq!(doorbell.read().unwrap(), 1);
    }
}
