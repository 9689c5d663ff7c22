//! What dockerd finds as `iptables` and `ip6tables`.
//!
//! dockerd starts some seventy of these before it answers, and a dozen for each published port. Under User Mode Linux
//! the real program costs 50 ms a start, nearly all of it page faults of the loader, the C library and the extensions. This one
//! touches a handful of pages (1.5 ms): it hands its arguments to the agent, which keeps one `iptables-restore` running, and
//! exits as the agent says. What the agent does not take on, or when it does not answer, the real program does.
//!
//! Wire format on `/run/rorqual/iptables.sock`: the arguments, each ended by a zero byte, the program's name first, then end of
//! file. The answer is one byte, the exit status or 255 for "run the real one", then text for standard error, then end of file.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

const SOCKET: &[u8] = b"/run/rorqual/iptables.sock\0";
const REAL_IPV4: &[u8] = b"/usr/sbin/iptables-legacy\0";
const REAL_IPV6: &[u8] = b"/usr/sbin/ip6tables-legacy\0";
/// Longest command handed to the agent, in bytes; a longer one is the real program's.
const MAX_COMMAND: usize = 4096;
/// The answer that means: run the real program.
const RUN_REAL: u8 = 255;

// System call numbers and constants: Linux, include/uapi and arch/x86/entry/syscalls/syscall_64.tbl.
const SYS_READ: usize = 0;
const SYS_WRITE: usize = 1;
const SYS_SOCKET: usize = 41;
const SYS_CONNECT: usize = 42;
const SYS_SHUTDOWN: usize = 48;
const SYS_EXECVE: usize = 59;
const SYS_EXIT_GROUP: usize = 231;
const AF_UNIX: usize = 1;
const SOCK_STREAM_CLOEXEC: usize = 1 | 0o2_000_000;
const SHUT_WR: usize = 1;
const STDERR: usize = 2;

// The kernel enters with the stack pointer at argc (System V ABI, AMD64 §3.4.1).
global_asm!(".globl _start", "_start:", "mov rdi, rsp", "and rsp, -16", "call {entry}", "ud2", entry = sym entry);

/// `sockaddr_un`.
#[repr(C)]
struct UnixAddress {
    family: u16,
    path: [u8; 108],
}

