//! Whether the desktop has a place for tray icons (the StatusNotifierItem specification). GNOME without its extension
//! has none.

use zbus::{Connection, fdo::DBusProxy, names::BusName};

const WATCHER: &str = "org.kde.StatusNotifierWatcher";

/// Whether a tray icon is visible.
pub(crate) async fn has_host() -> bool {
    asked().await.unwrap_or(false)
}

async fn asked() -> zbus::Result<bool> {
    let session = Connection::session().await?;
    let bus = DBusProxy::new(&session).await?;
    Ok(bus.name_has_owner(BusName::try_from(WATCHER)?).await?)
}
