//! Filters and Landlock cannot be removed again, so each case runs in a process of its own: this test program, started
//! again.

use std::ffi::CString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{self, Command, Output};
use std::{env, io, ptr, thread};

use super::paths::{Landlock, Network, Paths};
use super::*;
use crate::devices::VirtioDevice;
use crate::devices::console::ConsoleDevice;
use crate::devices::rng::RngDevice;
use crate::devices::tests::queues::{Descriptor, TestQueues};

/// Variable that names the case to the process that runs it.
const CASE: &str = "RORQUAL_CONFINEMENT_CASE";
/// Variable that makes the tests of devices call them on threads with the device's filter.
const DEVICES: &str = "RORQUAL_CONFINEMENT_DEVICES";

const KINDS: [(&str, Thread); 12] = [
    ("cpu", Thread::Processor),
    ("block", Thread::Device(2)),
    ("console-device", Thread::Device(3)),
    ("rng", Thread::Device(4)),
    ("balloon", Thread::Device(5)),
    ("vsock", Thread::Device(19)),
    ("vhost", Thread::VhostMessages),
    ("relay", Thread::Relay),
    ("console", Thread::Console),
    ("control", Thread::Control),
    ("guest-end", Thread::GuestEnd),
    ("main", Thread::Main),
];

static BEGUN: std::sync::Once = std::sync::Once::new();

/// For tests of devices: calls `call` as the thread of a device of this type would.
pub(crate) fn as_device<T: Send>(device_type: u32, call: impl FnOnce() -> T + Send) -> T {
    if env::var_os(DEVICES).is_none() {
        return call();
    }
    BEGUN.call_once(|| begin(GuestKind::Threads).unwrap());
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(Thread::Device(device_type));
            call()
        });
        thread.join().unwrap()
    })
}

fn run(filter: &[&str], variable: &str, value: &str) -> Output {
    Command::new(env::current_exe().unwrap())
        .args(filter)
        // `begin` does this in the monitor, which has one thread then; a test program has more.
        .env("MALLOC_ARENA_MAX", "1")
        .env(variable, value)
        .output()
        .unwrap()
}

fn case(name: &str) -> Output {
    run(&["--exact", "confinement::tests::a_case_in_a_process_of_its_own", "--nocapture"], CASE, name)
}

/// Runs a case that must succeed.
fn passes(name: &str) {
    let output = case(name);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {:?} {said}", output.status);
    assert!(String::from_utf8_lossy(&output.stdout).contains("survived"), "{name} did not run");
}

