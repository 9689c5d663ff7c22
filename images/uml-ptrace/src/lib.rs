//! `ptrace` for the User Mode Linux kernel, found before the C library's.
//!
//! Linux 6.12 as User Mode Linux keeps the extended registers of its processes in 2,696 bytes, enough up to AVX-512 and
//! protection keys. A processor with more (AMX: 11,008 bytes) makes the host accept registers only as the whole larger
//! state: `xstateregs_set` of the host's kernel returns `EFAULT` for anything else, and the guest's first process dies.
//! This library therefore completes the state. The components unknown to the kernel are in their initial state, which
//! is also their state in its processes: the host enables them only on request (`arch_prctl` with
//! `ARCH_REQ_XCOMP_PERM`), and the guest cannot request them.
//!
//! Everything else passes as it is. The layout is that of XSAVE's standard form: Intel's manual, volume 1, §13.4.
#![no_std]

use core::{
    arch::asm,
    ffi::{c_int, c_long, c_void},
};

const SYS_PTRACE: c_long = 101;
const PTRACE_PEEKTEXT: c_long = 1;
const PTRACE_PEEKUSR: c_long = 3;
const PTRACE_GETREGSET: c_long = 0x4204;
const PTRACE_SETREGSET: c_long = 0x4205;
const NT_X86_XSTATE: c_long = 0x202;
const EFAULT: c_long = 14;
/// Bytes; the largest state of today's hosts is a sixth of this.
const LARGEST: usize = 64 << 10;
/// Offset of the header, whose first 64 bits flag the components that are not in their initial state.
const HEADER: usize = 512;
/// Components up to protection keys (bit 9), all of which the kernel keeps.
const KNOWN: u64 = (1 << 10) - 1;

#[repr(C)]
struct IoVector {
    base: *mut u8,
    length: usize,
}

#[repr(C, align(64))]
struct Buffer([u8; LARGEST]);

/// The state in the form the host accepts. Components unknown to the kernel stay zero.
static mut WHOLE: Buffer = Buffer([0; LARGEST]);
/// Bytes of it that the host requires; 0 while it accepts the kernel's own state.
static mut LENGTH: usize = 0;

unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
}

/// Makes the system call; returns its result, or a negative error number.
///
/// # Safety
///
/// As for `ptrace` (2): `data` must point to what `request` expects.
unsafe fn system_call(request: c_long, process: c_long, address: c_long, data: *mut c_void) -> c_long {
    let result: c_long;
    // SAFETY: the system call touches no memory of this process but what the caller vouches for.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") SYS_PTRACE => result,
            in("rdi") request, in("rsi") process, in("rdx") address, in("r10") data,
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    result
}

/// `ptrace` (2), with the C library's interface.
///
/// # Safety
///
/// As for the C library's. Only one thread at a time sets registers: Linux 6.12 as User Mode Linux has one processor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ptrace(request: c_long, process: c_long, address: c_long, data: *mut c_void) -> c_long {
    let mut word: c_long = 0;
    let peeks = (PTRACE_PEEKTEXT..=PTRACE_PEEKUSR).contains(&request);
    // The system call writes the word it peeks at to memory; the function returns it.
    let data = if peeks { (&raw mut word).cast() } else { data };
    let sets = request == PTRACE_SETREGSET && address == NT_X86_XSTATE;
    // SAFETY: one thread at a time sets registers, by the caller's promise.
    let known = sets && unsafe { LENGTH } > 0;
    // The host would refuse again, and this runs at each switch to a process of the guest.
    // SAFETY: the caller's promise, and `word` lives.
    let mut result = if known { -EFAULT } else { unsafe { system_call(request, process, address, data) } };
    if result == -EFAULT && sets {
        // SAFETY: for this request data is an I/O vector, by the caller's promise.
        let part = unsafe { &*data.cast::<IoVector>() };
        // SAFETY: the caller's promise, and that of one thread at a time.
        result = unsafe { set_whole(process, part) };
    }
    if result < 0 {
        // SAFETY: the C library gives each thread a place that lives as long as it.
        unsafe { *__errno_location() = -result as c_int };
        return -1;
    }
    if peeks {
        // SAFETY: as above. -1 may be the word: who peeks looks here.
        unsafe { *__errno_location() = 0 };
        return word;
    }
    result
}

/// Sets the extended registers of `process` to `part`, all others to their initial state.
///
/// # Safety
///
/// `part` must point to as many bytes as it states, and no other thread may be in this function.
unsafe fn set_whole(process: c_long, part: &IoVector) -> c_long {
    let whole = (&raw mut WHOLE).cast::<u8>();
    let mut vector = IoVector { base: whole, length: LARGEST };
    // SAFETY: no other thread is here.
    if unsafe { LENGTH } == 0 {
        // The host fills as much of a large enough buffer as the state needs, which yields its size.
        // SAFETY: the buffer is as large as the vector states, and this thread's.
        let got = unsafe { system_call(PTRACE_GETREGSET, process, NT_X86_XSTATE, (&raw mut vector).cast()) };
        if got < 0 {
            return got;
        }
        // SAFETY: as above.
        unsafe {
            clear(whole, LARGEST);
            LENGTH = vector.length;
        }
    }
    // SAFETY: no other thread is here.
    vector.length = unsafe { LENGTH };
    if part.length < HEADER + 8 || part.length >= vector.length {
        return -EFAULT;
    }
    // SAFETY: both are as long as is copied, by the caller's promise and the comparison above, and do not overlap.
    unsafe {
        copy(part.base, whole, part.length);
        let header = whole.add(HEADER).cast::<[u8; 8]>();
        *header = (u64::from_ne_bytes(*header) & KNOWN).to_ne_bytes();
    }
    // SAFETY: as above.
    unsafe { system_call(PTRACE_SETREGSET, process, NT_X86_XSTATE, (&raw mut vector).cast()) }
}

// The C library's own memcpy and memset are chosen by the processor when it is loaded, which is after this library:
// neither may be called from here, not even by the compiler.

/// # Safety
///
/// Both must be as long as `length`, and not overlap.
unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: the caller's promise; the direction flag is clear by the calling convention.
    unsafe {
        asm!(
            "rep movsb",
            inout("rsi") from => _,
            inout("rdi") to => _,
            inout("rcx") length => _,
            options(nostack, preserves_flags)
        );
    };
}

/// # Safety
///
/// `to` must be as long as `length`.
unsafe fn clear(to: *mut u8, length: usize) {
    // SAFETY: as above.
    unsafe {
        asm!(
            "rep stosb",
            in("al") 0u8,
            inout("rdi") to => _,
            inout("rcx") length => _,
            options(nostack, preserves_flags)
        );
    };
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
