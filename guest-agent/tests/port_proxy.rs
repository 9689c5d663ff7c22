//! rorqual-port-proxy as dockerd starts it, against a socket that plays the agent.
// Helpers of tests may unwrap as the tests themselves.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};

struct Fixture {
    _folder: tempfile::TempDir,
    agent: UnixListener,
    proxy: Child,
    status: File,
}

fn start(protocol: &str) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ports.sock");
    let agent = UnixListener::bind(&socket).unwrap();
    let (status, given) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let given_number = given.as_raw_fd();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rorqual-port-proxy"));
    command
        .args(["-proto", protocol, "-host-ip", "0.0.0.0", "-host-port", "8080"])
        .args(["-container-ip", "172.17.0.2", "-container-port", "80"])
        .env("RORQUAL_PORTS_SOCKET", &socket);
    // SAFETY: dup2 is async-signal-safe, and both descriptors are plain numbers.
    unsafe {
        command.pre_exec(move || match libc::dup2(given_number, 3) {
            3 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let proxy = command.spawn().unwrap();
    drop::<OwnedFd>(given);
    Fixture { _folder: folder, agent, proxy, status: File::from(status) }
}

impl Fixture {
    fn accept(&self) -> (UnixStream, String) {
        let (connection, _) = self.agent.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&connection).read_line(&mut line).unwrap();
        (connection, line)
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
        assert_eq!(
            request,
            "{\"protocol\":\"tcp\",\"host_address\":\"0.0.0.0\",\"host_port\":8080,\
             \"container_address\":\"172.17.0.2\",\"container_port\":80}\n"
        );
        agent.write_all(b"{\"bound\":true}\n").unwrap();
        assert_eq!(fixture.status(), "0\n");
        assert!(fixture.proxy.try_wait().unwrap().is_none());
        kill(Pid::from_raw(fixture.proxy.id().cast_signed()), signal).unwrap();
        assert!(fixture.proxy.wait().unwrap().success());
        assert_eq!(agent.read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn a_refusal_is_reported_with_its_reason() {
    let mut fixture = start("udp");
    let (mut agent, request) = fixture.accept();
    assert!(request.contains("\"udp\""), "{request}");
    agent.write_all(b"{\"bound\":false,\"reason\":\"address already in use: nginx\"}\n").unwrap();
    assert_eq!(fixture.status(), "1\naddress already in use: nginx");
    assert!(!fixture.proxy.wait().unwrap().success());
}

#[test]
fn an_agent_that_ends_ends_the_proxy() {
    let mut fixture = start("tcp");
    let (mut agent, _) = fixture.accept();
    agent.write_all(b"{\"bound\":true}\n").unwrap();
    assert_eq!(fixture.status(), "0\n");
    drop(agent);
    assert!(fixture.proxy.wait().unwrap().success());
}

#[test]
fn an_agent_that_hangs_up_without_a_verdict_is_a_failure() {
    let mut fixture = start("tcp");
    drop(fixture.accept());
    assert!(fixture.status().starts_with("1\nthe guest agent does not answer"));
    assert!(!fixture.proxy.wait().unwrap().success());
}

#[test]
fn a_protocol_that_cannot_be_published_is_refused_in_plain_words() {
    let mut fixture = start("sctp");
    assert_eq!(fixture.status(), "1\nRorqual cannot publish sctp ports: only tcp and udp can be published");
    assert!(!fixture.proxy.wait().unwrap().success());
}
