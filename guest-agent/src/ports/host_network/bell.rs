//! A bell the kernel rings when a program of this network namespace starts or stops listening: four small BPF programs
//! at the root of the control groups, which write into a ring buffer that can be waited on. Without a listener nothing
//! runs.
//!
//! These ring (Linux, `include/uapi/linux/bpf.h`): `listen` (`BPF_SOCK_OPS_TCP_LISTEN_CB`, after the socket listens),
//! `bind` of a datagram socket, and the close of a socket that listens or receives datagrams
//! (`BPF_CGROUP_INET_SOCK_RELEASE`, a moment before it is gone). Netlink announces only destroyed sockets, and those of
//! every connection; the `uml` kernel has no tracepoints.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::io::unix::AsyncFd;

use crate::readiness;

/// Commands of `bpf(2)`.
const MAP_CREATE: u32 = 0;
const PROGRAM_LOAD: u32 = 5;
const LINK_CREATE: u32 = 28;

const MAP_OF_RING: u32 = 27;
const PROGRAM_OF_SOCKETS: u32 = 9;
const PROGRAM_OF_CONNECTIONS: u32 = 13;

const AT_CONNECTIONS: u32 = 3;
const AT_BIND_4: u32 = 12;
const AT_BIND_6: u32 = 13;
const AT_RELEASE: u32 = 34;

const LISTEN_CALLBACK: i32 = 11;
const GET_NETWORK_COOKIE: i32 = 122;
const WRITE_TO_RING: i32 = 130;
/// `BPF_RB_FORCE_WAKEUP`: wakes the waiter whether or not it has read earlier records.
const WAKE: i32 = 2;

/// Offsets in `struct bpf_sock_ops` and `struct bpf_sock`.
const OPERATION: i16 = 0;
const TYPE: i16 = 8;
const STATE: i16 = 72;

const LISTENS: i32 = 10;
const NO_CONNECTION: i32 = 7;

const PAGE: usize = 4096;
const SECOND_PAGE: libc::off_t = 4096;
/// `SO_NETNS_COOKIE` of the generic ABI.
const NETWORK_COOKIE: libc::c_int = 71;

/// The bell. The kernel's programs end with it.
pub(super) struct Bell {
    ring: AsyncFd<OwnedFd>,
    positions: Positions,
    /// Each keeps a program attached.
    _links: Vec<OwnedFd>,
}

impl Bell {
    /// Attaches the bell to all control groups below `groups`.
    ///
    /// # Errors
    /// This kernel has no BPF, or lacks part of what is needed.
    pub(super) fn hang(groups: &Path) -> io::Result<Self> {
        // SAFETY: kind, no keys, no values, bytes; no addresses.
        let ring = unsafe { bpf(MAP_CREATE, &[MAP_OF_RING, 0, 0, PAGE as u32]) }?;
        let positions = Positions::map(&ring)?;
        let groups = File::open(groups)?;
        let cookie = network_cookie()?;
        let mut links = Vec::new();
        for (kind, place, when) in [
            (PROGRAM_OF_CONNECTIONS, AT_CONNECTIONS, When::Listens),
            (PROGRAM_OF_SOCKETS, AT_BIND_4, When::TakesDatagrams),
            (PROGRAM_OF_SOCKETS, AT_BIND_6, When::TakesDatagrams),
            (PROGRAM_OF_SOCKETS, AT_RELEASE, When::Ends),
        ] {
            let program = load(kind, place, &program(when, cookie, ring.as_raw_fd()))?;
            // SAFETY: program, control group, place, flags; no addresses.
            links.push(unsafe { bpf(LINK_CREATE, &[number(&program), number(&groups), place, 0]) }?);
        }
        Ok(Self { ring: readiness::watch(ring)?, positions, _links: links })
    }

    /// Returns when the bell has rung since the last return. May be dropped while it waits.
    pub(super) async fn rung(&self) -> io::Result<()> {
        let mut ready = self.ring.readable().await?;
        ready.clear_ready();
        self.positions.skip_all();
        Ok(())
    }
}

/// The two counters of a ring buffer: all bytes ever read, and ever written.
struct Positions {
    read: NonNull<c_void>,
    written: NonNull<c_void>,
}

// SAFETY: both are addresses of pages shared with the kernel, used by atomic operations only and unmapped by Drop
// alone.
unsafe impl Send for Positions {}
// SAFETY: as above.
unsafe impl Sync for Positions {}

