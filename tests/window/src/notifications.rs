//! The desktop's side of notifications: receives and clicks them (the Desktop Notifications specification).

#![expect(
    clippy::unused_self,
    clippy::used_underscore_binding,
    reason = "the interface has these signatures, and zbus calls them"
)]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, bail};
use rorqual_tests::eventually_ok;
use tokio::runtime::{Builder, Runtime};
use zbus::{Connection, OwnedVariant, connection, interface};

const PATH: &str = "/org/freedesktop/Notifications";
const INTERFACE: &str = "org.freedesktop.Notifications";

/// The titles shown; a notification's number is its position, from 1.
type Shown = Arc<Mutex<Vec<String>>>;

/// Receives notifications until dropped.
#[derive(Debug)]
pub struct Notifications {
    // Serves the bus while a test does something else.
    runtime: Runtime,
    connection: Connection,
    shown: Shown,
}

struct Server(Shown);

#[interface(name = "org.freedesktop.Notifications")]
impl Server {
    #[expect(clippy::too_many_arguments, reason = "the specification's")]
    fn notify(
        &self,
        _application: &str,
        _replaces: u32,
        _icon: &str,
        title: &str,
        _body: &str,
        _actions: Vec<String>,
        _hints: HashMap<String, OwnedVariant>,
        _timeout: i32,
    ) -> u32 {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shown.push(title.to_owned());
        u32::try_from(shown.len()).unwrap_or(u32::MAX)
    }

    fn get_capabilities(&self) -> Vec<String> {
        ["actions", "body", "body-markup"].map(str::to_owned).to_vec()
    }

    fn get_server_information(&self) -> (String, String, String, String) {
        ("test".to_owned(), "Rorqual".to_owned(), "1".to_owned(), "1.2".to_owned())
    }

    fn close_notification(&self, _id: u32) {}
}

impl Notifications {
    /// Starts receiving notifications.
    pub fn open() -> Result<Self> {
        let shown = Shown::default();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let server = Server(Arc::clone(&shown));
        let connection = runtime
            .block_on(async { connection::Builder::session().serve_at(PATH, server).name(INTERFACE).build().await })
            .context("no session bus: run this by make test-window")?;
        Ok(Self { runtime, connection, shown })
    }

    /// All titles so far.
    pub fn titles(&self) -> Vec<String> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for one titled `title` and clicks it.
    pub fn click(&self, title: &str) -> Result<()> {
        let place = eventually_ok(&format!("a notification {title:?}"), || {
            let titles = self.titles();
            match titles.iter().position(|shown| shown == title) {
                Some(place) => Ok(place),
                None => bail!("there are {titles:?}"),
            }
        })?;
        let click = (u32::try_from(place)? + 1, "default");
        self.runtime.block_on(self.connection.emit_signal(None::<&str>, PATH, INTERFACE, "ActionInvoked", &click))?;
        Ok(())
    }
}
