//! The desktop's side of a tray icon: a StatusNotifierWatcher where the icon announces itself, and its menu, read and
//! clicked by the dbusmenu protocol as a panel does it.

#![expect(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "the interface has these signatures, and zbus calls them"
)]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, bail};
use rorqual_tests::eventually_ok;
use tokio::runtime::{Builder, Runtime};
use zbus::{
    Connection, OwnedObjectPath, OwnedVariant, Proxy, Structure, Variant, connection,
    fdo::{self, DBusProxy},
    interface,
    message::Header,
    names::BusName,
};

const WATCHER: &str = "org.kde.StatusNotifierWatcher";

/// An icon: its owner and its path.
type Icon = (String, String);

/// A host for tray icons until dropped.
#[derive(Debug)]
pub struct Tray {
    // Serves the bus while a test does something else.
    runtime: Runtime,
    connection: Connection,
    icons: Arc<Mutex<Vec<Icon>>>,
}

struct Watcher(Arc<Mutex<Vec<Icon>>>);

#[interface(name = "org.kde.StatusNotifierWatcher")]
impl Watcher {
    /// `service` is a path on the caller's connection, or the caller's bus name.
    #[zbus(name = "RegisterStatusNotifierItem")]
    fn register_item(&self, service: &str, #[zbus(header)] header: Header<'_>) {
        let Some(sender) = header.sender() else { return };
        let path = if service.starts_with('/') { service } else { "/StatusNotifierItem" };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((sender.to_string(), path.to_owned()));
    }

    #[zbus(property, name = "IsStatusNotifierHostRegistered")]
    fn is_host_registered(&self) -> bool {
        true
    }

    #[zbus(property, name = "ProtocolVersion")]
    fn protocol_version(&self) -> i32 {
        0
    }
}

/// A menu item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    id: i32,
    /// The labels leading to it, outermost first.
    pub path: Vec<String>,
}

impl Tray {
    /// Starts hosting icons.
    pub fn open() -> Result<Self> {
        let icons = Arc::<Mutex<Vec<Icon>>>::default();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let watcher = Watcher(Arc::clone(&icons));
        let connection = runtime.block_on(async {
            connection::Builder::session().serve_at("/StatusNotifierWatcher", watcher).name(WATCHER).build().await
        });
        Ok(Self { runtime, connection: connection.context("no session bus: run this by make test-window")?, icons })
    }

    /// The lines of the application's menu.
    pub fn menu(&self) -> Result<Vec<Line>> {
        let (_revision, root): (u32, Layout) = self.runtime.block_on(async {
            let menu = self.menu_proxy().await?;
            let reply = menu.call_method("GetLayout", &(0_i32, -1_i32, Vec::<&str>::new())).await?;
            anyhow::Ok(reply.body().deserialize()?)
        })?;
        let mut lines = Vec::new();
        collect(&root, &[], &mut lines)?;
        Ok(lines)
    }

    /// Waits for the line `path` and clicks it.
    pub fn click(&self, path: &[&str]) -> Result<()> {
        let line = self.line(path)?;
        let event = (line.id, "clicked", Variant::from(0_i32), 0_u32);
        self.runtime.block_on(async {
            self.menu_proxy().await?.call_method("Event", &event).await?;
            Ok(())
        })
    }

    /// Waits for the line `path`.
    pub fn line(&self, path: &[&str]) -> Result<Line> {
        eventually_ok(&format!("the tray's menu has {path:?}"), || {
            let lines = self.menu()?;
            match lines.iter().find(|line| line.path == path) {
                Some(line) => Ok(line.clone()),
                None => bail!("it has {:?}", lines.iter().map(|line| line.path.join(" / ")).collect::<Vec<_>>()),
            }
        })
    }

    async fn menu_proxy(&self) -> Result<Proxy<'static>> {
        let icon = self.icons.lock().unwrap_or_else(PoisonError::into_inner).last().cloned();
        let (owner, path) = icon.context("no icon is in the tray")?;
        let icon = Proxy::new(&self.connection, owner.clone(), path, "org.kde.StatusNotifierItem").await?;
        let menu: OwnedObjectPath = icon.get_property("Menu").await?;
        Ok(Proxy::new(&self.connection, owner, menu, "com.canonical.dbusmenu").await?)
    }
}

/// An item of the protocol: identifier, properties, items below.
type Layout = (i32, HashMap<String, OwnedVariant>, Vec<OwnedVariant>);

fn collect((id, properties, below): &Layout, above: &[String], lines: &mut Vec<Line>) -> Result<()> {
    let mut path = above.to_vec();
    if let Some(label) = properties.get("label") {
        // A doubled underscore is one; a single one marks a key.
        path.push(<&str>::try_from(label)?.replace("__", "\u{0}").replace('_', "").replace('\u{0}', "_"));
        lines.push(Line { id: *id, path: path.clone() });
    }
    for item in below {
        let layout = Layout::try_from(Structure::try_from(item.try_clone()?)?)?;
        collect(&layout, &path, lines)?;
    }
    Ok(())
}

/// The process that has `name` on the session bus, if one has.
pub fn owner_process(name: &str) -> Result<Option<i32>> {
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let connection = Connection::session().await?;
        let bus = DBusProxy::new(&connection).await?;
        match bus.get_connection_unix_process_id(BusName::try_from(name)?).await {
            Ok(process) => Ok(Some(i32::try_from(process)?)),
            Err(fdo::Error::NameHasNoOwner(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
}
