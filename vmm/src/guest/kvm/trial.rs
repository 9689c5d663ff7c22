//! The trial itself: a machine of 64 KiB that runs 64-bit code in ring 0 without interrupts.
//!
//! The code writes the number of each completed step to a port. It has no interrupt table, so an instruction that the
//! processor refuses shuts the machine down, and the last number identifies it.

use std::arch::{asm, global_asm, is_x86_feature_detected};
use std::fmt::Display;
use std::io;
use std::time::{Duration, Instant};

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use rorqual_vmm_protocol::Finding;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

const MEMORY_BYTES: usize = 0x1_0000;
const PAGE_MAP: u64 = 0x1000;
const PAGE_POINTERS: u64 = 0x2000;
const PAGE_DIRECTORY: u64 = 0x3000;
const CODE: u64 = 0x4000;
const STACK_TOP: u64 = 0x8000;
/// Three pages that Intel's processors need, away from the trial's memory.
const TASK_STATE: usize = 0xfffb_d000;

/// Turns of the loop whose time is measured.
const TURNS: u32 = 20_000;
/// Factor by which the loop may be slower than natively.
const MAX_SLOWDOWN: u32 = 100;
/// A loop that takes less than this is slow because the host is busy, not because of KVM.
const LOOP_NOISE: Duration = Duration::from_millis(10);

const STEP_STARTED: u8 = 1;
const STEP_LOOP: u8 = 2;
const STEP_BMI2: u8 = 3;
const STEP_XSAVE: u8 = 4;
const STEP_DONE: u8 = 5;
const STEP_WRONG: u8 = 0xee;

// Position independent. r8 and r9 hold whether the host's processor has BMI2 and XSAVE, which are tried only then.
// XSAVE's area is at 0x9000, the 16 bytes exchanged at 0xb000.
global_asm!(
    ".pushsection .rodata.rorqual_kvm_trial, \"a\"",
    "rorqual_kvm_trial_start:",
    "mov al, {started}",
    "out 0x10, al",
    "mov ecx, {turns}",
    "2: dec ecx",
    "jnz 2b",
    "mov al, {turned}",
    "out 0x10, al",
    "test r8, r8",
    "jz 3f",
    "mov eax, 0x12345678",
    "mov edx, 0xf0f0f0f0",
    "pext eax, eax, edx",
    "cmp eax, 0x1357",
    "jne 4f",
    "3: mov al, {bmi2}",
    "out 0x10, al",
    "test r9, r9",
    "jz 5f",
    "mov rax, cr4",
    "or rax, 0x40000",
    "mov cr4, rax",
    "xor ecx, ecx",
    "xgetbv",
    "mov edi, 0x9000",
    "xsave [rdi]",
    "xrstor [rdi]",
    "5: mov al, {xsave}",
    "out 0x10, al",
    "mov esi, 0xb000",
    "xor eax, eax",
    "xor edx, edx",
    "mov ebx, 1",
    "mov ecx, 2",
    "lock cmpxchg16b [rsi]",
    "jne 4f",
    "cmp qword ptr [rsi + 8], 2",
    "jne 4f",
    "mov al, {done}",
    "out 0x10, al",
    "hlt",
    "4: mov al, {wrong}",
    "out 0x10, al",
    "hlt",
    "rorqual_kvm_trial_end:",
    ".popsection",
    started = const STEP_STARTED,
    turns = const TURNS,
    turned = const STEP_LOOP,
    bmi2 = const STEP_BMI2,
    xsave = const STEP_XSAVE,
    done = const STEP_DONE,
    wrong = const STEP_WRONG,
);

unsafe extern "C" {
    static rorqual_kvm_trial_start: u8;
    static rorqual_kvm_trial_end: u8;
}

