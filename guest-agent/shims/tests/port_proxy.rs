//! rorqual-port-proxy as dockerd starts it, against a socket that plays the agent.
// Helpers of tests may unwrap as the tests themselves.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{BufRead, BufReader, IoSliceMut, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::{Pid, pipe2};

struct Fixture {
    _folder: tempfile::TempDir,
    agent: Option<UnixListener>,
    proxy: Child,
    status: File,
}

fn start(protocol: &str) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let agent = UnixListener::bind(folder.path().join("ports.sock")).unwrap();
    start_in(folder, protocol, Some(agent), None)
}

fn start_in(
    folder: tempfile::TempDir,
    protocol: &str,
    agent: Option<UnixListener>,
    listener: Option<&TcpListener>,
) -> Fixture {
    let (status, given) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rorqual-port-proxy"));
    command
        .args(["-proto", protocol, "-host-ip", "0.0.0.0", "-host-port", "8080"])
        .args(["-container-ip", "172.17.0.2", "-container-port", "80"])
        .args(listener.is_some().then_some("-use-listen-fd"))
        .env("RORQUAL_PORTS_SOCKET", folder.path().join("ports.sock"));
    // Above the numbers they get in the proxy, so that neither is overwritten before it is copied.
    let above = |descriptor: &dyn AsFd| fcntl(descriptor.as_fd(), FcntlArg::F_DUPFD_CLOEXEC(10)).unwrap();
    let given_number = above(&given);
    let listener_number = listener.map(|listener| above(listener));
    // SAFETY: dup2 is async-signal-safe, and the descriptors are plain numbers.
    unsafe {
        command.pre_exec(move || {
            let given = [(Some(given_number), 3), (listener_number, 4)];
            for (from, to) in given.into_iter().filter_map(|(from, to)| Some((from?, to))) {
                if libc::dup2(from, to) != to {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    let proxy = command.spawn().unwrap();
    for number in [Some(given_number), listener_number].into_iter().flatten() {
        nix::unistd::close(number).unwrap();
    }
    drop::<OwnedFd>(given);
    Fixture { _folder: folder, agent, proxy, status: File::from(status) }
}

impl Fixture {
    fn accept(&self) -> (UnixStream, String) {
        let (connection, _) = self.agent.as_ref().unwrap().accept().unwrap();
        let mut request = Vec::new();
        let mut words = BufReader::new(&connection);
        while !request.ends_with(b"\0\0") {
            assert_ne!(words.read_until(0, &mut request).unwrap(), 0, "{request:?}");
        }
        (connection, String::from_utf8(request).unwrap())
    }

    fn status(&mut self) -> String {
        let mut status = String::new();
        self.status.read_to_string(&mut status).unwrap();
        status
    }
}

#[test]
fn a_bound_port_is_reported_and_held_until_the_proxy_is_interrupted() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut fixture = start("tcp");
        let (mut agent, request) = fixture.accept();
        let words: Vec<_> = request.split('\0').skip(1).collect();
        let expected = [
            "-proto",
            "tcp",
            "-host-ip",
            "0.0.0.0",
            "-host-port",
            "8080",
            "-container-ip",
            "172.17.0.2",
            "-container-port",
            "80",
            "",
            "",
        ];
        assert_eq!(words, expected);
        agent.write_all(b"0\n").unwrap();
        assert_eq!(fixture.status(), "0\n");
        assert!(fixture.proxy.try_wait().unwrap().is_none());
        kill(Pid::from_raw(fixture.proxy.id().cast_signed()), signal).unwrap();
        assert_eq!(agent.read(&mut [0]).unwrap(), 0);
        // dockerd may bind the port again once the proxy has ended, so that waits for the agent to let go of it.
        assert!(fixture.proxy.try_wait().unwrap().is_none());
        drop(agent);
        assert!(fixture.proxy.wait().unwrap().success());
    }
}

#[test]
fn the_socket_dockerd_has_bound_travels_with_the_request_and_the_proxy_keeps_none() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let agent = UnixListener::bind(folder.path().join("ports.sock")).unwrap();
    let mut fixture = start_in(folder, "tcp", Some(agent), Some(&listener));
    drop(listener);
    let (mut connection, _) = fixture.agent.as_ref().unwrap().accept().unwrap();
    let mut control = nix::cmsg_space!(RawFd);
    let mut request = [0; 1024];
    let mut parts = [IoSliceMut::new(&mut request)];
    let received = recvmsg::<()>(connection.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty()).unwrap();
    let passed = received.cmsgs().unwrap().find_map(|message| match message {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    let length = received.bytes;
    assert!(request[..length].ends_with(b"-use-listen-fd\0\0"));
    // SAFETY: the kernel has just made the descriptor, and nothing else owns it.
    let socket = TcpListener::from(unsafe { OwnedFd::from_raw_fd(passed.unwrap()) });
    assert_eq!(socket.local_addr().unwrap(), port);
    connection.write_all(b"0\n").unwrap();
    assert_eq!(fixture.status(), "0\n");
    drop(socket);
    assert!(TcpStream::connect(port).is_err(), "the proxy still listens");
    drop(connection);
    assert!(fixture.proxy.wait().unwrap().success());
}

#[test]
fn a_refusal_is_reported_with_its_reason() {
    let mut fixture = start("udp");
    let (mut agent, request) = fixture.accept();
    assert!(request.contains("-proto\0udp\0"), "{request}");
    agent.write_all(b"1\naddress already in use: nginx").unwrap();
    drop(agent);
    assert_eq!(fixture.status(), "1\naddress already in use: nginx");
    assert!(!fixture.proxy.wait().unwrap().success());
}

#[test]
fn an_agent_that_ends_ends_the_proxy() {
    let mut fixture = start("tcp");
    let (mut agent, _) = fixture.accept();
    agent.write_all(b"0\n").unwrap();
    assert_eq!(fixture.status(), "0\n");
    drop(agent);
    assert!(fixture.proxy.wait().unwrap().success());
}

#[test]
fn an_agent_that_hangs_up_without_a_verdict_is_a_failure() {
    let mut fixture = start("tcp");
    drop(fixture.accept());
    assert!(fixture.status().starts_with("1\nthe guest agent gave no answer"));
    assert!(!fixture.proxy.wait().unwrap().success());
}

#[test]
fn without_an_agent_the_reason_says_what_to_do() {
    let mut fixture = start_in(tempfile::tempdir().unwrap(), "tcp", None, None);
    let status = fixture.status();
    assert!(
        status.starts_with("1\nthe guest agent does not answer") && status.ends_with("restart the machine"),
        "{status}"
    );
    assert!(!fixture.proxy.wait().unwrap().success());
}

#[test]
fn arguments_beyond_all_bounds_are_refused() {
    let mut fixture = start(&"t".repeat(2000));
    assert_eq!(fixture.status(), "1\ndockerd's arguments for the port proxy are too long");
    assert!(!fixture.proxy.wait().unwrap().success());
}
