//! The common part of the small programs of the guest: system calls, arguments, and the connection to the agent.
//!
//! dockerd starts one for each published port and address. Under User Mode Linux the start of an ordinary program costs
//! 20 to 50 ms, nearly all of it page faults of the loader and the C library. These programs touch a handful of pages
//! (1.5 ms).
#![no_std]

use core::arch::asm;
use core::sync::atomic::{AtomicUsize, Ordering};

// System call numbers and constants: Linux, include/uapi and arch/x86/entry/syscalls/syscall_64.tbl.
const SYS_READ: usize = 0;
const SYS_WRITE: usize = 1;
const SYS_CLOSE: usize = 3;
const SYS_RT_SIGACTION: usize = 13;
const SYS_SOCKET: usize = 41;
const SYS_CONNECT: usize = 42;
const SYS_SENDMSG: usize = 46;
const SYS_SHUTDOWN: usize = 48;
const SYS_EXIT_GROUP: usize = 231;
const AF_UNIX: u16 = 1;
const SOCK_STREAM_CLOEXEC: usize = 1 | 0o2_000_000;
const SHUT_WR: usize = 1;
const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
const SA_RESTORER: usize = 0x0400_0000;
const EINTR: isize = -4;
/// Asks the program to end, as from a keyboard.
pub const SIGINT: usize = 2;
/// Asks the program to end.
pub const SIGTERM: usize = 15;
/// Longest path of a Unix socket, in bytes, without its final zero.
const MAX_SOCKET_PATH: usize = 107;

/// Makes `$entry`, an `unsafe extern "C" fn(*const usize) -> !`, the program's first instruction. It receives the stack
/// pointer the kernel enters with, which points at argc (System V ABI, AMD64 §3.4.1).
#[macro_export]
macro_rules! start_at {
    ($entry:path) => {
        core::arch::global_asm!(
            ".globl _start", "_start:", "mov rdi, rsp", "and rsp, -16", "call {entry}", "ud2",
            entry = sym $entry
        );
    };
}

/// `sockaddr_un`.
#[repr(C)]
struct UnixAddress {
    family: u16,
    path: [u8; MAX_SOCKET_PATH + 1],
}

/// The kernel's `struct sigaction` on x86-64.
#[repr(C)]
struct SignalAction {
    handler: extern "C" fn(i32),
    flags: usize,
    restorer: extern "C" fn(i32),
    mask: u64,
}

/// `struct msghdr`.
#[repr(C)]
struct Message {
    name: *const u8,
    name_length: u32,
    parts: *const Part,
    parts_count: usize,
    control: *const PassedDescriptor,
    control_length: usize,
    flags: i32,
}

/// `struct iovec`.
#[repr(C)]
struct Part {
    bytes: *const u8,
    length: usize,
}

/// `struct cmsghdr` with one descriptor.
#[repr(C)]
struct PassedDescriptor {
    length: usize,
    level: i32,
    kind: i32,
    descriptor: i32,
    padding: i32,
}

