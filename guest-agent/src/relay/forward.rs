//! Forwarded streams on vsock port 1025: a header line names an address of a container, then the bytes are its own
//! (rorqual-protocol, `forward`).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rorqual_protocol::FORWARD_PORT;
use rorqual_protocol::forward::{MAX_LINE, answer, parse_header};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use super::listener::{accept_each, vsock_listener};
use super::{Endpoint, join};

/// How long the host may take to send its header, which is its first write.
const HEADER_PATIENCE: Duration = Duration::from_secs(10);
/// How long a container may take to accept. Its bridge is in the same kernel, so only one that drops packets takes
/// long.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);

/// Serves for ever.
pub(crate) async fn serve() -> io::Result<()> {
    let listener = vsock_listener(FORWARD_PORT)?;
    accept_each(listener, |host| async move {
        if let Err(error) = forward(host).await {
            debug!("a forwarded stream failed: {error}");
        }
    })
    .await;
    Ok(())
}

/// Serves one stream of the host.
async fn forward(host: Endpoint) -> io::Result<()> {
    let (target, early) = timeout(HEADER_PATIENCE, read_header(&host)).await??;
    match timeout(CONNECT_PATIENCE, connect(target)).await.unwrap_or_else(|elapsed| Err(elapsed.into())) {
        Ok(container) => {
            host.send_all(answer(Ok(())).as_bytes()).await?;
            container.send_all(&early).await?;
            join(host, container).await;
            Ok(())
        }
        Err(error) => {
            host.send_all(answer(Err(&format!("{target}: {error}"))).as_bytes()).await?;
            Err(error)
        }
    }
}

async fn connect(target: SocketAddr) -> io::Result<Endpoint> {
    let container = TcpStream::connect(target).await?;
    container.set_nodelay(true)?;
    Endpoint::new(container.into_std()?)
}

/// Reads the header line. Also returns the client's bytes that arrived with it.
async fn read_header(host: &Endpoint) -> io::Result<(SocketAddr, Vec<u8>)> {
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = host.receive_into(&mut buffer).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        received.extend_from_slice(&buffer[..length]);
        let line_end = received.iter().position(|byte| *byte == b'\n');
        match line_end {
            Some(end) if end < MAX_LINE => {
                let early = received.split_off(end + 1);
                let target = parse_header(&String::from_utf8_lossy(&received)).map_err(io::Error::other)?;
                return Ok((target, early));
            }
            None if received.len() < MAX_LINE => {}
            _ => return Err(io::Error::other(format!("a forward header longer than {MAX_LINE} bytes"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UnixStream};

    use super::*;

    fn host() -> (UnixStream, Endpoint) {
        let (host, guest) = UnixStream::pair().unwrap();
        (host, Endpoint::new(guest.into_std().unwrap()).unwrap())
    }

    #[tokio::test]
    async fn bytes_sent_with_the_header_reach_the_container() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mut host, guest) = host();
        let served = tokio::spawn(forward(guest));
        host.write_all(format!("TCP {}\nhello", listener.local_addr().unwrap()).as_bytes()).await.unwrap();
        host.shutdown().await.unwrap();

        let (mut container, _) = listener.accept().await.unwrap();
        let mut request = String::new();
        container.read_to_string(&mut request).await.unwrap();
        assert_eq!(request, "hello");
        container.write_all(b"bye").await.unwrap();
        drop(container);

        let mut answer = String::new();
        host.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "OK\nbye");
        served.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_refused_connection_is_reported_and_ends_the_stream() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let (mut host, guest) = host();
        let served = tokio::spawn(forward(guest));
        host.write_all(format!("TCP {address}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        host.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("ERR ") && answer.contains("refused"), "{answer:?}");
        assert!(served.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_header_without_an_end_is_refused() {
        let (mut host, guest) = host();
        let served = tokio::spawn(forward(guest));
        host.write_all(&[b'x'; MAX_LINE + 1]).await.unwrap();
        assert!(served.await.unwrap().is_err());
    }
}
