//! The Docker socket on vsock port 2375.

use std::io;
use std::sync::Arc;

use rorqual_protocol::DOCKER_PORT;
use tokio::net::UnixStream;
use tracing::debug;

use super::listener::{accept_each, vsock_listener};
use super::{Endpoint, join};
use crate::docker_api::DOCKER_SOCKET;
use crate::engine::Engine;

/// Serves forever. While dockerd does not run, a connection ends at once, as on any host whose engine is down.
pub(crate) async fn serve(engine: Arc<Engine>) -> io::Result<()> {
    let listener = vsock_listener(DOCKER_PORT)?;
    accept_each(listener, |host| {
        let engine = Arc::clone(&engine);
        async move {
            let docker = UnixStream::connect(DOCKER_SOCKET).await.and_then(UnixStream::into_std);
            match docker.and_then(Endpoint::new) {
                Ok(docker) => tokio::select! {
                    () = join(host, docker) => {}
                    () = engine.clients_dismissed() => {}
                },
                Err(error) => debug!("cannot connect to {DOCKER_SOCKET}: {error}"),
            }
        }
    })
    .await;
    Ok(())
}