/// One system call; the result is negative for an error.
///
/// # Safety
/// The arguments must be what the call `number` expects, with every pointer valid for what the kernel reads or writes.
unsafe fn system_call(number: usize, arguments: [usize; 4]) -> isize {
    let [first, second, third, fourth] = arguments;
    let result: isize;
    // SAFETY: the caller vouches for the arguments; the instruction changes only rax, rcx, r11 and what the call writes
    // to.
    unsafe {
        asm!("syscall", inlateout("rax") number.cast_signed() => result,
             in("rdi") first, in("rsi") second, in("rdx") third, in("r10") fourth,
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// Ends the program.
pub fn exit(status: u8) -> ! {
    loop {
        // SAFETY: exit_group takes a number and does not return.
        unsafe { system_call(SYS_EXIT_GROUP, [usize::from(status), 0, 0, 0]) };
    }
}

/// The program's arguments, each terminated by a zero byte, and behind their null the environment.
#[derive(Clone, Copy)]
pub struct Arguments(&'static [*const u8]);

impl Arguments {
    /// Takes them from the stack the kernel made.
    ///
    /// # Safety
    /// `stack` must be the stack pointer the kernel entered with: argc, the arguments and a null, the environment and a
    /// null.
    pub unsafe fn from_stack(stack: *const usize) -> Self {
        // SAFETY: the layout the caller vouches for; argv has argc entries, and the stack stays as long as the program.
        Self(unsafe { core::slice::from_raw_parts(stack.add(1).cast(), *stack) })
    }

    /// Copies the arguments, each with its zero byte, one after the other; `None` if they do not fit.
    pub fn join(&self, into: &mut [u8]) -> Option<usize> {
        let mut length = 0;
        for &argument in self.0 {
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

    /// Whether one of the arguments after the program's name is `word`.
    pub fn has(&self, word: &[u8]) -> bool {
        // An argument that begins with `word` and has nothing after it.
        self.0.iter().skip(1).any(|&argument| value_of(word, argument).is_some_and(<[u8]>::is_empty))
    }

    /// The value of the environment variable `name`, which includes the `=`.
    pub fn variable(&self, name: &[u8]) -> Option<&'static [u8]> {
        let mut entry = self.0.as_ptr().wrapping_add(self.0.len() + 1);
        loop {
            // SAFETY: behind the arguments' null lies the environment, and the walk stops at its own null.
            let text = unsafe { entry.read() };
            if text.is_null() {
                return None;
            }
            if let Some(value) = value_of(name, text) {
                return Some(value);
            }
            entry = entry.wrapping_add(1);
        }
    }
}

/// What follows `name` in the environment's entry at `entry`, if the entry begins with it.
fn value_of(name: &[u8], entry: *const u8) -> Option<&'static [u8]> {
    let mut at = entry;
    for &expected in name {
        // SAFETY: the kernel ends each entry with a zero byte, which no name has: the walk stops there.
        if unsafe { at.read() } != expected {
            return None;
        }
        at = at.wrapping_add(1);
    }
    let mut length = 0;
    // SAFETY: the zero byte is still ahead.
    while unsafe { at.wrapping_add(length).read() } != 0 {
        length += 1;
    }
    // SAFETY: the bytes just walked over; the entries stay as long as the program.
    Some(unsafe { core::slice::from_raw_parts(at, length) })
}

/// A connection to the agent, open until the program ends.
#[derive(Clone, Copy)]
pub struct Agent(usize);

impl Agent {
    /// Connects to the Unix socket at `path`; `None` if nobody listens there or the path is too long for a socket.
    pub fn connect(path: &[u8]) -> Option<Self> {
        if path.len() > MAX_SOCKET_PATH {
            return None;
        }
        let mut address = UnixAddress { family: AF_UNIX, path: [0; MAX_SOCKET_PATH + 1] };
        for (to, from) in address.path.iter_mut().zip(path) {
            *to = *from;
        }
        // SAFETY: numbers only.
        let socket = unsafe { system_call(SYS_SOCKET, [usize::from(AF_UNIX), SOCK_STREAM_CLOEXEC, 0, 0]) };
        let socket = usize::try_from(socket).ok()?;
        // SAFETY: the address is valid for its size.
        let connected =
            unsafe { system_call(SYS_CONNECT, [socket, (&raw const address) as usize, size_of::<UnixAddress>(), 0]) };
        (connected == 0).then_some(Self(socket))
    }

    /// Sends all of `bytes`; false if the agent is gone.
    pub fn send(&self, bytes: &[u8]) -> bool {
        write(self.0, bytes)
    }

    /// Sends all of `bytes`, with a duplicate of a descriptor; false if the agent is gone.
    pub fn send_with(&self, bytes: &[u8], descriptor: i32) -> bool {
        let part = Part { bytes: bytes.as_ptr(), length: bytes.len() };
        // CMSG_LEN of one descriptor: the header's 16 bytes and the 4 of the number.
        let control = PassedDescriptor { length: 20, level: SOL_SOCKET, kind: SCM_RIGHTS, descriptor, padding: 0 };
        let message = Message {
            name: core::ptr::null(),
            name_length: 0,
            parts: &raw const part,
            parts_count: 1,
            control: &raw const control,
            control_length: size_of::<PassedDescriptor>(),
            flags: 0,
        };
        // SAFETY: the message, its part and its control data are the kernel's structures and valid for the call.
        let sent = unsafe { system_call(SYS_SENDMSG, [self.0, (&raw const message) as usize, 0, 0]) };
        // The rest, if the kernel took only a part, goes without the descriptor.
        usize::try_from(sent).ok().and_then(|sent| bytes.get(sent..)).is_some_and(|rest| self.send(rest))
    }

    /// Has each of `signals` end the connection in order, then the program with status 0: the agent learns that nothing
    /// more comes, and the program ends once the agent has let go of what it was given.
    pub fn end_on(self, signals: &[usize]) {
        static CONNECTION: AtomicUsize = AtomicUsize::new(0);
        extern "C" fn end(_: i32) {
            let agent = Agent(CONNECTION.load(Ordering::Relaxed));
            agent.end_sending();
            let mut rest = [0_u8; 64];
            while !agent.receive(&mut rest).is_empty() {}
            exit(0)
        }
        CONNECTION.store(self.0, Ordering::Relaxed);
        for &signal in signals {
            handle(signal, end);
        }
    }

    /// Shuts the connection down for writing.
    fn end_sending(self) {
        // SAFETY: numbers only. A failure means that the agent is gone, which the next receive shows.
        unsafe { system_call(SYS_SHUTDOWN, [self.0, SHUT_WR, 0, 0]) };
    }

    /// Waits for data of the agent; empty at its end, or if the agent is gone.
    pub fn receive<'a>(&self, into: &'a mut [u8]) -> &'a [u8] {
        loop {
            // SAFETY: the buffer is valid for its length.
            let read = unsafe { system_call(SYS_READ, [self.0, into.as_mut_ptr() as usize, into.len(), 0]) };
            if read != EINTR {
                return usize::try_from(read).ok().and_then(|read| into.get(..read)).unwrap_or_default();
            }
        }
    }
}

/// Writes all of `bytes` to a descriptor; false if that fails.
pub fn write(descriptor: usize, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        // SAFETY: the slice is valid for its length.
        let written = unsafe { system_call(SYS_WRITE, [descriptor, bytes.as_ptr() as usize, bytes.len(), 0]) };
        if written == EINTR {
            continue;
        }
        let Some(rest) = usize::try_from(written).ok().and_then(|written| bytes.get(written..)) else { return false };
        bytes = rest;
    }
    true
}

/// Closes a descriptor nothing else uses.
pub fn close(descriptor: usize) {
    // SAFETY: a number only; the shims hand out no descriptors.
    unsafe { system_call(SYS_CLOSE, [descriptor, 0, 0, 0]) };
}

/// Has `handler`, which must not return, run at `signal`.
fn handle(signal: usize, handler: extern "C" fn(i32)) {
    // The handler never returns, so nothing calls the restorer, but x86-64 delivers no signal without one.
    let action = SignalAction { handler, flags: SA_RESTORER, restorer: handler, mask: 0 };
    // SAFETY: the action is the kernel's structure, with a mask of the eight bytes told; the handler only makes system
    // calls and reads an atomic.
    unsafe { system_call(SYS_RT_SIGACTION, [signal, (&raw const action) as usize, 0, size_of::<u64>()]) };
}

/// Has `signal` end the program with status 0.
pub fn succeed_on(signal: usize) {
    extern "C" fn end(_: i32) {
        exit(0)
    }
    handle(signal, end);
}

/// The compiler calls this to clear memory; no C library provides it.
///
/// # Safety
/// `to` must be valid for writes of `count` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, count: usize) -> *mut u8 {
    // SAFETY: the caller vouches for the range; the direction flag is clear as the ABI says.
    unsafe {
        asm!("rep stosb", inout("rdi") to => _, inout("rcx") count => _, in("al") value.to_le_bytes()[0],
             options(nostack, preserves_flags));
    }
    to
}

/// The compiler calls this to copy memory.
///
/// # Safety
/// `from` must be valid for reads and `to` for writes of `count` bytes, and they must not overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller vouches for the ranges; the direction flag is clear as the ABI says.
    unsafe {
        asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") count => _,
             options(nostack, preserves_flags));
    }
    to
}

/// The compiler calls this for a loop that searches a zero byte.
///
/// # Safety
/// `text` must be valid for reads up to and with its first zero byte.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let left: usize;
    // SAFETY: the caller vouches for the text; the direction flag is clear as the ABI says.
    unsafe {
        asm!("repne scasb", inout("rdi") text => _, inout("rcx") usize::MAX => left, in("al") 0_u8,
             options(nostack, readonly));
    }
    // The count started at all ones and was also decremented for the zero byte.
    usize::MAX - left - 1
}

/// The unwinding tables of the compiled core library name this; nothing here unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(1)
}
