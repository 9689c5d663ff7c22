//! The Docker socket on vsock port 2375.

use std::io;

use rorqual_protocol::DOCKER_PORT;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tracing::debug;

use super::listener::{accept_each, vsock_listener};
use super::{Endpoint, join};
use crate::docker_api::DOCKER_SOCKET;

/// Serves forever. While dockerd does not run, a connection ends at once, as on any host whose engine is down.
/// All end when `dismissed` becomes true.
pub(crate) async fn serve(dismissed: watch::Receiver<bool>) -> io::Result<()> {
    let listener = vsock_listener(DOCKER_PORT)?;
    accept_each(listener, |host| {
        let mut dismissed = dismissed.clone();
        async move {
            let docker = UnixStream::connect(DOCKER_SOCKET).await.and_then(UnixStream::into_std);
            match docker.and_then(Endpoint::new) {
                Ok(docker) => tokio::select! {
                    () = join(host, docker) => {}
                    // An error means that the engine is gone, and dockerd with it.
                    _ = dismissed.wait_for(|dismissed| *dismissed) => {}
                },
                Err(error) => debug!("cannot connect to {DOCKER_SOCKET}: {error}"),
            }
        }
    })
    .await;
    Ok(())
}
