//! The control socket: one JSON object per line each way (docs/architecture.md, "rorqual-vmm"). One thread per connection.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use serde::Deserialize;
use serde_json::{Value, json};
use tracing::{debug, error};

use crate::confinement::{self, Thread};
use crate::descriptors::Receiver;
use crate::error::{ErrorCode, Failure};
use crate::machine::Machine;
use crate::net::publications::Publisher;

/// No request is longer.
const REQUEST_BYTES_MAX: u64 = 64 << 10;

#[derive(Debug, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
enum Request {
    State {},
    Stats {},
    Stop {},
    Kill {},
    Watch {},
    ResizeDisk { id: String },
    Pause {},
    Resume {},
    Save { directory: PathBuf },
    SetBalloon { bytes: u64 },
    PublishDatagrams { id: u64, to: SocketAddr },
    PublishConnection { id: u64, to: SocketAddr },
    EndPublication { id: u64 },
}

/// The socket before anyone is served. Connections wait.
#[derive(Debug)]
pub struct BoundControlSocket {
    listener: UnixListener,
    socket: SocketFile,
}

/// The socket while the machine lives; the file goes with it.
#[derive(Debug)]
pub struct ControlSocket {
    _socket: SocketFile,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            debug!(socket = %self.0.display(), "the control socket could not be removed: {error}");
        }
    }
}

impl ControlSocket {
    /// Listens at `path`. A file nobody listens on any more is replaced.
    pub fn bind(path: &Path) -> Result<BoundControlSocket, Failure> {
        if path.exists() {
            match UnixStream::connect(path) {
                Ok(_) => {
                    let message = format!("another monitor listens on {}; stop that machine first", path.display());
                    return Err(Failure::new(ErrorCode::SocketInUse, message));
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
                    .map_err(|error| Failure::of_file("replace the dead control socket", path, &error))?,
                Err(error) => return Err(Failure::of_file("look at the control socket", path, &error)),
            }
        }
        let listener = UnixListener::bind(path).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                Failure::new(ErrorCode::SocketInUse, format!("another monitor listens on {}", path.display()))
            }
            _ => Failure::of_file("listen on the control socket", path, &error),
        })?;
        let socket = SocketFile(path.to_owned());
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
            .map_err(|error| Failure::of_file("protect the control socket", path, &error))?;
        Ok(BoundControlSocket { listener, socket })
    }
}

