//! The filters: which system calls each kind of thread may make. One function per kind; [`common`] is part of every one.
//!
//! No filter allows to execute programs, to map executable memory, to trace, or to change signal handlers. An `ioctl` is allowed by its
//! request only, a socket by its family only. Where a call says more than its number, its arguments are checked.
//!
//! The C library picks some calls by itself: memory and arenas (`mmap`, `brk`, `madvise`, `sched_getaffinity`), locks (`futex`), ends of threads.

use libc::c_long;

use super::rules::Allowed;
use super::rules::Argument::{Bits, Is, Without};
use rorqual_vmm_protocol::Accelerator;

/// The kinds of threads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Thread {
    /// Runs a processor of the guest by KVM, and its reads and writes of device registers.
    Processor,
    /// Serves the queues of a device of this virtio type (virtio 1.3 §5), whatever carries them.
    Device(u32),
    /// Speaks vhost-user with User Mode Linux for a device, and maps the guest's memory.
    VhostMessages,
    /// Waits for User Mode Linux to connect to a device, and carries its vhost-user messages.
    Relay,
    /// Copies the guest's console to its log, and turns that over.
    Console,
    /// Accepts connections of the control socket and serves them.
    Control,
    /// Waits for SIGTERM and SIGINT.
    Signals,
    /// Waits for the guest's end and ends its threads.
    GuestEnd,
    /// The main thread once the machine runs: waits for events, tells the end, cleans up.
    Main,
}

/// What `thread` may do with `accelerator`.
pub fn of(thread: Thread, accelerator: Accelerator) -> Allowed {
    match thread {
        Thread::Processor => processor(),
        Thread::Device(kind) => device(kind),
        Thread::VhostMessages => vhost_messages(),
        Thread::Relay => relay(),
        Thread::Console => console(),
        Thread::Control => control(accelerator),
        Thread::Signals => signals(accelerator),
        Thread::GuestEnd => guest_end(),
        Thread::Main => main(accelerator),
    }
}

/// True when the kernel has filters that trap.
pub(super) fn available() -> bool {
    let action: u32 = libc::SECCOMP_RET_TRAP;
    // SAFETY: the call reads the action and changes nothing.
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}

/// The second byte of the requests of KVM's ioctls. They act on this machine only; which of them does not matter to a thread that is lost.
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

/// What every thread does: memory, locks, time, the log, descriptors it has, its own end.
fn common() -> Allowed {
    const CALLS: &[c_long] = &[
        // Memory; see below for what maps it.
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
        // What is open: the log, events, connections.
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
        // A panic's end.
        .call_with(libc::SYS_tgkill, &[Is(0, std::process::id()), Is(2, libc::SIGABRT.cast_unsigned())]);
    for name in [libc::PR_SET_NAME, libc::PR_GET_NAME] {
        allowed = allowed.call_with(libc::SYS_prctl, &[Is(0, name.cast_unsigned())]);
    }
    // The flags of descriptors, and copies. Debug builds of the standard library look whether a descriptor is open before they close it.
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
    // Its register writes reset devices, which then close and unwatch what they have.
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
        // Entropy and console need no more than every thread.
        _ => Allowed::default(),
    };
    common().and(waiting()).and(device)
}

/// What a ring of `io_uring` does passes no filter. So the ring is made and bound to its operations (`IORING_REGISTER_RESTRICTIONS`) before
/// the thread enters its filter, and making or changing one is not allowed here.
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

/// Pages go back to the host by `madvise`, or as holes of the memory's file.
fn balloon() -> Allowed {
    Allowed::default().calls(&[libc::SYS_fallocate])
}

/// The gateway makes ordinary sockets on behalf of the guest, and follows the host's resolv.conf, which Landlock leaves it.
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
    // The number of a named network interface, for a resolver's address with a scope; and whether a socket blocks.
    for request in [libc::SIOCGIFINDEX as u32, libc::FIONBIO as u32] {
        allowed = allowed.call_with(libc::SYS_ioctl, &[Is(1, request)]);
    }
    allowed
}

fn vsock() -> Allowed {
    sockets().calls(&[libc::SYS_accept4, libc::SYS_connect]).call_with(libc::SYS_socket, &[Is(0, UNIX)])
}

/// Moving bytes over connections there are.
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
    // The size of the memory file, to map no more than there is.
    common().and(waiting()).and(sockets()).and(inspecting()).calls(&[libc::SYS_lseek])
}

fn relay() -> Allowed {
    common().and(waiting()).and(sockets()).and(starting_threads()).and(dropping_devices()).calls(&[libc::SYS_accept4])
}

fn console() -> Allowed {
    common().and(changing_files())
}

fn control(accelerator: Accelerator) -> Allowed {
    let (mask, request) = KVM_REQUEST;
    // A disk's size is read again; a snapshot is written to files of the machine's directory, with the state of processors and devices, and
    // waits for what disks have begun.
    let allowed = common()
        .and(waiting())
        .and(sockets())
        .and(starting_threads())
        .and(changing_files())
        .calls(&[libc::SYS_accept4, libc::SYS_io_uring_enter])
        .call_with(libc::SYS_ioctl, &[Bits(1, mask, request)]);
    match accelerator {
        Accelerator::Kvm => allowed.and(interrupting_threads()),
        Accelerator::Uml => allowed.and(asking_the_kernel()),
    }
}

fn signals(accelerator: Accelerator) -> Allowed {
    let allowed = common().calls(&[libc::SYS_rt_sigtimedwait]);
    match accelerator {
        Accelerator::Kvm => allowed,
        Accelerator::Uml => allowed.and(asking_the_kernel()),
    }
}

fn guest_end() -> Allowed {
    // User Mode Linux's supervisor is waited for.
    common()
        .and(waiting())
        .and(sockets())
        .and(interrupting_threads())
        .and(dropping_devices())
        .calls(&[libc::SYS_wait4, libc::SYS_waitid])
}

fn main(accelerator: Accelerator) -> Allowed {
    let allowed = common().and(sockets()).and(inspecting()).and(removing()).calls(&[libc::SYS_flock]);
    match accelerator {
        Accelerator::Kvm => allowed,
        // It kills the kernel's supervisor; the runtime directory is emptied.
        Accelerator::Uml => allowed.calls(&[libc::SYS_kill, libc::SYS_openat, libc::SYS_getdents64]),
    }
}

/// Threads started by the confined thread inherit its filter.
fn starting_threads() -> Allowed {
    Allowed::default().calls(&[libc::SYS_clone3, libc::SYS_clone])
}

/// Kicks of processors out of the guest.
fn interrupting_threads() -> Allowed {
    Allowed::default().call_with(libc::SYS_tgkill, &[Is(0, std::process::id()), Is(2, libc::SIGUSR1.cast_unsigned())])
}

/// Letting go of devices: what they have begun is waited for, the files of their sockets are removed.
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

/// Making, writing and renaming files; Landlock says which.
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