/// Tries KVM. Returns how it was seen to work, or the finding that it does not.
pub(super) fn run() -> Result<String, Finding> {
    let kvm = Kvm::new().map_err(|error| cannot_open(&io::Error::from(error)))?;
    let version = kvm.get_api_version();
    if version != 12 {
        return Err(Finding::unusable(format!("/dev/kvm has version {version} of its interface instead of 12")));
    }
    let native = native_loop();
    let taken = run_guest(&kvm, native)?;
    Ok(format!("guest code ran at full speed ({TURNS} turns of a loop in {} µs)", taken.as_micros()))
}

/// Refuses a loop that took too long compared with the same on the host's own processor.
fn judge(taken: Duration, native: Duration) -> Result<(), Finding> {
    if taken <= (native * MAX_SLOWDOWN).max(LOOP_NOISE) {
        return Ok(());
    }
    let times = taken.as_nanos() / native.as_nanos().max(1);
    let reason = format!(
        "/dev/kvm opens, but guest code runs {times} times slower than natively (it is interpreted, not virtualized)"
    );
    Err(Finding::unusable(reason)
        .with_fix("turn on nested virtualization for this computer if it is itself a virtual machine"))
}

fn cannot_open(error: &io::Error) -> Finding {
    match error.kind() {
        io::ErrorKind::NotFound => Finding::unusable("/dev/kvm does not exist")
            .with_fix("turn on virtualization in the firmware, and load the module kvm_intel or kvm_amd"),
        io::ErrorKind::PermissionDenied => Finding::unusable("this user has no permission to open /dev/kvm")
            .with_fix("add the user to the group kvm and log in again"),
        _ => Finding::unusable(format!("/dev/kvm cannot be opened: {error}")),
    }
}

/// Time of the loop on the host's own processor: the best of a few.
fn native_loop() -> Duration {
    let once = || {
        let begun = Instant::now();
        // SAFETY: counts a register down and touches nothing else.
        unsafe { asm!("2: dec {0:e}", "jnz 2b", inout(reg) TURNS => _, options(nomem, nostack)) };
        begun.elapsed()
    };
    (0..5).map(|_| once()).min().unwrap_or(LOOP_NOISE)
}

fn code() -> &'static [u8] {
    let (start, end) = (&raw const rorqual_kvm_trial_start, &raw const rorqual_kvm_trial_end);
    // SAFETY: both labels are in one read-only section of this program, the first before the second.
    unsafe { std::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
}

/// Runs the code; returns the time of its loop.
fn run_guest(kvm: &Kvm, native: Duration) -> Result<Duration, Finding> {
    let failed = |action: &'static str| {
        move |error: kvm_ioctls::Error| Finding::unusable(format!("KVM refused to {action}: {error}"))
    };
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)])
        .map_err(|error| Finding::unusable(format!("cannot allocate memory for the trial: {error}")))?;
    fill(&memory).map_err(|error| Finding::unusable(format!("cannot fill the trial's memory: {error}")))?;
    let vm = kvm.create_vm().map_err(failed("create a virtual machine"))?;
    vm.set_tss_address(TASK_STATE).map_err(failed("set the task state address"))?;
    let host = memory.get_host_address(GuestAddress(0)).map_err(|error| Finding::unusable(error.to_string()))?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: MEMORY_BYTES as u64,
        userspace_addr: host as u64,
    };
    // SAFETY: the mapping has this address and length and outlives the machine: it is declared before it.
    unsafe { vm.set_user_memory_region(region) }.map_err(failed("map the machine's memory"))?;
    let mut processor = vm.create_vcpu(0).map_err(failed("create a processor"))?;
    let features = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(failed("list its processor features"))?;
    processor.set_cpuid2(&features).map_err(failed("set the processor's features"))?;
    enter_long_mode(&processor).map_err(failed("set the processor's registers"))?;
    follow(&mut processor, native)
}

