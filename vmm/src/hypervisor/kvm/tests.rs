//! A machine of KVM runs a few instructions.

use std::cell::RefCell;
use std::os::fd::BorrowedFd;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use super::KvmMachine;
use crate::hypervisor::{Bus, Exit, VirtualMachine};

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

/// A guest of a few instructions. Does nothing where /dev/kvm does not open.
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
