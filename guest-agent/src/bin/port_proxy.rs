//! The userland proxy dockerd starts for each published port. It carries no traffic: it asks the agent, which asks the
//! host, to listen; tells dockerd the verdict; and holds the port until it is ended.
//!
//! dockerd (libnetwork) starts it as `rorqual-port-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip
//! 172.17.0.2 -container-port 80`, with a pipe as descriptor 3 on which it wants `0\n`, or `1\n` and a reason, and ends
//! it by SIGINT, or SIGTERM when dockerd itself ends. An end by either is a success.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

#[path = "../ports/request.rs"]
mod request;

use request::{Protocol, PublishAnswer, PublishRequest, SOCKET};

/// Where the agent listens, if not where it does in the guest; tests say it.
const SOCKET_VARIABLE: &str = "RORQUAL_PORTS_SOCKET";
/// Descriptor dockerd wants the verdict on.
const STATUS_DESCRIPTOR: i32 = 3;

fn main() -> ExitCode {
    // SAFETY: dockerd opened descriptor 3 for this process and nothing in it has taken it yet: it is the first thing
    // done. Were it not open, writing to it would fail with EBADF and nothing else.
    let status = unsafe { File::from_raw_fd(STATUS_DESCRIPTOR) };
    match publish() {
        Ok(agent) => {
            report(status, "0\n");
            wait_for_end(agent);
            ExitCode::SUCCESS
        }
        Err(reason) => {
            report(status, &format!("1\n{reason}"));
            ExitCode::FAILURE
        }
    }
}

/// Tells dockerd the verdict and closes the pipe, which ends its reading.
fn report(mut status: File, verdict: &str) {
    if let Err(error) = status.write_all(verdict.as_bytes()) {
        eprintln!("rorqual-port-proxy: cannot tell dockerd {verdict:?}: {error}");
    }
}

/// Has the port published; it is for as long as the connection is open.
fn publish() -> Result<UnixStream, String> {
    let request = parse_arguments(std::env::args().skip(1))?;
    end_on_signals().map_err(|errno| format!("cannot handle signals: {errno}"))?;
    let socket = std::env::var_os(SOCKET_VARIABLE).unwrap_or_else(|| SOCKET.into());
    ask(&request, &socket).map_err(|error| {
        format!("the guest agent does not answer on {}: {error}; restart the machine", socket.to_string_lossy())
    })?
}

/// Asks the agent; the inner error is its refusal.
fn ask(request: &PublishRequest, socket: &std::ffi::OsStr) -> io::Result<Result<UnixStream, String>> {
    let agent = UnixStream::connect(socket)?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    (&agent).write_all(&line)?;
    let mut answer = String::new();
    BufReader::with_capacity(512, &agent).read_line(&mut answer)?;
    let answer: PublishAnswer = serde_json::from_str(&answer)?;
    Ok(if answer.bound { Ok(agent) } else { Err(answer.reason) })
}

/// Waits until the agent closes the connection, which it never does while it runs.
fn wait_for_end(mut agent: UnixStream) {
    let mut byte = [0];
    loop {
        match agent.read(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// Makes SIGINT and SIGTERM a successful end: dockerd takes any other for a failed proxy.
fn end_on_signals() -> nix::Result<()> {
    extern "C" fn end(_: libc::c_int) {
        // SAFETY: _exit is async-signal-safe and never returns.
        unsafe { libc::_exit(0) }
    }
    let action = SigAction::new(SigHandler::Handler(end), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler only calls _exit, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Reads dockerd's arguments: names with one dash, each followed by its value.
fn parse_arguments(arguments: impl Iterator<Item = String>) -> Result<PublishRequest, String> {
    let mut values = HashMap::new();
    let mut arguments = arguments;
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} has no value"))?;
        values.insert(name.trim_start_matches('-').to_owned(), value);
    }
    let value = |name: &str| values.get(name).map(String::as_str).ok_or_else(|| format!("-{name} is missing"));
    let protocol = match value("proto")? {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        other => return Err(format!("Rorqual cannot publish {other} ports: only tcp and udp can be published")),
    };
    Ok(PublishRequest {
        protocol,
        host_address: parsed("host-ip", value("host-ip")?)?,
        host_port: parsed("host-port", value("host-port")?)?,
        container_address: parsed("container-ip", value("container-ip")?)?,
        container_port: parsed("container-port", value("container-port")?)?,
    })
}

fn parsed<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("-{name} {text} is not usable"))
}
