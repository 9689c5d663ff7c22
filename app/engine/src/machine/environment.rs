//! What the guest's dockerd gets in its environment: the agent asks at each start of dockerd, and hears what the settings
//! say then.

use std::{io, path::Path};

use rorqual_protocol::environment;
use tokio::{io::AsyncWriteExt, task::JoinHandle};

use crate::{config::Config, home::Home, proxy::Proxies, vsock};

/// A listener that answers until dropped.
pub(crate) struct Environment(JoinHandle<()>);

impl Drop for Environment {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Environment {
    /// Answers on `path`. A socket file left over from a daemon that was killed is replaced.
    ///
    /// # Errors
    ///
    /// When the socket cannot be made; must be called in a runtime.
    pub(crate) fn serve(path: &Path, home: Home) -> io::Result<Self> {
        let listener = vsock::listen(path)?;
        Ok(Self(tokio::spawn(async move {
            loop {
                let answered = match listener.accept().await {
                    // The guest reads it at once, and all of it fits the socket: nobody can hold this up.
                    Ok((mut guest, _)) => guest.write_all(text(&home).as_bytes()).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = answered {
                    tracing::warn!("the guest cannot be told of proxies: {error}");
                    return;
                }
            }
        })))
    }
}

/// What counts now. Damaged settings are told of where they are read for the user.
fn text(home: &Home) -> String {
    let config = Config::load(home).unwrap_or_default();
    let variables = Proxies::of_user(&config.proxy).for_guest();
    let text = environment::text(variables.iter().map(|(name, value)| (*name, value.as_str())));
    if text.len() > environment::MAX_TEXT {
        tracing::warn!("the proxies of the settings or the environment are too long for the guest: it gets none");
        return String::new();
    }
    text
}
