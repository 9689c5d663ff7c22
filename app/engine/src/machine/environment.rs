//! The environment of the guest's dockerd. The agent asks for it at each start of dockerd, and gets what the settings
//! hold at that time.

use std::{
    io,
    path::{Path, PathBuf},
};

use rorqual_protocol::environment;
use tokio::{io::AsyncWriteExt, task::JoinHandle};

use crate::{
    config::{Config, InEffect, keys},
    home::Home,
    proxy::Proxies,
    vsock,
};

/// The settings that the answer is made of.
const SETTINGS: [&str; 3] = ["proxy.http", "proxy.https", "proxy.no_proxy"];

/// A listener that answers until dropped.
pub(crate) struct Environment(JoinHandle<()>);

impl Drop for Environment {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Environment {
    /// Answers on `path`, and records in `in_effect` which settings the answer was made of. A socket file left over
    /// from a daemon that was killed is replaced. Must be called in a runtime.
    ///
    /// # Errors
    ///
    /// The socket cannot be made.
    pub(crate) fn serve(path: &Path, home: Home, in_effect: PathBuf) -> io::Result<Self> {
        let listener = vsock::listen(path)?;
        Ok(Self(tokio::spawn(async move {
            loop {
                let answered = match listener.accept().await {
                    Ok((mut guest, _)) => {
                        // Damaged settings are reported where the user reads them.
                        let config = Config::load(&home).unwrap_or_default();
                        // All of it fits the socket's buffer and the guest reads immediately, so the write does not
                        // block.
                        let written = guest.write_all(text(&config).as_bytes()).await;
                        written.map(|()| config)
                    }
                    Err(error) => Err(error),
                };
                match answered {
                    Ok(config) => InEffect::update(&in_effect, |record| {
                        record.record(&keys::CONFIG, &config, |name, _| SETTINGS.contains(&name));
                    }),
                    Err(error) => {
                        tracing::warn!("cannot send the guest its proxies: {error}");
                        return;
                    }
                }
            }
        })))
    }
}

/// The environment as the guest reads it; empty without a proxy.
fn text(config: &Config) -> String {
    let variables = Proxies::of_user(&config.proxy).for_guest();
    let text = environment::text(variables.iter().map(|(name, value)| (*name, value.as_str())));
    if text.len() > environment::MAX_TEXT {
        tracing::warn!("the guest gets no proxies: those of the settings or the environment are too long");
        return String::new();
    }
    text
}