/// One system call with up to three arguments; the result is negative for an error.
///
/// # Safety
/// The arguments must be what the call `number` expects, with every pointer valid for what the kernel reads or writes.
unsafe fn system_call(number: usize, first: usize, second: usize, third: usize) -> isize {
    let result: isize;
    // SAFETY: the caller vouches for the arguments; the instruction changes only rax, rcx, r11 and what the call writes to.
    unsafe {
        asm!("syscall", inlateout("rax") number.cast_signed() => result, in("rdi") first, in("rsi") second, in("rdx") third,
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

fn exit(status: u8) -> ! {
    loop {
        // SAFETY: exit_group takes a number and does not return.
        unsafe { system_call(SYS_EXIT_GROUP, usize::from(status), 0, 0) };
    }
}

/// # Safety
/// `stack` must be the stack pointer the kernel entered with: argc, the arguments and a null, the environment and a null.
unsafe extern "C" fn entry(stack: *const usize) -> ! {
    // SAFETY: the layout the caller vouches for; argv has argc entries and a null after them.
    let (count, arguments) = unsafe { (*stack, stack.add(1).cast::<*const u8>()) };
    // SAFETY: as above.
    let arguments_and_null = unsafe { core::slice::from_raw_parts(arguments, count + 1) };
    let mut command = [0_u8; MAX_COMMAND];
    if let Some(length) = join(&arguments_and_null[..count], &mut command) {
        ask(command.get(..length).unwrap_or_default());
    }
    let real = if is_ipv6(arguments_and_null.first().copied()) { REAL_IPV6 } else { REAL_IPV4 };
    // SAFETY: the path ends in zero; argv and the environment behind its null are the kernel's own null-ended arrays.
    unsafe { system_call(SYS_EXECVE, real.as_ptr() as usize, arguments as usize, arguments.add(count + 1) as usize) };
    say(b"rorqual-iptables: cannot run the real iptables\n");
    exit(1)
}

/// Puts the arguments, each with its zero byte, one after the other; `None` when they do not fit.
fn join(arguments: &[*const u8], into: &mut [u8]) -> Option<usize> {
    let mut length = 0;
    for &argument in arguments {
        let mut at = argument;
        loop {
            // SAFETY: the kernel ends each argument with a zero byte, and the walk stops there.
            let byte = unsafe { at.read() };
            *into.get_mut(length)? = byte;
            length += 1;
            if byte == 0 {
                break;
            }
            at = at.wrapping_add(1);
        }
    }
    Some(length)
}

fn is_ipv6(name: Option<*const u8>) -> bool {
    let Some(mut at) = name.filter(|name| !name.is_null()) else { return false };
    let mut matched = 0;
    loop {
        // SAFETY: the kernel ends each argument with a zero byte, and the walk stops there.
        let byte = unsafe { at.read() };
        at = at.wrapping_add(1);
        matched = match (byte, matched) {
            (0, _) => return false,
            (b'/', _) => 0,
            (b'i', 0) => 1,
            (b'p', 1) => 2,
            (b'6', 2) => return true,
            _ => 3,
        };
    }
}

/// Asks the agent and exits as it says; returns when the real program must run.
fn ask(command: &[u8]) {
    let mut address = UnixAddress { family: AF_UNIX as u16, path: [0; 108] };
    for (to, from) in address.path.iter_mut().zip(SOCKET) {
        *to = *from;
    }
    // SAFETY: numbers only.
    let socket = unsafe { system_call(SYS_SOCKET, AF_UNIX, SOCK_STREAM_CLOEXEC, 0) };
    if socket < 0 {
        return;
    }
    let socket = socket.cast_unsigned();
    // SAFETY: the address is valid for its size.
    if unsafe { system_call(SYS_CONNECT, socket, (&raw const address) as usize, size_of::<UnixAddress>()) } < 0 {
        return;
    }
    if !write(socket, command) {
        return;
    }
    // SAFETY: numbers only.
    unsafe { system_call(SYS_SHUTDOWN, socket, SHUT_WR, 0) };
    let mut answer = [0_u8; 1024];
    let mut status = None;
    loop {
        // SAFETY: the buffer is valid for its length.
        let read = unsafe { system_call(SYS_READ, socket, answer.as_mut_ptr() as usize, answer.len()) };
        let Some(text) = usize::try_from(read).ok().and_then(|read| answer.get(..read)) else { break };
        match (status, text) {
            (_, []) => break,
            (None, [RUN_REAL, ..]) => return,
            (None, [first, rest @ ..]) => {
                status = Some(*first);
                say(rest);
            }
            (Some(_), text) => say(text),
        }
    }
    if let Some(status) = status {
        exit(status);
    }
}

fn say(text: &[u8]) {
    write(STDERR, text);
}

fn write(descriptor: usize, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        // SAFETY: the slice is valid for its length.
        let written = unsafe { system_call(SYS_WRITE, descriptor, bytes.as_ptr() as usize, bytes.len()) };
        let Some(rest) = usize::try_from(written).ok().and_then(|written| bytes.get(written..)) else { return false };
        bytes = rest;
    }
    true
}

/// What the compiler calls to clear memory; there is no C library to bring it.
///
/// # Safety
/// `to` must be valid for writes of `count` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, count: usize) -> *mut u8 {
    // SAFETY: the caller vouches for the range; the direction flag is clear as the ABI says.
    unsafe {
        asm!("rep stosb", inout("rdi") to => _, inout("rcx") count => _, in("al") value.to_le_bytes()[0], options(nostack, preserves_flags));
    }
    to
}

/// What the compiled core library's unwinding tables name; nothing here unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(1)
}
