//! Streams into a guest, by the hybrid vsock convention of rorqual-vmm (docs/contracts.md, "State directory").

use std::{io, os::fd::AsRawFd, path::Path};

use nix::sys::socket::{MsgFlags, recv};
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::{UnixListener, UnixStream},
};

/// Maximum length of the response to `CONNECT`, in bytes.
const MAX_ANSWER: usize = 32;

/// Listens on a socket, replacing a file left by a killed daemon.
///
/// # Errors
///
/// The file cannot be removed, or the socket cannot be created.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path)
}

/// Opens a stream to `port` of the guest behind the vsock socket `socket`.
///
/// # Errors
///
/// `NotFound` or `ConnectionRefused` if no machine serves the socket; `ConnectionRefused` also if the guest does not
/// listen on the port.
pub(crate) async fn connect(socket: &Path, port: u32) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).await?;
    handshake(&mut stream, port).await?;
    Ok(stream)
}

async fn handshake(stream: &mut UnixStream, port: u32) -> io::Result<()> {
    let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, format!("the guest refused vsock port {port}"));
    // If the peer closes early, the write fails or the read ends: both mean that it refused.
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).await.map_err(|_| refused())?;
    match read_line(stream, MAX_ANSWER).await {
        Ok(line) if line.starts_with("OK ") => Ok(()),
        Ok(line) if line.is_empty() => Err(refused()),
        Ok(line) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("the vsock device answered {line:?}"))),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(refused()),
        Err(error) => Err(error),
    }
}

/// Reads one line of at most `limit` bytes, newline included, and no byte beyond it, since those belong to the stream's
/// user. If the stream ends before any byte, the line is empty.
pub(crate) async fn read_line(stream: &UnixStream, limit: usize) -> io::Result<String> {
    let mut line = Vec::new();
    loop {
        let mut window = vec![0; limit - line.len()];
        stream.readable().await?;
        // Peeks first, then consumes up to the newline: two calls per line instead of one per byte.
        let peek = || recv(stream.as_raw_fd(), &mut window, MsgFlags::MSG_PEEK).map_err(io::Error::from);
        let seen = match stream.try_io(Interest::READABLE, peek) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            other => other?,
        };
        let end = window[..seen].iter().position(|&byte| byte == b'\n');
        let taken = stream.try_read(&mut window[..end.map_or(seen, |at| at + 1)])?;
        line.extend_from_slice(&window[..taken]);
        if seen == 0 || end.is_some() {
            break;
        }
        if line.len() == limit {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a line of more than {limit} bytes")));
        }
    }
    if !line.is_empty() && line.last() != Some(&b'\n') {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stream ended within a line"));
    }
    String::from_utf8(line).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn answered(answer: &'static [u8]) -> io::Result<Vec<u8>> {
        let (mut host, mut device) = UnixStream::pair().unwrap();
        let device = tokio::spawn(async move {
            let mut request = [0; 13];
            device.read_exact(&mut request).await.unwrap();
            assert_eq!(&request, b"CONNECT 2375\n");
            device.write_all(answer).await.unwrap();
        });
        let result = handshake(&mut host, 2375).await;
        device.await.unwrap();
        result?;
        let mut rest = Vec::new();
        host.read_to_end(&mut rest).await?;
        Ok(rest)
    }

    #[tokio::test]
    async fn bytes_that_come_with_the_answer_belong_to_the_stream() {
        assert_eq!(answered(b"OK 1073741824\nhello\n").await.unwrap(), b"hello\n");
        assert_eq!(answered(b"OK 5\n").await.unwrap(), b"");
    }

    #[tokio::test]
    async fn a_port_nobody_listens_on_is_refused() {
        assert_eq!(answered(b"").await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn an_answer_that_is_none_is_an_error() {
        assert_eq!(answered(b"HTTP/1.1 400\n").await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let long = b"OK 111111111111111111111111111111111111111111111111\n";
        assert_eq!(answered(long).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(answered(b"OK 1").await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn an_answer_in_pieces_is_put_together() {
        let (host, mut device) = UnixStream::pair().unwrap();
        let line = tokio::spawn(async move { read_line(&host, MAX_ANSWER).await });
        for piece in [&b"O"[..], b"K ", b"77", b"\n"] {
            device.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(line.await.unwrap().unwrap(), "OK 77\n");
    }

    #[tokio::test]
    async fn a_missing_machine_is_told_apart_by_the_error() {
        let directory = tempfile::tempdir().unwrap();
        let error = connect(&directory.path().join("none"), 1).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