/// A thread of this kind that makes this call ends the process, which names both.
fn dies(kind: &str, call: &str) {
    let output = case(&format!("{kind}/{call}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(DENIED_STATUS), "{kind}/{call}: {said}");
    let line = format!("thread {kind} made system call {}, which", number_of(call));
    assert!(said.contains(&line), "{kind}/{call}: {said}");
}

fn number_of(call: &str) -> libc::c_long {
    match call {
        "openat" => libc::SYS_openat,
        "execve" => libc::SYS_execve,
        "internet" | "unix" => libc::SYS_socket,
        "executable-memory" => libc::SYS_mmap,
        "ptrace" => libc::SYS_ptrace,
        "signal-handler" => libc::SYS_rt_sigaction,
        "kill" => libc::SYS_kill,
        "thread" => libc::SYS_clone3,
        "io_uring_setup" => libc::SYS_io_uring_setup,
        "fallocate" => libc::SYS_fallocate,
        "ioctl" => libc::SYS_ioctl,
        "unlink" => libc::SYS_unlinkat,
        other => panic!("no such call: {other}"),
    }
}

fn make(call: &str) {
    let path = CString::new("/etc/passwd").unwrap();
    let none: *const libc::c_void = ptr::null();
    let number = number_of(call);
    // SAFETY: every call fails or leaves this process's memory alone: the path is valid, the other pointers are null,
    // and the new mapping has fresh pages.
    unsafe {
        match call {
            "openat" => libc::syscall(number, libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY),
            "execve" => libc::syscall(number, path.as_ptr(), none, none),
            "internet" => libc::syscall(number, libc::AF_INET, libc::SOCK_STREAM, 0),
            "unix" => libc::syscall(number, libc::AF_UNIX, libc::SOCK_STREAM, 0),
            "executable-memory" => libc::syscall(
                number,
                none,
                4096,
                libc::PROT_READ | libc::PROT_EXEC,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            ),
            "kill" => libc::syscall(number, libc::getpid(), 0),
            "unlink" => libc::syscall(number, libc::AT_FDCWD, c"/does/not/exist".as_ptr(), 0),
            "ioctl" => libc::syscall(number, 0, libc::TIOCSTI, none),
            _ => libc::syscall(number, none, none, none, none),
        }
    };
}

#[test]
fn a_case_in_a_process_of_its_own() {
    let Ok(case) = env::var(CASE) else { return };
    match case.as_str() {
        "files" => only_own_files(),
        "network-denied" => network(Network::Denied),
        "network-allowed" => network(Network::Allowed),
        "others" => no_other_programs(),
        "control-works" => control_works(),
        "devices-without-files" => devices_work(),
        case => {
            let (kind, call) = case.split_once('/').unwrap();
            let thread = KINDS.into_iter().find(|(name, _)| *name == kind).unwrap().1;
            begin(GuestKind::Threads).unwrap();
            let call = call.to_owned();
            let body = move || {
                enter(thread);
                make(&call);
            };
            thread::Builder::new().name(kind.to_owned()).spawn(body).unwrap().join().unwrap();
        }
    }
    println!("survived");
}

#[test]
fn no_thread_executes_traces_maps_executable_memory_or_changes_a_signal_handler() {
    for (kind, _) in KINDS {
        for call in ["execve", "ptrace", "executable-memory", "signal-handler", "kill", "internet", "io_uring_setup"] {
            dies(kind, call);
        }
    }
}

#[test]
fn threads_that_serve_the_guest_open_remove_and_start_nothing() {
    for kind in ["cpu", "block", "console-device", "rng", "balloon", "vsock", "vhost"] {
        for call in ["openat", "unlink", "thread", "ioctl"] {
            dies(kind, call);
        }
    }
    for kind in ["cpu", "block", "rng", "balloon", "vhost", "relay", "console", "control", "main"] {
        dies(kind, "unix");
    }
    for kind in ["cpu", "rng", "vsock"] {
        dies(kind, "fallocate");
    }
}

#[test]
fn what_a_thread_needs_it_may_do() {
    passes("block/fallocate");
    passes("vsock/unix");
    passes("console/openat");
    passes("control-works");
    passes("devices-without-files");
}

#[test]
fn landlock_leaves_the_machines_own_files_and_nothing_else() {
    passes("files");
    passes("network-denied");
    passes("network-allowed");
    passes("others");
}

/// Runs the tests of the devices again, each call of a device on a thread with that device's filter, which must permit
/// it.
#[test]
fn the_devices_do_all_their_tests_ask_with_their_filters_on() {
    if env::var_os(DEVICES).is_some() || env::var_os(CASE).is_some() {
        return;
    }
    let output = run(&["devices::", "attachment::"], DEVICES, "1");
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Landlock's version here; cases pass that need a newer one than this kernel has.
fn restricted(paths: &Paths) -> u32 {
    begin(GuestKind::Threads).unwrap();
    match paths.restrict().unwrap() {
        Landlock::Abi(version) => version,
        Landlock::Absent => 0,
    }
}

fn denied<T>(answer: io::Result<T>) -> bool {
    answer.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

fn only_own_files() {
    let directory = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let foreign = outside.path().join("foreign");
    fs::write(&foreign, "not ours").unwrap();
    let mut open = File::open(&foreign).unwrap();
    let version = restricted(&Paths::none().own(directory.path()).readable("/proc/self/status"));
    let own = directory.path().join("console.log");
    fs::write(&own, "ours").unwrap();
    fs::rename(&own, directory.path().join("console.log.1")).unwrap();
    fs::create_dir(directory.path().join("snapshot")).unwrap();
    let socket = directory.path().join("control.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    UnixStream::connect(&socket).unwrap();
    fs::remove_file(&socket).unwrap();
    // Open descriptors stay usable.
    assert_eq!(io::read_to_string(&mut open).unwrap(), "not ours");
    if version > 0 {
        assert!(denied(File::open(&foreign)));
        assert!(denied(File::open("/etc/passwd")));
        assert!(denied(fs::write(&foreign, "taken over")));
        assert!(denied(fs::remove_file(&foreign)));
        assert!(denied(fs::read_dir("/")));
        assert!(denied(Command::new("/bin/true").status()));
        // Threads started from here on have no more.
        thread::spawn(move || assert!(denied(File::open(&foreign)))).join().unwrap();
    }
    // Nothing could remove these from here.
    directory.close().unwrap_err();
    drop(outside.keep());
}

fn network(network: Network) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let version = restricted(&Paths::none().network(network));
    let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    match network {
        Network::Denied if version >= 4 => assert!(denied(connected) && denied(bound)),
        _ => assert!(connected.is_ok() && bound.is_ok()),
    }
}

/// Signals and abstract sockets do not leave the monitor.
fn no_other_programs() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("rorqual-test-{}", process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
    let outside = UnixDatagram::bind_addr(&address).unwrap();
    let parent = nix::unistd::getppid();
    nix::sys::signal::kill(parent, None).unwrap();
    let version = restricted(&Paths::none());
    if version >= 6 {
        assert_eq!(nix::sys::signal::kill(parent, None), Err(nix::errno::Errno::EPERM));
        let ours = UnixDatagram::unbound().unwrap();
        assert!(denied(ours.connect_addr(&address)));
    }
    drop(outside);
}

/// Threads started by a control thread have its filter, which permits serving connections and writing a snapshot.
fn control_works() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    begin(GuestKind::Threads).unwrap();
    let listener = UnixListener::bind(path.join("control.sock")).unwrap();
    let client = UnixStream::connect(path.join("control.sock")).unwrap();
    let control = move || {
        use std::io::{Read, Write};
        enter(Thread::Control);
        let (mut connection, _) = listener.accept().unwrap();
        let serving = thread::Builder::new().name("connection".to_owned()).spawn(move || {
            let mut request = [0; 4];
            connection.read_exact(&mut request).unwrap();
            write_file(&path);
            connection.try_clone().unwrap().write_all(b"done").unwrap();
        });
        serving.unwrap().join().unwrap();
    };
    let thread = thread::spawn(control);
    io::Write::write_all(&mut &client, b"save").unwrap();
    thread.join().unwrap();
    assert_eq!(io::read_to_string(&client).unwrap(), "done");
}

fn write_file(directory: &Path) {
    use std::os::unix::fs::FileExt;
    let snapshot = directory.join("snapshot");
    fs::create_dir(&snapshot).unwrap();
    let file = File::options().create_new(true).read(true).write(true).open(snapshot.join("memory.new")).unwrap();
    file.set_len(1 << 20).unwrap();
    file.write_all_at(&vec![1; 1 << 16], 4096).unwrap();
    file.sync_all().unwrap();
    fs::rename(snapshot.join("memory.new"), snapshot.join("memory")).unwrap();
    assert_eq!(fs::read(snapshot.join("memory")).unwrap().len(), 1 << 20);
    assert_eq!(fs::read_dir(&snapshot).unwrap().count(), 1);
    fs::remove_dir_all(&snapshot).unwrap();
}

/// The devices whose tests do not use [`as_device`].
fn devices_work() {
    begin(GuestKind::Threads).unwrap();
    let log = tempfile::tempfile().unwrap();
    let (input, mut keyboard) = io::pipe().unwrap();
    io::Write::write_all(&mut keyboard, b"typed").unwrap();
    let devices: [(Box<dyn VirtioDevice>, usize); 2] = [
        (Box::new(RngDevice::new().unwrap()), 0),
        (Box::new(ConsoleDevice::new(Box::new(log), Some(input.into())).unwrap()), 1),
    ];
    for (mut device, output) in devices {
        let served = move || {
            enter(Thread::Device(device.device_type()));
            let mut queues = TestQueues::new(&[64, 64]);
            let written = Descriptor { writable: output == 0, ..Descriptor::readable(5) };
            queues.add_with(output, &[written], if output == 0 { b"" } else { b"hello" });
            device.queue_kicked(output, &mut queues).unwrap();
            queues.add(0, &[Descriptor::writable(64)]);
            device.queue_kicked(0, &mut queues).unwrap();
            device.host_event(&mut queues).unwrap();
            assert!(!queues.used(0).is_empty());
            device.reset();
        };
        thread::spawn(served).join().unwrap();
    }
}
