//! The control socket: one JSON object per line each way (docs/contracts.md, "rorqual-vmm"), one thread per connection.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rorqual_vmm_protocol::{Answer, Empty, Failure, FailureCode, MAX_REQUEST_BYTES, Request, SaveProgress};
use serde::Serialize;
use tracing::{debug, error};

use crate::confinement::{self, Thread};
use crate::descriptors::Receiver;
use crate::machine::Machine;
use crate::net::publications::Publisher;

/// The socket before it is served. Connections wait.
#[derive(Debug)]
pub(crate) struct BoundControlSocket {
    listener: UnixListener,
    socket: SocketFile,
}

/// The socket while the machine lives. Dropping it removes the file.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    _socket: SocketFile,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            debug!(socket = %self.0.display(), "cannot remove the control socket: {error}");
        }
    }
}

impl ControlSocket {
    /// Listens at `path`. Replaces a file on which nobody listens.
    pub(crate) fn bind(path: &Path) -> Result<BoundControlSocket, Failure> {
        if path.exists() {
            match UnixStream::connect(path) {
                Ok(_) => {
                    return Err(in_use(path));
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
                    .map_err(|error| Failure::of_file("replace the old control socket", path, &error))?,
                Err(error) => return Err(Failure::of_file("connect to the control socket", path, &error)),
            }
        }
        let listener = UnixListener::bind(path).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => in_use(path),
            _ => Failure::of_file("listen on the control socket", path, &error),
        })?;
        let socket = SocketFile(path.to_owned());
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
            .map_err(|error| Failure::of_file("protect the control socket", path, &error))?;
        Ok(BoundControlSocket { listener, socket })
    }
}

fn in_use(path: &Path) -> Failure {
    Failure::new(FailureCode::SocketInUse, format!("another monitor listens on {}", path.display()))
        .with_fix("stop that machine first")
}

impl BoundControlSocket {
    /// Starts to serve `machine`.
    pub(crate) fn serve(self, machine: Arc<Machine>) -> Result<ControlSocket, Failure> {
        let Self { listener, socket } = self;
        let accepting = move || {
            confinement::enter(Thread::Control);
            for connection in listener.incoming() {
                let served = connection.and_then(|connection| {
                    let machine = machine.clone();
                    thread::Builder::new().name("control".to_owned()).spawn(move || {
                        if let Err(error) = converse(&machine, &connection) {
                            debug!("a connection of the control socket ended: {error}");
                        }
                    })
                });
                if let Err(error) = served {
                    error!("the control socket cannot serve a connection: {error}");
                    thread::sleep(Duration::from_millis(100));
                }
            }
        };
        thread::Builder::new()
            .name("control-accept".to_owned())
            .spawn(accepting)
            .map_err(|error| Failure::internal("start a thread for the control socket", error))?;
        Ok(ControlSocket { _socket: socket })
    }
}

