//! The filters: which system calls each kind of thread may make. One function per kind; [`common`] is part of every
//! one.
//!
//! No filter allows a thread to execute programs, map executable memory, trace, or change signal handlers. Requests of
//! `ioctl` and families of sockets are allowed one by one. Where the arguments of a call matter, the filter checks
//! them.
//!
//! The C library makes some calls by itself: for memory and arenas (`mmap`, `brk`, `madvise`, `sched_getaffinity`),
//! locks (`futex`) and ends of threads.

use libc::c_long;

use super::rules::Allowed;
use super::rules::Argument::{Bits, Is, Without};

/// The kinds of threads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Thread {
    /// Runs a processor of the guest by KVM, and its reads and writes of device registers.
    Processor,
    /// Serves the queues of a device of this virtio type (virtio 1.3 §5), whatever carries them.
    Device(u32),
    /// Handles vhost-user messages of User Mode Linux for a device, and maps the guest's memory.
    VhostMessages,
    /// Waits for User Mode Linux to connect to a device, and carries its vhost-user messages.
    Relay,
    /// Copies the guest's console to its log, and rotates the log.
    Console,
    /// Accepts connections of the control socket and serves them.
    Control,
    /// Waits for SIGTERM and SIGINT.
    Signals,
    /// Waits for the guest's end and ends its threads.
    GuestEnd,
    /// The main thread once the machine runs: waits for events, reports the end, cleans up.
    Main,
}

/// How the guest runs, which decides the calls of threads that control it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GuestKind {
    /// Its processors are threads of the monitor.
    Threads,
    /// Its kernel is a process beside the monitor, controlled over a socket.
    Process,
}

/// What `thread` may do in the monitor of such a guest.
pub fn of(thread: Thread, guest: GuestKind) -> Allowed {
    match thread {
        Thread::Processor => processor(),
        Thread::Device(kind) => device(kind),
        Thread::VhostMessages => vhost_messages(),
        Thread::Relay => relay(),
        Thread::Console => console(),
        Thread::Control => control(guest),
        Thread::Signals => signals(guest),
        Thread::GuestEnd => guest_end(),
        Thread::Main => main(guest),
    }
}

/// True when the kernel has filters that trap.
pub(super) fn available() -> bool {
    let action: u32 = libc::SECCOMP_RET_TRAP;
    // SAFETY: the call reads the action and changes nothing.
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}

/// The second byte of the requests of KVM's ioctls. They act on this machine only, so a lost thread may make any of
/// them.
const KVM_REQUEST: (u32, u32) = (0xff00, 0xae00);
const EXECUTE: u32 = libc::PROT_EXEC.cast_unsigned();
const UNIX: u32 = libc::AF_UNIX.cast_unsigned();

/// Calls of the same meaning that only older architectures have beside the newer ones.
#[cfg(target_arch = "x86_64")]
mod older {
    pub(super) const WAIT: &[libc::c_long] = &[libc::SYS_poll, libc::SYS_epoll_wait];
    pub(super) const REMOVE: &[libc::c_long] = &[libc::SYS_unlink, libc::SYS_rmdir];
    pub(super) const RENAME: &[libc::c_long] = &[libc::SYS_rename];
    pub(super) const MAKE: &[libc::c_long] = &[libc::SYS_mkdir, libc::SYS_chmod];
}
#[cfg(not(target_arch = "x86_64"))]
mod older {
    pub(super) const WAIT: &[libc::c_long] = &[];
    pub(super) const REMOVE: &[libc::c_long] = &[];
    pub(super) const RENAME: &[libc::c_long] = &[];
    pub(super) const MAKE: &[libc::c_long] = &[];
}

