//! The client of a monitor's control socket: requests and answers, one line of JSON each, and the event of the
//! machine's end.

use std::{
    io::{self, IoSlice},
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    time::Duration,
};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use rorqual_vmm_protocol::{Answer, Empty, Event, Failure, Request, SaveProgress};
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest},
    net::UnixStream,
    time::timeout,
};

/// The monitor accepts a connection and answers a request within this.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// The monitor reports progress of a save within this: it writes a few MiB, or makes all of them durable.
const SAVE_LIMIT: Duration = Duration::from_mins(2);
/// Longest line the monitor sends, in bytes.
const MAX_LINE: u64 = 64 << 10;

/// Why the monitor did not carry out a request.
#[derive(Debug, Error)]
pub(crate) enum ControlError {
    /// It refused, in its own words.
    #[error("{0}")]
    Refused(Failure),
    /// It does not answer, or not by the protocol. [`io::ErrorKind::TimedOut`] if nothing arrived in time.
    #[error("the machine's monitor does not answer: {0}")]
    Unreachable(#[from] io::Error),
}

impl ControlError {
    /// The monitor's advice.
    pub(crate) fn fix(&self) -> Option<String> {
        match self {
            Self::Refused(failure) => failure.fix.clone(),
            Self::Unreachable(_) => None,
        }
    }
}

/// A connection to the control socket. Dropping it ends what was published on it, and cancels a save.
#[derive(Debug)]
pub(super) struct Connection(BufReader<UnixStream>);

impl Connection {
    /// Connects to the monitor that listens on `control`.
    pub(super) async fn open(control: &Path) -> io::Result<Self> {
        let stream = timeout(ANSWER_LIMIT, UnixStream::connect(control)).await.map_err(io::Error::from)??;
        Ok(Self(BufReader::new(stream)))
    }

    /// Process ID of the monitor; 0 when the system does not know it.
    pub(super) fn process(&self) -> u32 {
        let peer = self.0.get_ref().peer_cred().ok().and_then(|peer| peer.pid());
        peer.and_then(|process| u32::try_from(process).ok()).unwrap_or_default()
    }

    /// Sends `request`, with `socket` if the request passes one, and returns the answer.
    pub(super) async fn request<T: DeserializeOwned>(
        &mut self,
        request: &Request,
        socket: Option<&OwnedFd>,
    ) -> Result<T, ControlError> {
        let answered = timeout(ANSWER_LIMIT, async {
            self.send(request, socket).await?;
            self.answer().await
        });
        match answered.await.map_err(io::Error::from)?? {
            Answer::Ok(value) => Ok(value),
            Answer::Error(failure) => Err(ControlError::Refused(failure)),
            Answer::Progress(_) => Err(io::Error::other("it reported progress where none was expected").into()),
        }
    }

    /// Has the machine saved to `directory`. Dropping the connection before this returns cancels.
    pub(super) async fn save(
        &mut self,
        directory: &Path,
        mut progress: impl FnMut(SaveProgress),
    ) -> Result<(), ControlError> {
        let request = Request::Save { directory: directory.to_owned() };
        timeout(ANSWER_LIMIT, self.send(&request, None)).await.map_err(io::Error::from)??;
        loop {
            match timeout(SAVE_LIMIT, self.answer::<Empty>()).await.map_err(io::Error::from)?? {
                Answer::Ok(Empty {}) => return Ok(()),
                Answer::Progress(saved) => progress(saved),
                Answer::Error(failure) => return Err(ControlError::Refused(failure)),
            }
        }
    }

    /// Waits for the event of the machine's end on a connection that watches. `None` if the monitor died without one.
    pub(super) async fn event(&mut self) -> Option<Event> {
        serde_json::from_str(&self.line().await.ok()?).ok()
    }

    /// Waits until the monitor's process has ended: its locks are free only then.
    pub(super) async fn closed(&mut self) {
        let mut rest = Vec::new();
        // After this long, further waiting is pointless.
        let _ = timeout(ANSWER_LIMIT, self.0.read_until(0, &mut rest)).await;
    }

    /// Sends a line, with a descriptor on its first byte.
    async fn send(&mut self, request: &Request, socket: Option<&OwnedFd>) -> io::Result<()> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        let descriptors: Vec<_> = socket.iter().map(|socket| socket.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let rights: &[_] = if descriptors.is_empty() { &[] } else { &rights };
        let stream = self.0.get_mut();
        let sent = stream
            .async_io(Interest::WRITABLE, || {
                let bytes = [IoSlice::new(&line)];
                Ok(sendmsg::<()>(stream.as_raw_fd(), &bytes, rights, MsgFlags::MSG_NOSIGNAL, None)?)
            })
            .await?;
        stream.write_all(&line[sent..]).await
    }

    async fn answer<T: DeserializeOwned>(&mut self) -> io::Result<Answer<T>> {
        let line = self.line().await?;
        serde_json::from_str(&line).map_err(|error| io::Error::other(format!("it answered {line:?} ({error})")))
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if (&mut self.0).take(MAX_LINE).read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line)
    }
}