impl Positions {
    /// A ring's first page may be written by its reader, the next one only by the kernel (`kernel/bpf/ringbuf.c`).
    fn map(ring: &OwnedFd) -> io::Result<Self> {
        let Some(page) = NonZeroUsize::new(PAGE) else { return Err(io::ErrorKind::InvalidInput.into()) };
        let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address the kernel chooses touches no memory that is in use.
        let read = unsafe { mmap(None, page, both, MapFlags::MAP_SHARED, ring, 0) }?;
        // SAFETY: as above.
        match unsafe { mmap(None, page, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, ring, SECOND_PAGE) } {
            Ok(written) => Ok(Self { read, written }),
            Err(errno) => {
                // SAFETY: this page was mapped above and nothing points into it.
                unsafe { munmap(read, PAGE) }?;
                Err(errno.into())
            }
        }
    }

    /// Marks everything written as read. Only the fact of a record matters, not its contents.
    fn skip_all(&self) {
        // SAFETY: the page is mapped until Drop, begins with an aligned 64-bit counter, and the kernel changes it by
        // atomic stores.
        let written = unsafe { self.written.cast::<AtomicU64>().as_ref() };
        // SAFETY: as above.
        let read = unsafe { self.read.cast::<AtomicU64>().as_ref() };
        read.store(written.load(Ordering::Acquire), Ordering::Release);
    }
}

impl Drop for Positions {
    fn drop(&mut self) {
        for page in [self.read, self.written] {
            // SAFETY: mapped by `map`, and no reference into it outlives a call of `skip_all`.
            if let Err(errno) = unsafe { munmap(page, PAGE) } {
                tracing::debug!("a page of the bell stays mapped: {errno}");
            }
        }
    }
}

/// The event a program rings for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Listens,
    TakesDatagrams,
    Ends,
}

/// One instruction of BPF: operation, registers, offset, immediate.
#[derive(Clone, Copy)]
struct Instruction(u8, u8, u8, i16, i32);

impl Instruction {
    fn encode(self) -> u64 {
        let Self(operation, to, from, offset, value) = self;
        u64::from(operation)
            | u64::from(to) << 8
            | u64::from(from) << 12
            | u64::from(offset.cast_unsigned()) << 16
            | u64::from(value.cast_unsigned()) << 32
    }
}

/// Operations (RFC 9669) that are used here.
const LOAD_WORD: u8 = 0x61;
const LOAD_WIDE: u8 = 0x18;
const STORE_WIDE: u8 = 0x7a;
const COPY: u8 = 0xbf;
const SET: u8 = 0xb7;
const ADD: u8 = 0x07;
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const JUMP_UNLESS_SAME: u8 = 0x5d;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

/// A program that writes to `ring` when the event `when` happens in the network namespace of that cookie. It never
/// interferes with the event.
fn program(when: When, cookie: u64, ring: i32) -> Vec<u64> {
    let (cookie_low, cookie_high) = (cookie as u32, (cookie >> 32) as u32);
    let ring_it: [Instruction; 12] = [
        Instruction(CALL, 0, 0, 0, GET_NETWORK_COOKIE),
        Instruction(LOAD_WIDE, 1, 0, 0, cookie_low.cast_signed()),
        Instruction(0, 0, 0, 0, cookie_high.cast_signed()),
        Instruction(JUMP_UNLESS_SAME, 0, 1, 8, 0),
        Instruction(STORE_WIDE, 10, 0, -8, 0),
        // 1: the value is a map's descriptor.
        Instruction(LOAD_WIDE, 1, 1, 0, ring),
        Instruction(0, 0, 0, 0, 0),
        Instruction(COPY, 2, 10, 0, 0),
        Instruction(ADD, 2, 0, 0, -8),
        Instruction(SET, 3, 0, 0, 8),
        Instruction(SET, 4, 0, 0, WAKE),
        Instruction(CALL, 0, 0, 0, WRITE_TO_RING),
    ];
    let allow = [Instruction(SET, 0, 0, 0, 1), Instruction(EXIT, 0, 0, 0, 0)];
    // Past the twelve instructions above, and `more`.
    let past = |more: i16| 12 + more;
    let datagrams = libc::SOCK_DGRAM;
    let condition = match when {
        When::Listens => vec![
            Instruction(LOAD_WORD, 2, 1, OPERATION, 0),
            Instruction(JUMP_UNLESS_EQUAL, 2, 0, past(0), LISTEN_CALLBACK),
        ],
        When::TakesDatagrams => {
            vec![Instruction(LOAD_WORD, 2, 1, TYPE, 0), Instruction(JUMP_UNLESS_EQUAL, 2, 0, past(0), datagrams)]
        }
        When::Ends => vec![
            Instruction(LOAD_WORD, 2, 1, STATE, 0),
            Instruction(JUMP_IF_EQUAL, 2, 0, 3, LISTENS),
            Instruction(JUMP_UNLESS_EQUAL, 2, 0, past(2), NO_CONNECTION),
            Instruction(LOAD_WORD, 2, 1, TYPE, 0),
            Instruction(JUMP_UNLESS_EQUAL, 2, 0, past(0), datagrams),
        ],
    };
    condition.into_iter().chain(ring_it).chain(allow).map(Instruction::encode).collect()
}