impl BoundControlSocket {
    /// Starts to serve `machine`.
    pub fn serve(self, machine: Arc<Machine>) -> Result<ControlSocket, Failure> {
        let Self { listener, socket } = self;
        let accepting = move || {
            confinement::enter(Thread::Control);
            for connection in listener.incoming() {
                let served = connection.and_then(|connection| {
                    let machine = machine.clone();
                    thread::Builder::new().name("control".to_owned()).spawn(move || {
                        if let Err(error) = converse(&machine, &connection) {
                            debug!("a control connection ended: {error}");
                        }
                    })
                });
                if let Err(error) = served {
                    error!("the control socket cannot serve a connection: {error}");
                    thread::sleep(std::time::Duration::from_millis(100));
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

/// Whether `line` is a request.
pub(crate) fn is_request(line: &str) -> bool {
    serde_json::from_str::<Request>(line).is_ok()
}

fn converse(machine: &Machine, connection: &UnixStream) -> io::Result<()> {
    let mut requests = BufReader::new(Receiver::new(connection));
    let mut publisher = None;
    let mut line = String::new();
    loop {
        line.clear();
        let length = requests.by_ref().take(REQUEST_BYTES_MAX).read_line(&mut line)?;
        if length == 0 {
            return Ok(());
        }
        if !line.ends_with('\n') && length as u64 == REQUEST_BYTES_MAX {
            let failure = Failure::new(ErrorCode::ConfigInvalid, "the request is longer than 64 KiB");
            return answer(connection, Err(failure));
        }
        match serde_json::from_str(&line) {
            Ok(Request::State {}) => answer(connection, Ok(machine.state()))?,
            Ok(Request::Stats {}) => answer(connection, Ok(machine.stats()))?,
            Ok(Request::Stop {}) => answer(connection, machine.stop().map(|()| json!({})))?,
            Ok(Request::ResizeDisk { id }) => answer(connection, machine.resize_disk(&id))?,
            Ok(Request::Pause {}) => answer(connection, machine.pause().map(|()| json!({})))?,
            Ok(Request::Resume {}) => answer(connection, machine.resume().map(|()| json!({})))?,
            Ok(Request::Save { directory }) => answer(connection, save(machine, connection, &directory))?,
            Ok(Request::SetBalloon { bytes }) => answer(connection, machine.set_balloon(bytes))?,
            Ok(Request::PublishDatagrams { id, to }) => {
                let published = published(machine, &mut publisher, requests.get_mut())
                    .and_then(|(publisher, socket)| Ok(publisher.datagrams(id, socket, to)?));
                answer(connection, published.map(|()| json!({})))?;
            }
            Ok(Request::PublishConnection { id, to }) => {
                let published = published(machine, &mut publisher, requests.get_mut())
                    .and_then(|(publisher, socket)| Ok(publisher.connection(id, socket, to)?));
                answer(connection, published.map(|()| json!({})))?;
            }
            Ok(Request::EndPublication { id }) => {
                let ended = publisher.as_ref().map_or(Ok(()), |publisher: &Publisher| publisher.end(id));
                answer(connection, ended.map(|()| json!({})).map_err(Failure::from))?;
            }
            Ok(Request::Kill {}) => {
                // Answered first: the machine may be gone before this thread runs again.
                answer(connection, Ok(json!({})))?;
                machine.kill();
            }
            Ok(Request::Watch {}) => {
                answer(connection, Ok(json!({})))?;
                machine.watch(connection.try_clone()?);
            }
            Err(error) => {
                answer(connection, Err(Failure::new(ErrorCode::ConfigInvalid, format!("not a request: {error}"))))?;
            }
        }
    }
}

/// The connection's publisher, made at its first use, and the socket that came with a request.
fn published<'a>(
    machine: &Machine,
    publisher: &'a mut Option<Publisher>,
    received: &mut Receiver<'_>,
) -> Result<(&'a Publisher, OwnedFd), Failure> {
    let socket = received.take().ok_or_else(|| {
        Failure::new(ErrorCode::ConfigInvalid, "the request needs a socket, passed with its line (SCM_RIGHTS)")
    })?;
    let publisher = match publisher {
        Some(publisher) => publisher,
        None => publisher.insert(machine.publisher()?),
    };
    Ok((publisher, socket))
}

/// Saves the machine, telling how far it has come. A caller that goes away cancels it.
fn save(machine: &Machine, connection: &UnixStream, directory: &Path) -> Result<Value, Failure> {
    let mut told = None;
    machine.save(directory, &mut |done, total| {
        let percent = done * 100 / total.max(1);
        if told == Some(percent) {
            return Ok(());
        }
        told = Some(percent);
        let line = json!({"progress": {"done_bytes": done, "total_bytes": total}});
        let mut to = connection;
        to.write_all(format!("{line}\n").as_bytes()).map_err(|_| io::ErrorKind::Interrupted.into())
    })?;
    Ok(json!({}))
}

fn answer(mut to: &UnixStream, answer: Result<Value, Failure>) -> io::Result<()> {
    let line = match answer {
        Ok(value) => json!({"ok": value}),
        Err(failure) => json!({"error": failure}),
    };
    to.write_all(format!("{line}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_in_use_is_refused_and_a_dead_one_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let first = ControlSocket::bind(&path).unwrap();
        assert_eq!(ControlSocket::bind(&path).unwrap_err().code, ErrorCode::SocketInUse);
        assert!(path.exists());
        // As kill -9 leaves it: the file without a listener.
        let BoundControlSocket { listener, socket } = first;
        drop(listener);
        std::mem::forget(socket);
        assert!(ControlSocket::bind(&path).is_ok());
    }

    #[test]
    fn requests_with_unknown_keys_or_commands_are_refused() {
        assert!(serde_json::from_str::<Request>(r#"{"command":"state"}"#).is_ok());
        assert!(serde_json::from_str::<Request>(r#"{"command":"resize-disk","id":"data"}"#).is_ok());
        assert!(serde_json::from_str::<Request>(r#"{"command":"save","directory":"/s"}"#).is_ok());
        assert!(serde_json::from_str::<Request>(r#"{"command":"save"}"#).is_err());
        assert!(serde_json::from_str::<Request>(r#"{"command":"set-balloon","bytes":4096}"#).is_ok());
        assert!(serde_json::from_str::<Request>(r#"{"command":"set-balloon","bytes":-1}"#).is_err());
        let publish = r#"{"command":"publish-datagrams","id":7,"to":"[fd00::2]:53"}"#;
        assert!(serde_json::from_str::<Request>(publish).is_ok());
        assert!(serde_json::from_str::<Request>(&publish.replace(":53", "")).is_err());
        assert!(serde_json::from_str::<Request>(r#"{"command":"state","x":1}"#).is_err());
        assert!(serde_json::from_str::<Request>(r#"{"command":"dance"}"#).is_err());
    }
}
