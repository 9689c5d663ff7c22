//! The gateway of a machine's network, as published ports use it: the daemon passes sockets to the monitor, which
//! carries what arrives on them into the guest: from the clients' own addresses if the guest's answers lead back, and
//! otherwise from the address that stands for the host.
//!
//! One task owns the connection to the control socket and makes one request after the other. What was published ends
//! with the connection.

use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rorqual_vmm_protocol::{Empty, Request};
use tokio::sync::{mpsc, oneshot};

use super::control::{Connection, ControlError};

/// Requests that may wait for their turn.
const MAX_WAITING: usize = 64;

/// A socket the gateway did not take, and why.
type NotTaken = (OwnedFd, ControlError);

/// A handle to the task.
#[derive(Clone, Debug)]
pub(crate) struct Gateway(mpsc::Sender<Asked>);

#[derive(Debug)]
struct Asked {
    request: Request,
    socket: Option<OwnedFd>,
    answer: oneshot::Sender<(Result<(), ControlError>, Option<OwnedFd>)>,
}

impl Gateway {
    /// The gateway of the machine whose monitor listens on `control_socket`. The task connects at the first request
    /// and ends with the last handle.
    pub(crate) fn new(control_socket: PathBuf) -> Self {
        let (sender, asked) = mpsc::channel(MAX_WAITING);
        tokio::spawn(serve(control_socket, asked));
        Self(sender)
    }

    /// Has the datagrams of a bound socket carried to `to` until [`end`](Self::end) of `id`.
    pub(crate) async fn publish_datagrams(&self, id: u64, socket: OwnedFd, to: SocketAddr) -> Result<(), ControlError> {
        self.hand_over(Request::PublishDatagrams { id, to }, socket).await.map_err(|(_, error)| error)
    }

    /// Has a connection accepted for `id` carried to `to`. The error returns the socket.
    pub(crate) async fn publish_connection(&self, id: u64, socket: OwnedFd, to: SocketAddr) -> Result<(), NotTaken> {
        self.hand_over(Request::PublishConnection { id, to }, socket).await
    }

    /// Ends what was published under `id`: when this returns, its address is free.
    pub(crate) async fn end(&self, id: u64) -> Result<(), ControlError> {
        self.ask(Request::EndPublication { id }, None).await.0
    }

    async fn hand_over(&self, request: Request, socket: OwnedFd) -> Result<(), NotTaken> {
        match self.ask(request, Some(socket)).await {
            (Ok(()), _) | (Err(_), None) => Ok(()),
            (Err(error), Some(socket)) => Err((socket, error)),
        }
    }

    async fn ask(&self, request: Request, socket: Option<OwnedFd>) -> (Result<(), ControlError>, Option<OwnedFd>) {
        let gone = || ControlError::Unreachable(io::ErrorKind::BrokenPipe.into());
        let (answer, answered) = oneshot::channel();
        if let Err(unsent) = self.0.send(Asked { request, socket, answer }).await {
            return (Err(gone()), unsent.0.socket);
        }
        answered.await.unwrap_or_else(|_| (Err(gone()), None))
    }
}

async fn serve(control_socket: PathBuf, mut asked: mpsc::Receiver<Asked>) {
    let mut connection = None;
    while let Some(Asked { request, socket, answer }) = asked.recv().await {
        let outcome = converse(&control_socket, &mut connection, &request, socket.as_ref()).await;
        if let Err(ControlError::Unreachable(error)) = &outcome
            && connection.take().is_some()
        {
            tracing::warn!("the monitor's connection for published ports ended: {error}");
        }
        // The caller may have given up.
        let _ = answer.send((outcome, socket));
    }
}

async fn converse(
    control_socket: &Path,
    connection: &mut Option<Connection>,
    request: &Request,
    socket: Option<&OwnedFd>,
) -> Result<(), ControlError> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(Connection::open(control_socket).await?),
    };
    connection.request(request, socket).await.map(|Empty {}| ())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, IoSliceMut, Write},
        net::UdpSocket,
        os::{
            fd::{AsRawFd, FromRawFd, RawFd},
            unix::net::UnixListener,
        },
        thread,
    };

    use nix::{
        cmsg_space,
        sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
    };
    use serde_json::json;

    use super::*;

    /// A monitor that takes one request with its socket, sends a datagram by that, and answers.
    fn monitor(listener: UnixListener, answer: &'static str, to: SocketAddr) -> thread::JoinHandle<String> {
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut buffer, mut space) = ([0; 512], cmsg_space!([RawFd; 1]));
            let mut vectors = [IoSliceMut::new(&mut buffer)];
            let received =
                recvmsg::<()>(stream.as_raw_fd(), &mut vectors, Some(&mut space), MsgFlags::empty()).unwrap();
            let Some(ControlMessageOwned::ScmRights(descriptors)) = received.cmsgs().unwrap().next() else {
                panic!("no descriptor came")
            };
            // SAFETY: just received, and known to nobody else.
            let socket = UdpSocket::from(unsafe { OwnedFd::from_raw_fd(descriptors[0]) });
            let length = received.bytes;
            socket.send_to(b"from the monitor", to).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            let mut rest = String::new();
            std::io::BufReader::new(stream).read_line(&mut rest).unwrap();
            format!("{}{rest}", String::from_utf8_lossy(&buffer[..length]))
        })
    }

    async fn publish(answer: &'static str) -> (Result<(), ControlError>, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let monitor = monitor(UnixListener::bind(&path).unwrap(), answer, client.local_addr().unwrap());
        let gateway = Gateway::new(path);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let published = gateway.publish_datagrams(7, socket.into(), "172.17.0.2:53".parse().unwrap()).await;
        drop(gateway);
        let mut buffer = [0; 32];
        assert_eq!(client.recv_from(&mut buffer).unwrap(), (16, address), "the monitor has our socket");
        (published, monitor.join().unwrap())
    }

    // The monitor is a thread that is waited for.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_socket_goes_to_the_monitor_with_its_request() {
        let (published, said) = publish("{\"ok\":{}}\n").await;
        published.unwrap();
        let request: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(request, json!({"command": "publish-datagrams", "id": 7, "to": "172.17.0.2:53"}));
    }

    // The monitor is a thread that is waited for.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_the_monitor_refuses_is_told_in_its_words() {
        let (published, _) = publish("{\"error\":{\"code\":\"not-possible\",\"message\":\"no network card\"}}\n").await;
        assert_eq!(published.unwrap_err().to_string(), "no network card");
    }

    #[tokio::test]
    async fn a_connection_comes_back_when_there_is_no_monitor() {
        let gateway = Gateway::new(PathBuf::from("/nonexistent/control.sock"));
        let socket = OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let number = socket.as_raw_fd();
        let (back, error) = gateway.publish_connection(1, socket, "172.17.0.2:80".parse().unwrap()).await.unwrap_err();
        assert_eq!(back.as_raw_fd(), number);
        assert!(error.to_string().contains("does not answer"), "{error}");
        gateway.end(1).await.unwrap_err();
    }
}
