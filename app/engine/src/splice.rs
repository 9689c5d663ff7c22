//! Copies bytes between two streams, both ways, and preserves half-close.
//!
//! An idle stream costs no buffer: each thread has one, borrowed for the length of one read and its writes. A
//! connection keeps only bytes that the other side has not accepted yet.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Maximum number of bytes moved in one step, and kept for a stalled direction.
const BUFFER: usize = 64 * 1024;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into_boxed_slice());
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    stage: Stage,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Reading,
    /// The rest of a read that the writer accepted only in part, and how much of it has been written.
    Writing(Vec<u8>, usize),
    Closing,
    Done,
}

impl Direction {
    /// Moves as many bytes as possible. Ready once the reader ended and the writer was shut down for writing.
    pub(crate) fn poll<R, W>(
        &mut self,
        context: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            self.stage = match &mut self.stage {
                Stage::Reading => match SHARED.with_borrow_mut(|buffer| pass(context, reader, writer, buffer)) {
                    Poll::Ready(next) => next?,
                    Poll::Pending => return Poll::Pending,
                },
                Stage::Writing(rest, gone) => {
                    while *gone < rest.len() {
                        *gone += wrote(ready!(Pin::new(&mut *writer).poll_write(context, &rest[*gone..])))?;
                    }
                    Stage::Reading
                }
                Stage::Closing => {
                    match ready!(Pin::new(&mut *writer).poll_shutdown(context)) {
                        // The other side is closed completely, so the shutdown is complete as well.
                        Err(error) if error.kind() != io::ErrorKind::NotConnected => return Poll::Ready(Err(error)),
                        _ => Stage::Done,
                    }
                }
                Stage::Done => return Poll::Ready(Ok(())),
            };
        }
    }
}

/// One read and its writes. Pending only if nothing was read.
fn pass<R, W>(context: &mut Context<'_>, reader: &mut R, writer: &mut W, buffer: &mut [u8]) -> Poll<io::Result<Stage>>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut read = ReadBuf::new(buffer);
    ready!(Pin::new(reader).poll_read(context, &mut read))?;
    let data = read.filled();
    if data.is_empty() {
        return Poll::Ready(Ok(Stage::Closing));
    }
    let mut gone = 0;
    while gone < data.len() {
        match Pin::new(&mut *writer).poll_write(context, &data[gone..]) {
            Poll::Ready(result) => gone += wrote(result)?,
            Poll::Pending => return Poll::Ready(Ok(Stage::Writing(data[gone..].to_vec(), 0))),
        }
    }
    Poll::Ready(Ok(Stage::Reading))
}

fn wrote(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        other => other,
    }
}

/// Copies both ways until both directions have ended. `up` may hold bytes already.
///
/// # Errors
///
/// The first error of either side; the caller closes both streams.
pub(crate) async fn both_ways<AR, AW, BR, BW>(
    (a_reader, a_writer): (&mut AR, &mut AW),
    (b_reader, b_writer): (&mut BR, &mut BW),
    mut up: Direction,
) -> io::Result<()>
where
    AR: AsyncRead + Unpin,
    AW: AsyncWrite + Unpin,
    BR: AsyncRead + Unpin,
    BW: AsyncWrite + Unpin,
{
    let mut down = Direction::default();
    poll_fn(|context| {
        let up = up.poll(context, a_reader, b_writer)?;
        let down = down.poll(context, b_reader, a_writer)?;
        if up.is_ready() && down.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixStream,
        task::JoinHandle,
    };

    use super::*;

    fn relay() -> (UnixStream, UnixStream, JoinHandle<io::Result<()>>) {
        let (client, mut a) = UnixStream::pair().unwrap();
        let (server, mut b) = UnixStream::pair().unwrap();
        let task = tokio::spawn(async move {
            let (mut a_reader, mut a_writer) = a.split();
            let (mut b_reader, mut b_writer) = b.split();
            both_ways((&mut a_reader, &mut a_writer), (&mut b_reader, &mut b_writer), Direction::default()).await
        });
        (client, server, task)
    }

    #[tokio::test]
    async fn a_half_close_passes_and_the_other_half_goes_on() {
        let (mut client, mut server, task) = relay();
        client.write_all(b"request").await.unwrap();
        client.shutdown().await.unwrap();
        let mut request = Vec::new();
        server.read_to_end(&mut request).await.unwrap();
        assert_eq!(request, b"request");
        assert!(!task.is_finished());
        server.write_all(b"answer").await.unwrap();
        drop(server);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_stalled_reader_loses_nothing() {
        let (mut client, mut server, task) = relay();
        let sent: Vec<u8> = (0..4_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761) as u8).collect();
        let data = sent.clone();
        let writer = tokio::spawn(async move {
            client.write_all(&data).await.unwrap();
            client.shutdown().await.unwrap();
            client
        });
        // The relay fills the socket buffers and must then wait, so the writer cannot finish.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!writer.is_finished());
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
        drop((server, writer.await.unwrap()));
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn both_directions_run_at_once() {
        let (client, server, task) = relay();
        let side = |mut stream: UnixStream, byte: u8| async move {
            let (mut reader, mut writer) = stream.split();
            let data = vec![byte; 3_000_000];
            let mut received = Vec::new();
            let write = async {
                writer.write_all(&data).await.unwrap();
                writer.shutdown().await.unwrap();
            };
            let (read, ()) = tokio::join!(reader.read_to_end(&mut received), write);
            read.unwrap();
            received
        };
        let (at_client, at_server) = tokio::join!(side(client, 1), side(server, 2));
        assert!(at_client == vec![2; 3_000_000] && at_server == vec![1; 3_000_000]);
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_side_that_vanished_ends_the_other() {
        let (mut client, server, task) = relay();
        drop(server);
        // Writing to a closed peer fails in the relay, which ends both directions.
        while client.write_all(&[0; 4096]).await.is_ok() {}
        assert!(task.await.unwrap().is_err());
    }
}