/// Answers the requests of one connection until it ends.
fn converse(machine: &Machine, connection: &UnixStream) -> io::Result<()> {
    let mut requests = BufReader::new(Receiver::new(connection));
    let mut publisher = None;
    let mut line = String::new();
    loop {
        line.clear();
        let length = requests.by_ref().take(MAX_REQUEST_BYTES).read_line(&mut line)?;
        if length == 0 {
            return Ok(());
        }
        if !line.ends_with('\n') && length as u64 == MAX_REQUEST_BYTES {
            let message = format!("the request is longer than {} KiB", MAX_REQUEST_BYTES >> 10);
            return answer::<Empty>(connection, Err(Failure::new(FailureCode::ConfigInvalid, message)));
        }
        match serde_json::from_str(&line) {
            Ok(Request::State {}) => answer(connection, Ok(machine.state()))?,
            Ok(Request::Stats {}) => answer(connection, Ok(machine.stats()))?,
            Ok(Request::Stop {}) => done(connection, machine.stop())?,
            Ok(Request::ResizeDisk { id }) => answer(connection, machine.resize_disk(&id))?,
            Ok(Request::Pause {}) => done(connection, machine.pause())?,
            Ok(Request::Resume {}) => done(connection, machine.resume())?,
            Ok(Request::Save { directory }) => done(connection, save(machine, connection, &directory))?,
            Ok(Request::SetBalloon { bytes }) => answer(connection, machine.set_balloon(bytes))?,
            Ok(Request::PublishDatagrams { id, to }) => {
                let published = published(machine, &mut publisher, requests.get_mut())
                    .and_then(|(publisher, socket)| Ok(publisher.datagrams(id, socket, to)?));
                done(connection, published)?;
            }
            Ok(Request::PublishConnection { id, to }) => {
                let published = published(machine, &mut publisher, requests.get_mut())
                    .and_then(|(publisher, socket)| Ok(publisher.connection(id, socket, to)?));
                done(connection, published)?;
            }
            Ok(Request::EndPublication { id }) => {
                let ended = publisher.as_ref().map_or(Ok(()), |publisher: &Publisher| publisher.end(id));
                done(connection, ended.map_err(Failure::from))?;
            }
            Ok(Request::Kill {}) => {
                // Answered first: the machine may have ended before this thread runs again.
                done(connection, Ok(()))?;
                machine.kill();
            }
            Ok(Request::Watch {}) => {
                done(connection, Ok(()))?;
                machine.watch(connection.try_clone()?);
            }
            Err(error) => {
                let message = format!("the line is not a request: {error}");
                done(connection, Err(Failure::new(FailureCode::ConfigInvalid, message)))?;
            }
        }
    }
}

/// The connection's publisher, created at its first use, and the socket that came with a request.
fn published<'a>(
    machine: &Machine,
    publisher: &'a mut Option<Publisher>,
    received: &mut Receiver<'_>,
) -> Result<(&'a Publisher, OwnedFd), Failure> {
    let socket = received.take().ok_or_else(|| {
        Failure::new(
            FailureCode::ConfigInvalid,
            "the request came without a socket; it must be passed with the line (SCM_RIGHTS)",
        )
    })?;
    let publisher = match publisher {
        Some(publisher) => publisher,
        None => publisher.insert(machine.publisher()?),
    };
    Ok((publisher, socket))
}

/// Saves the machine and reports its progress, once per percent. A client that hangs up cancels it.
fn save(machine: &Machine, connection: &UnixStream, directory: &Path) -> Result<(), Failure> {
    let mut reported = None;
    machine.save(directory, &mut |done_bytes, total_bytes| {
        let percent = done_bytes * 100 / total_bytes.max(1);
        if reported == Some(percent) {
            return Ok(());
        }
        reported = Some(percent);
        let progress = Answer::<Empty>::Progress(SaveProgress { done_bytes, total_bytes });
        send(connection, &progress).map_err(|_| io::ErrorKind::Interrupted.into())
    })
}

fn done(to: &UnixStream, outcome: Result<(), Failure>) -> io::Result<()> {
    answer(to, outcome.map(|()| Empty {}))
}

fn answer<T: Serialize>(to: &UnixStream, outcome: Result<T, Failure>) -> io::Result<()> {
    send(to, &outcome.map_or_else(Answer::Error, Answer::Ok))
}

fn send(mut to: &UnixStream, line: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(line)?;
    line.push(b'\n');
    to.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_in_use_is_refused_and_a_dead_one_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let first = ControlSocket::bind(&path).unwrap();
        assert_eq!(ControlSocket::bind(&path).unwrap_err().code, FailureCode::SocketInUse);
        assert!(path.exists());
        // As a killed monitor leaves it: the file without a listener.
        let BoundControlSocket { listener, socket } = first;
        drop(listener);
        std::mem::forget(socket);
        assert!(ControlSocket::bind(&path).is_ok());
    }
}
