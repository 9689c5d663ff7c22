//! Joins two connections byte for byte, each direction by itself. An end of file on one side becomes an end of file on
//! the other while the opposite direction stays open. A connection that breaks breaks the other.

use std::io;
use std::net::Shutdown;

mod docker;
mod endpoint;
mod forward;
mod listener;

pub(crate) use docker::serve as serve_docker;
pub(crate) use endpoint::Endpoint;
pub(crate) use forward::serve as serve_forward;
pub(crate) use listener::vsock_listener;

/// How one direction ended.
enum Broken {
    /// The sender's connection broke, so its data may be incomplete.
    Source,
    /// The receiver takes no more data.
    Sink,
}

/// Relays until both directions have ended, or one side broke.
pub(crate) async fn join(left: Endpoint, right: Endpoint) {
    let both = async {
        let ((), ()) = tokio::try_join!(copy(&left, &right), copy(&right, &left))?;
        Ok::<(), io::Error>(())
    };
    if both.await.is_err() {
        left.reset_on_close();
        right.reset_on_close();
    }
}

/// Relays one direction. An error is a broken source. A sink that takes no more only ends this direction, and the
/// source learns of it if its family allows.
async fn copy(source: &Endpoint, sink: &Endpoint) -> io::Result<()> {
    match copy_until_end(source, sink).await {
        Ok(()) => {
            sink.shutdown(Shutdown::Write);
            Ok(())
        }
        Err((Broken::Sink, _)) => {
            source.shutdown(Shutdown::Read);
            Ok(())
        }
        Err((Broken::Source, error)) => Err(error),
    }
}

async fn copy_until_end(source: &Endpoint, sink: &Endpoint) -> Result<(), (Broken, io::Error)> {
    while let Some(bytes) = source.receive().await.map_err(|error| (Broken::Source, error))? {
        sink.send_all(bytes.bytes()).await.map_err(|error| (Broken::Sink, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream, UnixStream};

    use super::*;

    /// Two clients, joined by a relay.
    fn joined() -> (UnixStream, UnixStream) {
        let (left, left_inner) = UnixStream::pair().unwrap();
        let (right_inner, right) = UnixStream::pair().unwrap();
        let left_inner = Endpoint::new(left_inner.into_std().unwrap()).unwrap();
        let right_inner = Endpoint::new(right_inner.into_std().unwrap()).unwrap();
        tokio::spawn(join(left_inner, right_inner));
        (left, right)
    }

    async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn an_end_of_file_one_way_leaves_the_other_way_open() {
        let (mut left, mut right) = joined();
        left.write_all(b"request").await.unwrap();
        left.shutdown().await.unwrap();
        assert_eq!(read_all(&mut right).await, b"request");
        right.write_all(b"answer after the end of the request").await.unwrap();
        right.shutdown().await.unwrap();
        assert_eq!(read_all(&mut left).await, b"answer after the end of the request");
    }

    #[tokio::test]
    async fn the_half_close_works_from_the_other_side_too() {
        let (mut left, mut right) = joined();
        right.shutdown().await.unwrap();
        assert_eq!(read_all(&mut left).await, b"");
        left.write_all(b"still going").await.unwrap();
        left.shutdown().await.unwrap();
        assert_eq!(read_all(&mut right).await, b"still going");
    }

    #[tokio::test]
    async fn more_than_all_buffers_hold_passes_unchanged() {
        let (left, mut right) = joined();
        let sent: Vec<u8> = (0..8_000_000_u32).map(|number| (number % 251) as u8).collect();
        let expected = sent.clone();
        let (_unused, mut left_write) = left.into_split();
        let writer = tokio::spawn(async move {
            left_write.write_all(&sent).await.unwrap();
            left_write.shutdown().await.unwrap();
        });
        assert!(read_all(&mut right).await == expected);
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn a_receiver_that_left_stops_the_sender() {
        let (mut left, right) = joined();
        drop(right);
        let block = vec![0; 1 << 16];
        let error = loop {
            if let Err(error) = left.write_all(&block).await {
                break error;
            }
        };
        assert!(matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{error}");
    }

    #[tokio::test]
    async fn a_reset_is_passed_on_as_a_reset() {
        async fn connected() -> (TcpStream, TcpStream) {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
            (client.unwrap(), accepted.unwrap().0)
        }
        let (client, client_inner) = connected().await;
        let (mut server, server_inner) = connected().await;
        let relay = tokio::spawn(join(
            Endpoint::new(client_inner.into_std().unwrap()).unwrap(),
            Endpoint::new(server_inner.into_std().unwrap()).unwrap(),
        ));
        Endpoint::new(client.into_std().unwrap()).unwrap().reset_on_close();
        relay.await.unwrap();
        let error = server.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn hundreds_of_connections_are_relayed_at_once() {
        let mut pairs: Vec<_> = (0..400).map(|_| joined()).collect();
        for (left, _) in &mut pairs {
            left.write_all(b"ping").await.unwrap();
            left.shutdown().await.unwrap();
        }
        for (_, right) in &mut pairs {
            assert_eq!(read_all(right).await, b"ping");
        }
    }
}
