//! Opening at login: off until the user turns it on, in the tray or through the command `open_at_login`.

use tauri::{AppHandle, plugin::TauriPlugin};
use tauri_plugin_autostart::ManagerExt;

/// With this argument the application starts with its tray only, without a window.
pub(crate) const HIDDEN: &str = "--hidden";

pub(crate) fn plugin() -> TauriPlugin<tauri::Wry> {
    tauri_plugin_autostart::Builder::new().app_name("Rorqual").arg(HIDDEN).build()
}

/// Whether opening at login is on.
pub(crate) fn is_on(app: &AppHandle) -> bool {
    // An unreadable setting counts as off.
    app.autolaunch().is_enabled().unwrap_or(false)
}

/// Turns opening at login on or off.
pub(crate) fn set(app: &AppHandle, on: bool) -> Result<(), tauri_plugin_autostart::Error> {
    let login = app.autolaunch();
    if on { login.enable() } else { login.disable() }
}

/// Toggles opening at login.
pub(crate) fn switch(app: &AppHandle) {
    if let Err(error) = set(app, !is_on(app)) {
        crate::notification::show(app, "Could not change opening at login", &error.to_string(), None);
    }
}