/// The part of `union bpf_attr` that loads a program.
#[repr(C)]
#[derive(Default)]
struct Loading {
    kind: u32,
    instructions: u32,
    instructions_at: u64,
    license_at: u64,
    log: [u32; 4],
    kernel_version: u32,
    flags: u32,
    name: [u32; 4],
    interface: u32,
    place: u32,
}

fn load(kind: u32, place: u32, program: &[u64]) -> io::Result<OwnedFd> {
    // None of the helpers these programs call needs another license.
    let license = c"Apache-2.0";
    let loading = Loading {
        kind,
        instructions: program.len() as u32,
        instructions_at: program.as_ptr().addr() as u64,
        license_at: license.as_ptr().addr() as u64,
        place,
        ..Loading::default()
    };
    // SAFETY: both addresses are of constants in scope, and the program has as many instructions as the length.
    unsafe { bpf(PROGRAM_LOAD, &loading) }
}

fn number(descriptor: &impl AsRawFd) -> u32 {
    descriptor.as_raw_fd().cast_unsigned()
}

/// `bpf(2)` with a command that makes a descriptor.
///
/// # Safety
/// `attributes` must be a part of `union bpf_attr` that fits the command, and addresses in it must be of what that
/// says.
unsafe fn bpf<Attributes>(command: u32, attributes: &Attributes) -> io::Result<OwnedFd> {
    let at = std::ptr::from_ref(attributes);
    // SAFETY: the attributes are readable for their whole size, and the caller vouches for what they point to.
    let made = unsafe { libc::syscall(libc::SYS_bpf, command, at, size_of::<Attributes>()) };
    match i32::try_from(made) {
        // SAFETY: the kernel made this descriptor for this call, and nobody else has it.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The number of this network namespace, as BPF programs see it.
fn network_cookie() -> io::Result<u64> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut cookie = 0_u64;
    let mut bytes = size_of::<u64>() as libc::socklen_t;
    let (value, length) = ((&raw mut cookie).cast(), &raw mut bytes);
    // SAFETY: both point to variables that outlive the call, and the length is the value's own.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, NETWORK_COOKIE, value, length) };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// The root of control groups, version 2, where this computer has it.
    fn groups() -> Option<&'static Path> {
        let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        places.into_iter().find(|place| place.join("cgroup.controllers").exists())
    }

    /// The bell, where this computer allows one; elsewhere the end-to-end suites test it.
    fn bell() -> Option<Bell> {
        Bell::hang(groups()?).inspect_err(|error| eprintln!("not tested here: {error}")).ok()
    }

    #[tokio::test]
    async fn the_bell_rings_when_listening_starts_and_stops() {
        let Some(bell) = bell() else { return };
        let rings = async || timeout(Duration::from_secs(10), bell.rung()).await.unwrap().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        rings().await;
        drop(listener);
        rings().await;
        let socket = std::net::UdpSocket::bind("[::1]:0").unwrap();
        rings().await;
        drop(socket);
        rings().await;
    }

    #[test]
    fn instructions_are_as_the_standard_has_them() {
        assert_eq!(Instruction(STORE_WIDE, 10, 0, -8, 0).encode(), 0x0000_0000_fff8_0a7a);
        assert_eq!(Instruction(JUMP_UNLESS_SAME, 0, 1, 8, 0).encode(), 0x0000_0000_0008_105d);
        assert_eq!(Instruction(SET, 0, 0, 0, 1).encode(), 0x0000_0001_0000_00b7);
    }
}