fn fill(memory: &GuestMemoryMmap<()>) -> Result<(), vm_memory::GuestMemoryError> {
    // Entries are present and writable; the last one is also a page of 2 MiB, at address 0.
    memory.write_obj(PAGE_POINTERS | 0b11, GuestAddress(PAGE_MAP))?;
    memory.write_obj(PAGE_DIRECTORY | 0b11, GuestAddress(PAGE_POINTERS))?;
    memory.write_obj(0b1000_0011u64, GuestAddress(PAGE_DIRECTORY))?;
    memory.write_slice(code(), GuestAddress(CODE))
}

fn enter_long_mode(processor: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let mut system = processor.get_sregs()?;
    let flat = kvm_segment { base: 0, limit: u32::MAX, present: 1, s: 1, g: 1, ..Default::default() };
    system.cs = kvm_segment { selector: 0x8, type_: 0b1011, l: 1, ..flat };
    let data = kvm_segment { selector: 0x10, type_: 0b0011, db: 1, ..flat };
    (system.ds, system.es, system.fs, system.gs, system.ss) = (data, data, data, data, data);
    // Protection, native floating point and paging; physical address extension and XMM state; long mode, enabled and
    // active.
    system.cr0 = 1 << 0 | 1 << 1 | 1 << 5 | 1 << 31;
    system.cr3 = PAGE_MAP;
    system.cr4 = 1 << 5 | 1 << 9;
    system.efer = 1 << 8 | 1 << 10;
    processor.set_sregs(&system)?;
    let mut registers = processor.get_regs()?;
    (registers.rip, registers.rsp, registers.rflags) = (CODE, STACK_TOP, 0b10);
    registers.r8 = u64::from(is_x86_feature_detected!("bmi2"));
    registers.r9 = u64::from(is_x86_feature_detected!("xsave"));
    processor.set_regs(&registers)
}

/// Runs the processor and follows its steps; returns the time of its loop.
fn follow(processor: &mut VcpuFd, native: Duration) -> Result<Duration, Finding> {
    let (mut reached, mut started, mut taken) = (0, Instant::now(), Duration::ZERO);
    loop {
        let exit = match processor.run() {
            Err(error) if error.errno() == libc::EINTR => continue,
            Err(error) => return Err(stopped(&error, reached)),
            Ok(exit) => exit,
        };
        match exit {
            VcpuExit::IoOut(_, [STEP_WRONG, ..]) => {
                return Err(Finding::unusable(format!("guest code computed a wrong result {}", after(reached))));
            }
            VcpuExit::IoOut(_, [step, ..]) => {
                reached = *step;
                match reached {
                    STEP_STARTED => started = Instant::now(),
                    STEP_LOOP => {
                        taken = started.elapsed();
                        judge(taken, native)?;
                    }
                    _ => {}
                }
            }
            VcpuExit::Hlt if reached == STEP_DONE => return Ok(taken),
            other => return Err(stopped(&format!("{other:?}"), reached)),
        }
    }
}

fn stopped(how: &dyn Display, reached: u8) -> Finding {
    Finding::unusable(format!("guest code does not run: {how} {}", after(reached)))
}

/// Where the guest was, in words.
fn after(reached: u8) -> &'static str {
    match reached {
        0 => "at its first instruction",
        STEP_STARTED => "in a loop",
        STEP_LOOP => "at an instruction of BMI2",
        STEP_BMI2 => "at XSAVE",
        STEP_XSAVE => "at CMPXCHG16B",
        _ => "at its end",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreted_loop_is_refused_and_a_busy_host_is_not() {
        let native = Duration::from_micros(40);
        assert!(judge(Duration::from_millis(200), native).unwrap_err().reason.contains("5000 times slower"));
        assert!(judge(Duration::from_millis(9), native).is_ok());
        assert!(judge(Duration::from_micros(60), native).is_ok());
    }

    #[test]
    fn the_code_fits_below_the_stack() {
        assert!(!code().is_empty() && CODE + (code().len() as u64) < STACK_TOP - 0x1000);
    }
}
