//! The environment of the guest's dockerd. The agent requests it at each start of dockerd and gets the settings of that
//! moment.

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
    /// Answers on `path`. The socket file of a killed daemon is replaced. Must be called in a runtime.
    ///
    /// # Errors
    ///
    /// When the socket cannot be made.
    pub(crate) fn serve(path: &Path, home: Home) -> io::Result<Self> {
        let listener = vsock::listen(path)?;
        Ok(Self(tokio::spawn(async move {
            loop {
                let answered = match listener.accept().await {
                    // All of it fits the socket's buffer, so nobody can block this.
                    Ok((mut guest, _)) => guest.write_all(text(&home).as_bytes()).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = answered {
                    tracing::warn!("cannot send the proxies to the guest: {error}");
                    return;
                }
            }
        })))
    }
}

/// The variables that apply now. Damaged settings are reported where they are read for the user.
fn text(home: &Home) -> String {
    let config = Config::load(home).unwrap_or_default();
    let variables = Proxies::of_user(&config.proxy).for_guest();
    let text = environment::text(variables.iter().map(|(name, value)| (*name, value.as_str())));
    if text.len() > environment::MAX_TEXT {
        tracing::warn!("the guest gets no proxies: those of the settings or the environment are too long");
        return String::new();
    }
    text
}
