//! The gateway of a machine's network, as published ports use it: sockets of ours are handed over to the monitor, which carries what comes there
//! into the guest from the clients' own addresses (docs/contracts.md, "rorqual-vmm").
//!
//! One task owns the connection to the control socket and does one request after the other. What was published ends with the connection.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::Deserialize;
use serde_json::json;
use thiserror::Error;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest},
    net::UnixStream,
    sync::{mpsc, oneshot},
    time::timeout,
};

/// A request is answered within this.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Longest answer, in bytes.
const MAX_ANSWER: u64 = 64 << 10;
/// Requests that may wait for their turn.
const WAITING: usize = 64;

/// Why the gateway did not take a socket.
#[derive(Debug, Error)]
pub(crate) enum GatewayError {
    /// The monitor cannot, in its own words.
    #[error("{message}")]
    Refused {
        /// Its message.
        message: String,
        /// Its advice.
        fix: Option<String>,
    },
    /// It cannot be asked.
    #[error("the machine's monitor does not answer: {0}")]
    Unreachable(#[from] io::Error),
}

impl GatewayError {
    /// The monitor's advice.
    pub(super) fn fix(&self) -> Option<String> {
        match self {
            Self::Refused { fix, .. } => fix.clone(),
            Self::Unreachable(_) => None,
        }
    }
}

/// A socket the gateway did not take, and why.
type NotTaken = (OwnedFd, GatewayError);

/// A handle to the task.
#[derive(Clone, Debug)]
pub(super) struct Gateway(mpsc::Sender<Asked>);

#[derive(Debug)]
struct Asked {
    request: serde_json::Value,
    socket: Option<OwnedFd>,
    answer: oneshot::Sender<(Result<(), GatewayError>, Option<OwnedFd>)>,
}

impl Gateway {
    /// The gateway of the machine whose monitor has this control socket. It is connected to when it is first needed; the task ends with the last handle.
    pub(super) fn new(control_socket: PathBuf) -> Self {
        let (sender, asked) = mpsc::channel(WAITING);
        tokio::spawn(serve(control_socket, asked));
        Self(sender)
    }

    /// Has the datagrams of a bound socket carried to `to`, until [`end`](Self::end) of `id`.
    pub(super) async fn publish_datagrams(&self, id: u64, socket: OwnedFd, to: SocketAddr) -> Result<(), GatewayError> {
        let request = json!({"command": "publish-datagrams", "id": id, "to": to});
        self.hand_over(request, socket).await.map_err(|(_, error)| error)
    }

    /// Has a connection that was accepted for `id` carried to `to`. The socket comes back when it is not.
    pub(super) async fn publish_connection(&self, id: u64, socket: OwnedFd, to: SocketAddr) -> Result<(), NotTaken> {
        self.hand_over(json!({"command": "publish-connection", "id": id, "to": to}), socket).await
    }

    /// Ends what was published under `id`: when this returns, its address is free.
    pub(super) async fn end(&self, id: u64) -> Result<(), GatewayError> {
        self.ask(json!({"command": "end-publication", "id": id}), None).await.0
    }

    async fn hand_over(&self, request: serde_json::Value, socket: OwnedFd) -> Result<(), NotTaken> {
        match self.ask(request, Some(socket)).await {
            (Ok(()), _) | (Err(_), None) => Ok(()),
            (Err(error), Some(socket)) => Err((socket, error)),
        }
    }

    async fn ask(
        &self,
        request: serde_json::Value,
        socket: Option<OwnedFd>,
    ) -> (Result<(), GatewayError>, Option<OwnedFd>) {
        let gone = || GatewayError::Unreachable(io::ErrorKind::BrokenPipe.into());
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
        let outcome =
            timeout(ANSWER_LIMIT, converse(&control_socket, &mut connection, &request, socket.as_ref())).await;
        let outcome = outcome.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        if let Err(GatewayError::Unreachable(error)) = &outcome
            && connection.take().is_some()
        {
            tracing::warn!("the monitor's connection for published ports ended: {error}");
        }
        // Whoever asked may have given up.
        let _ = answer.send((outcome, socket));
    }
}

async fn converse(
    control_socket: &PathBuf,
    connection: &mut Option<BufReader<UnixStream>>,
    request: &serde_json::Value,
    socket: Option<&OwnedFd>,
) -> Result<(), GatewayError> {
    let stream = match connection {
        Some(stream) => stream,
        None => connection.insert(BufReader::new(UnixStream::connect(control_socket).await?)),
    };
    send(stream.get_mut(), format!("{request}\n").as_bytes(), socket).await?;
    let mut line = String::new();
    if stream.take(MAX_ANSWER).read_line(&mut line).await? == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    match serde_json::from_str(&line).map_err(io::Error::from)? {
        Answer::Ok(_) => Ok(()),
        Answer::Error { message, fix } => Err(GatewayError::Refused { message, fix }),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Ok(serde::de::IgnoredAny),
    Error {
        message: String,
        #[serde(default)]
        fix: Option<String>,
    },
}

/// Sends a line, with a descriptor on its first byte.
async fn send(stream: &mut UnixStream, line: &[u8], socket: Option<&OwnedFd>) -> io::Result<()> {
    let descriptors: Vec<_> = socket.iter().map(|socket| socket.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let rights: &[_] = if descriptors.is_empty() { &[] } else { &rights };
    let sent = stream
        .async_io(Interest::WRITABLE, || {
            let bytes = [IoSlice::new(line)];
            Ok(sendmsg::<()>(stream.as_raw_fd(), &bytes, rights, MsgFlags::MSG_NOSIGNAL, None)?)
        })
        .await?;
    stream.write_all(&line[sent..]).await
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, IoSliceMut, Write},
        net::UdpSocket,
        os::{
            fd::{FromRawFd, RawFd},
            unix::net::UnixListener,
        },
        thread,
    };

    use nix::{
        cmsg_space,
        sys::socket::{ControlMessageOwned, recvmsg},
    };

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

    async fn publish(answer: &'static str) -> (Result<(), GatewayError>, String) {
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
