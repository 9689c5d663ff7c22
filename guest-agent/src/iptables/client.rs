//! The agent's own commands, which go the way of dockerd's so that the tables kept here know them.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tracing::warn;

use crate::ports::Door;

/// Makes the changes that arrive at `doors`, by the server at `socket`.
pub(super) async fn serve(mut doors: mpsc::UnboundedReceiver<Door>, socket: &str) {
    while let Some(Door { rule, done }) = doors.recv().await {
        if let Err(error) = run(socket, &rule).await {
            warn!("iptables {}: {error}", rule.join(" "));
        }
        // Whoever asked may have gone.
        let _ = done.send(());
    }
}

async fn run(socket: &str, words: &[String]) -> io::Result<()> {
    let mut server = UnixStream::connect(socket).await?;
    let mut command = b"iptables\0".to_vec();
    for word in words {
        command.extend_from_slice(word.as_bytes());
        command.push(0);
    }
    server.write_all(&command).await?;
    server.shutdown().await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    match answer.split_first() {
        Some((0, _)) => Ok(()),
        Some((_, reason)) => Err(io::Error::other(String::from_utf8_lossy(reason).trim().to_owned())),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
