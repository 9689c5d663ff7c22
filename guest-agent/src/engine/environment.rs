//! The environment the host gives dockerd: the user's proxies (rorqual-protocol, `environment`). It is requested at
//! each start, so that a restarted dockerd has the settings of that moment.

use std::io;
use std::time::Duration;

use rorqual_protocol::environment::{MAX_TEXT, parse};
use rorqual_protocol::{ENVIRONMENT_PORT, HOST_CID};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tokio_vsock::{VsockAddr, VsockStream};
use tracing::{debug, info, warn};

/// How long dockerd's start waits for the host, which normally answers at once.
const PATIENCE: Duration = Duration::from_secs(3);

/// The variables; none if the host has none. Values may hold passwords and are never logged.
pub(super) async fn of_host() -> Vec<(String, String)> {
    let text = match timeout(PATIENCE, ask()).await.unwrap_or_else(|elapsed| Err(elapsed.into())) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
            debug!("the host has no environment for dockerd");
            return Vec::new();
        }
        Err(error) => {
            warn!("dockerd starts without proxies, because the host does not answer: {error}");
            return Vec::new();
        }
    };
    let variables: Vec<_> = parse(&text).into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    if !variables.is_empty() {
        let names: Vec<&str> = variables.iter().map(|(name, _)| name.as_str()).collect();
        info!("dockerd gets {} from the host", names.join(", "));
    }
    variables
}

async fn ask() -> io::Result<String> {
    let host = VsockStream::connect(VsockAddr::new(HOST_CID, ENVIRONMENT_PORT)).await?;
    let mut text = String::new();
    host.take(MAX_TEXT as u64).read_to_string(&mut text).await?;
    Ok(text)
}
