//! rpc Logs.

use std::collections::VecDeque;
use std::io;

use rorqual_protocol::agent::LogChunk;
use tokio::sync::mpsc;
use tonic::Status;

use super::kernel_log::KernelLog;
use crate::log_ring::LogRing;

/// Most bytes of one message.
const CHUNK_BYTES: usize = 32 << 10;

/// The caller's end of a log; closed when the caller leaves.
pub(super) type Chunks = mpsc::Sender<Result<LogChunk, Status>>;

/// Sends a service's log, and with `follow` what is written next.
pub(super) async fn send_ring(ring: &LogRing, tail: u32, follow: bool, chunks: Chunks) {
    let mut changes = ring.changes();
    let mut next = ring.start(tail);
    loop {
        changes.borrow_and_update();
        loop {
            let (data, after) = ring.read(next, CHUNK_BYTES);
            if data.is_empty() {
                break;
            }
            next = after;
            if chunks.send(Ok(LogChunk { data })).await.is_err() {
                return;
            }
        }
        if !follow {
            return;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = chunks.closed() => return,
        }
    }
}

/// Sends the kernel's log, and with `follow` what is written next.
pub(super) async fn send_kernel(tail: u32, follow: bool, chunks: Chunks) {
    if let Err(error) = try_send_kernel(tail, follow, &chunks).await {
        // The caller may have left.
        let _ = chunks.send(Err(Status::internal(format!("cannot read /dev/kmsg: {error}")))).await;
    }
}

async fn try_send_kernel(tail: u32, follow: bool, chunks: &Chunks) -> io::Result<()> {
    let log = KernelLog::open()?;
    let wanted = if tail == 0 { usize::MAX } else { tail as usize };
    let mut kept = VecDeque::new();
    while let Some(line) = log.next_kept()? {
        if kept.len() == wanted {
            kept.pop_front();
        }
        kept.push_back(line);
    }
    let mut data = Vec::new();
    for line in kept {
        data.extend_from_slice(line.as_bytes());
        if data.len() >= CHUNK_BYTES && chunks.send(Ok(LogChunk { data: std::mem::take(&mut data) })).await.is_err() {
            return Ok(());
        }
    }
    if !data.is_empty() && chunks.send(Ok(LogChunk { data })).await.is_err() {
        return Ok(());
    }
    if !follow {
        return Ok(());
    }
    loop {
        let line = tokio::select! {
            line = log.next() => line?,
            () = chunks.closed() => return Ok(()),
        };
        if chunks.send(Ok(LogChunk { data: line.into_bytes() })).await.is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(mut chunks: mpsc::Receiver<Result<LogChunk, Status>>) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            bytes.extend_from_slice(&chunk.unwrap().data);
        }
        bytes
    }

    #[tokio::test]
    async fn a_log_that_is_not_followed_ends_with_what_is_kept() {
        let ring = LogRing::new(1000);
        ring.write(b"one\ntwo\nthree\n");
        let (chunks, received) = mpsc::channel(4);
        send_ring(&ring, 2, false, chunks).await;
        assert_eq!(told(received).await, b"two\nthree\n");
    }

    #[tokio::test]
    async fn a_followed_log_continues_until_the_caller_leaves() {
        let ring = std::sync::Arc::new(LogRing::new(1000));
        ring.write(b"one\n");
        let (chunks, mut received) = mpsc::channel(4);
        let followed = std::sync::Arc::clone(&ring);
        let sender = tokio::spawn(async move { send_ring(&followed, 0, true, chunks).await });
        assert_eq!(received.recv().await.unwrap().unwrap().data, b"one\n");
        ring.write(b"two\n");
        assert_eq!(received.recv().await.unwrap().unwrap().data, b"two\n");
        drop(received);
        sender.await.unwrap();
    }
}