/// The calls of every thread: memory, locks, time, the log, open descriptors, its own end.
fn common() -> Allowed {
    const CALLS: &[c_long] = &[
        // Memory; mappings follow below.
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_getrandom,
        libc::SYS_sched_getaffinity,
        // Locks and waiting.
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_restart_syscall,
        // The beginning and the end of a thread, and its signals.
        libc::SYS_rseq,
        libc::SYS_set_robust_list,
        libc::SYS_sigaltstack,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_exit,
        libc::SYS_exit_group,
        // Open descriptors: the log, events, connections.
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_close,
    ];
    let mut allowed = Allowed::default()
        .calls(CALLS)
        .call_with(libc::SYS_mmap, &[Without(2, EXECUTE)])
        .call_with(libc::SYS_mprotect, &[Without(2, EXECUTE)])
        // The end of a panic.
        .call_with(libc::SYS_tgkill, &[Is(0, std::process::id()), Is(2, libc::SIGABRT.cast_unsigned())]);
    for name in [libc::PR_SET_NAME, libc::PR_GET_NAME] {
        allowed = allowed.call_with(libc::SYS_prctl, &[Is(0, name.cast_unsigned())]);
    }
    // Flags and copies of descriptors. Debug builds of the standard library check that a descriptor is open before they
    // close it.
    for command in [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_DUPFD_CLOEXEC] {
        allowed = allowed.call_with(libc::SYS_fcntl, &[Is(1, command.cast_unsigned())]);
    }
    allowed
}

/// Waiting for several descriptors.
fn waiting() -> Allowed {
    Allowed::default().calls(older::WAIT).calls(&[
        libc::SYS_ppoll,
        libc::SYS_epoll_pwait,
        libc::SYS_epoll_pwait2,
        libc::SYS_epoll_ctl,
    ])
}

fn processor() -> Allowed {
    let (mask, request) = KVM_REQUEST;
    // A register write may reset a device, which closes its descriptors.
    common().and(waiting()).call_with(libc::SYS_ioctl, &[Bits(1, mask, request)]).calls(&[
        libc::SYS_shutdown,
        libc::SYS_setsockopt,
        libc::SYS_io_uring_enter,
    ])
}

/// Virtio types (virtio 1.3 §5).
const NET: u32 = 1;
const BLOCK: u32 = 2;
const BALLOON: u32 = 5;
const VSOCK: u32 = 19;

fn device(kind: u32) -> Allowed {
    let device = match kind {
        NET => net(),
        BLOCK => block(),
        BALLOON => balloon(),
        VSOCK => vsock(),
        // Entropy and console make only the calls of every thread.
        _ => Allowed::default(),
    };
    common().and(waiting()).and(device)
}

/// The operations of an `io_uring` pass no filter. So the ring is created and restricted to its operations
/// (`IORING_REGISTER_RESTRICTIONS`) before the thread enters its filter, which does not allow creating or changing one.
fn block() -> Allowed {
    Allowed::default().calls(&[
        libc::SYS_pread64,
        libc::SYS_pwrite64,
        libc::SYS_preadv,
        libc::SYS_pwritev,
        libc::SYS_preadv2,
        libc::SYS_pwritev2,
        libc::SYS_fdatasync,
        libc::SYS_fsync,
        libc::SYS_fallocate,
        libc::SYS_io_uring_enter,
    ])
}

/// `madvise` or holes in the memory's file give pages back to the host.
fn balloon() -> Allowed {
    Allowed::default().calls(&[libc::SYS_fallocate])
}

/// The gateway opens ordinary sockets on behalf of the guest, and follows the host's resolv.conf, which Landlock
/// allows.
fn net() -> Allowed {
    let mut allowed = sockets().and(inspecting()).calls(&[
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_accept4,
        libc::SYS_setsockopt,
        libc::SYS_getsockopt,
        libc::SYS_getsockname,
        libc::SYS_getpeername,
        libc::SYS_timerfd_settime,
        libc::SYS_openat,
        libc::SYS_lseek,
    ]);
    for family in [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX] {
        allowed = allowed.call_with(libc::SYS_socket, &[Is(0, family.cast_unsigned())]);
    }
    // The number of a named network interface, for a resolver's address with a scope; and non-blocking mode.
    for request in [libc::SIOCGIFINDEX as u32, libc::FIONBIO as u32] {
        allowed = allowed.call_with(libc::SYS_ioctl, &[Is(1, request)]);
    }
    allowed
}

fn vsock() -> Allowed {
    sockets().calls(&[libc::SYS_accept4, libc::SYS_connect]).call_with(libc::SYS_socket, &[Is(0, UNIX)])
}

/// Moving bytes over existing connections.
fn sockets() -> Allowed {
    Allowed::default().calls(&[
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_shutdown,
    ])
}

fn vhost_messages() -> Allowed {
    // `lseek` finds the size of the memory file, so that no more than it has is mapped.
    common().and(waiting()).and(sockets()).and(inspecting()).calls(&[libc::SYS_lseek])
}

fn relay() -> Allowed {
    common().and(waiting()).and(sockets()).and(starting_threads()).and(dropping_devices()).calls(&[libc::SYS_accept4])
}

fn console() -> Allowed {
    common().and(changing_files())
}

fn control(guest: GuestKind) -> Allowed {
    let (mask, request) = KVM_REQUEST;
    // The thread reads the size of a disk again. It writes a snapshot with the state of processors and devices to files
    // of the machine's directory, and waits for requests in flight.
    let allowed = common()
        .and(waiting())
        .and(sockets())
        .and(starting_threads())
        .and(changing_files())
        .calls(&[libc::SYS_accept4, libc::SYS_io_uring_enter])
        .call_with(libc::SYS_ioctl, &[Bits(1, mask, request)]);
    match guest {
        GuestKind::Threads => allowed.and(interrupting_threads()),
        GuestKind::Process => allowed.and(asking_the_kernel()),
    }
}

fn signals(guest: GuestKind) -> Allowed {
    let allowed = common().calls(&[libc::SYS_rt_sigtimedwait]);
    match guest {
        GuestKind::Threads => allowed,
        GuestKind::Process => allowed.and(asking_the_kernel()),
    }
}

fn guest_end() -> Allowed {
    // Waits for the supervisor of User Mode Linux.
    common()
        .and(waiting())
        .and(sockets())
        .and(interrupting_threads())
        .and(dropping_devices())
        .calls(&[libc::SYS_wait4, libc::SYS_waitid])
}

fn main(guest: GuestKind) -> Allowed {
    let allowed = common().and(sockets()).and(inspecting()).and(removing()).calls(&[libc::SYS_flock]);
    match guest {
        GuestKind::Threads => allowed,
        // Kills the kernel's supervisor and empties the runtime directory.
        GuestKind::Process => allowed.calls(&[libc::SYS_kill, libc::SYS_openat, libc::SYS_getdents64]),
    }
}

/// Threads started by the confined thread inherit its filter.
fn starting_threads() -> Allowed {
    Allowed::default().calls(&[libc::SYS_clone3, libc::SYS_clone])
}

/// Kicking processors out of the guest.
fn interrupting_threads() -> Allowed {
    Allowed::default().call_with(libc::SYS_tgkill, &[Is(0, std::process::id()), Is(2, libc::SIGUSR1.cast_unsigned())])
}

/// Dropping devices: waiting for their requests in flight, removing the files of their sockets.
fn dropping_devices() -> Allowed {
    inspecting().and(removing()).calls(&[libc::SYS_setsockopt, libc::SYS_io_uring_enter])
}

/// The size and kind of files.
fn inspecting() -> Allowed {
    Allowed::default().calls(&[libc::SYS_statx, libc::SYS_newfstatat, libc::SYS_fstat])
}

fn removing() -> Allowed {
    Allowed::default().calls(older::REMOVE).calls(&[libc::SYS_unlinkat])
}

/// Creating, writing and renaming files; Landlock limits which.
fn changing_files() -> Allowed {
    removing().and(inspecting()).calls(older::RENAME).calls(older::MAKE).calls(&[
        libc::SYS_openat,
        libc::SYS_renameat,
        libc::SYS_renameat2,
        libc::SYS_mkdirat,
        libc::SYS_fchmod,
        libc::SYS_fchmodat,
        libc::SYS_getdents64,
        libc::SYS_lseek,
        libc::SYS_pread64,
        libc::SYS_pwrite64,
        libc::SYS_preadv,
        libc::SYS_pwritev,
        libc::SYS_copy_file_range,
        libc::SYS_ftruncate,
        libc::SYS_fallocate,
        libc::SYS_fsync,
        libc::SYS_fdatasync,
        libc::SYS_flock,
    ])
}

/// The management console of User Mode Linux: a socket in the runtime directory.
fn asking_the_kernel() -> Allowed {
    removing().and(sockets()).calls(&[libc::SYS_bind, libc::SYS_setsockopt]).call_with(libc::SYS_socket, &[Is(0, UNIX)])
}
